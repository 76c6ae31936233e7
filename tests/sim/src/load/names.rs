//! What workers call the bodies of their pages.

use super::one_in;
use leasehold_checker::history::{EntryIndex, Names};
use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};

/// Which bodies of its pages a worker names itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habit {
    html: bool,
    sidecar: bool,
}

/// Names that were given, by those who tell each other of them past the system.
#[derive(Debug, Default)]
pub(super) struct GivenNames(Vec<GivenName>);

#[derive(Debug)]
struct GivenName {
    entry: EntryIndex,
    tenant: String,
    name: String,
    /// Of its bytes, in hex.
    digest: String,
    is_committed: bool,
}

/// The names of a page: those to be tried first, and those that are surely its own.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) first: Names,
    pub(super) own: Names,
}

const HTML: &str = ".html";
const SIDECAR: &str = ".hydration.json";

impl Habit {
    pub(super) fn any(rng: &mut StdRng) -> Self {
        let [html, sidecar] = match rng.random_range(0..6) {
            0 | 1 => [false, false],
            2 => [true, false],
            3 => [false, true],
            _ => [true, true],
        };
        Self { html, sidecar }
    }

    /// For a page of this entry and tenant, by the digests of HTML and sidecar. Mostly new ones, as FaceTheory makes them; now and then one that only another tenant has given,
    /// which is as good; and now and then one that was used before, which is not to be.
    pub(super) fn names(
        self,
        rng: &mut StdRng,
        given: &mut GivenNames,
        (entry, tenant): (EntryIndex, &str),
        (html, sidecar): (&str, Option<&str>),
    ) -> Chosen {
        let mut directory = [0; 12];
        rng.fill(&mut directory);
        let millis: u64 = rng.random_range(1_767_225_600_000..1_798_761_600_000);
        let uuid = format!("{:032x}", rng.random::<u128>());
        let uuid = [&uuid[..8], &uuid[8..12], &uuid[12..16], &uuid[16..20], &uuid[20..]].join("-");
        let stem = format!("isr/{}/{millis}-{uuid}", hex::encode(directory));
        let mut own = Names {
            html: self.html.then(|| format!("{stem}{HTML}")),
            sidecar: (self.sidecar && sidecar.is_some()).then(|| format!("{stem}{SIDECAR}")),
        };
        if one_in(rng, 10) {
            replace(&mut own, rng, |ending: &str| given.new_to(tenant, ending));
        }
        let digest_of = |ending: &str| if ending == HTML { html } else { sidecar.unwrap_or_default() };
        let mut first = own.clone();
        if one_in(rng, 10) {
            replace(&mut first, rng, |ending: &str| given.used_by(tenant, ending));
        } else if one_in(rng, 2) {
            let others = |ending: &str| given.used_elsewhere((entry, tenant), ending, digest_of(ending));
            replace(&mut first, rng, others);
        }
        for (name, ending) in [(&own.html, HTML), (&own.sidecar, SIDECAR)] {
            let Some(name) = name.clone() else { continue };
            let (tenant, digest) = (tenant.to_owned(), digest_of(ending).to_owned());
            given.0.push(GivenName { entry, tenant, name, digest, is_committed: false });
        }
        Chosen { first, own }
    }
}

impl GivenNames {
    /// A page of this tenant has these.
    pub(super) fn committed(&mut self, tenant: &str, names: &Names) {
        let names = [&names.html, &names.sidecar].into_iter().flatten();
        for name in names {
            let given = self.0.iter_mut().rev().find(|given| given.tenant == tenant && given.name == *name);
            if let Some(given) = given {
                given.is_committed = true;
            }
        }
    }

    /// One of those that were given, and its tenant: one of the last, or any.
    pub(super) fn any(&self, rng: &mut StdRng) -> Option<(String, String)> {
        let least = if one_in(rng, 4) { 0 } else { self.0.len().saturating_sub(16) };
        let GivenName { tenant, name, .. } = self.0[least..].choose(rng)?;
        Some((tenant.clone(), name.clone()))
    }

    /// Names of another tenant that this one has not given.
    fn new_to(&self, tenant: &str, ending: &str) -> Vec<String> {
        let others = self.0.iter().filter(|given| given.tenant != tenant && given.name.ends_with(ending));
        let is_new = |name: &str| self.0.iter().all(|given| given.tenant != tenant || given.name != name);
        let mut latest = others.rev().take(8).map(|given| given.name.clone()).collect::<Vec<_>>();
        latest.retain(|name| is_new(name));
        latest
    }

    /// Names that bodies of this tenant have, or had a while ago.
    fn used_by(&self, tenant: &str, ending: &str) -> Vec<String> {
        let used = self.0.iter().rev().filter(|given| given.is_committed && given.tenant == tenant);
        used.filter(|given| given.name.ends_with(ending)).take(8).map(|given| given.name.clone()).collect()
    }

    /// Names of other pages of this tenant that have the same bytes.
    fn used_elsewhere(&self, (entry, tenant): (EntryIndex, &str), ending: &str, digest: &str) -> Vec<String> {
        let used = self.0.iter().rev().filter(|given| given.is_committed && given.tenant == tenant);
        let others = used.filter(|given| given.entry != entry && given.name.ends_with(ending));
        let alike = others.filter(|given| given.digest == digest);
        alike.take(3).map(|given| given.name.clone()).collect()
    }
}

/// Calls one of the bodies otherwise, if there is anything that it can be called.
fn replace(names: &mut Names, rng: &mut StdRng, candidates: impl Fn(&str) -> Vec<String>) {
    let is_html = names.sidecar.is_none() || rng.random();
    let (name, ending) = if is_html { (&mut names.html, HTML) } else { (&mut names.sidecar, SIDECAR) };
    if let (Some(name), Some(other)) = (name, candidates(ending).choose(rng)) {
        name.clone_from(other);
    }
}
