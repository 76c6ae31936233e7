//! `leasehold lease`: the right to render, by hand.

use super::{ClientFlags, Ending, Session, shell_word};
use crate::{
    exit::Failure,
    output::Rows,
    quantity::{duration, rough},
    shape::{self, PageShape, PauseShape, RegenerationShape},
};
use clap::{Args, Subcommand};
use leasehold_client::{
    Acquire, AcquireOptions, ConsistencyToken, CurrentPage, Lease, Page, Release, Renewal, RequestId,
};
use serde::Serialize;
use std::{fmt::Write as _, time::Duration};

pub(crate) const JSON: &str = "\
JSON of acquire, durations in ms:
  {outcome: granted|ready|held|backing_off|ended,
   lease: {request_id, generation, remaining_ms, renewable_for_ms, html_object,
           sidecar_object, sidecar_token} | null,
   page: as in lookup, the one that is ready or else the previous one | null,
   regeneration: {owner, generation, remaining_ms} | null,
   backoff: {remaining_ms, failures, reason} | null}
JSON of renew: {outcome: renewed|lost, remaining_ms, renewable_for_ms}
JSON of release and fail: {outcome: released|not_held}
Exits with 3 when the lease is not granted, or not held any more.";

const SEE: &str = "JSON: leasehold lease --help. Exit codes: leasehold --help";

#[derive(Args, Clone, Debug)]
pub(crate) struct LeaseFlags {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    pub(super) client: ClientFlags,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Ask for the lease; prints the request id, which the other commands take. It is a secret: who has it
    /// can commit
    #[command(after_help = SEE)]
    Acquire(AcquireFlags),
    /// Ask for more time
    #[command(after_help = SEE)]
    Renew(RenewFlags),
    /// Give it back: it was not needed
    #[command(after_help = SEE)]
    Release(ReleaseFlags),
    /// Give it back after a failed render: nobody is granted it for a while
    #[command(after_help = SEE)]
    Fail(FailFlags),
}

#[derive(Args, Clone, Debug)]
struct AcquireFlags {
    /// The entry's key
    key: String,
    /// Who renders, for people. Without it, this user and host
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// How long the lease is to last. Without it, the coordinator's default
    #[arg(long, value_name = "DURATION", value_parser = any_duration())]
    ttl: Option<Duration>,
    #[command(flatten)]
    wait: WaitFlag,
    /// The page's URL path: an invalidation of a prefix of it overtakes the lease
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Take the invalidation into account that answered with this consistency token
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

/// How long to wait for another.
#[derive(Args, Clone, Debug)]
pub(super) struct WaitFlag {
    /// Wait so long for the page or the lease when another renders, as far as the coordinator's --max-wait allows. Without
    /// it, not at all
    #[arg(long, value_name = "DURATION", value_parser = any_duration())]
    wait: Option<Duration>,
}

#[derive(Args, Clone, Debug)]
struct RenewFlags {
    /// The entry's key
    key: String,
    #[command(flatten)]
    lease: HeldFlags,
    /// How long it is to last from now. Without it, the coordinator's default
    #[arg(long, value_name = "DURATION", value_parser = any_duration())]
    ttl: Option<Duration>,
}

#[derive(Args, Clone, Debug)]
struct ReleaseFlags {
    /// The entry's key
    key: String,
    #[command(flatten)]
    lease: HeldFlags,
}

#[derive(Args, Clone, Debug)]
struct FailFlags {
    /// The entry's key
    key: String,
    #[command(flatten)]
    lease: HeldFlags,
    /// Why the render failed. Operators see it: no secrets
    #[arg(long, value_name = "TEXT", default_value = "unspecified")]
    reason: String,
}

/// A lease that `lease acquire` was granted.
#[derive(Args, Clone, Debug)]
struct HeldFlags {
    /// As printed by `lease acquire`
    #[arg(long, env = "LEASEHOLD_REQUEST_ID", hide_env_values = true, value_name = "HEX",
        value_parser = request_id)]
    request_id: RequestId,
    /// As printed by `lease acquire`
    #[arg(long, value_name = "NUMBER")]
    generation: u64,
}

/// What `lease acquire` answers; and `commit`, where the lease is not granted.
#[derive(Debug, Serialize)]
pub(super) struct AcquireShape {
    pub(super) outcome: &'static str,
    lease: Option<LeaseShape>,
    #[serde(flatten)]
    pub(super) why: WhyNot,
}

/// Why a lease was not granted.
#[derive(Debug, Default, Serialize)]
pub(super) struct WhyNot {
    page: Option<PageShape>,
    regeneration: Option<RegenerationShape>,
    backoff: Option<PauseShape>,
}

#[derive(Debug, Serialize)]
struct LeaseShape {
    /// In hex. The one place where it is shown.
    request_id: String,
    generation: u64,
    remaining_ms: u64,
    renewable_for_ms: u64,
    html_object: String,
    sidecar_object: String,
    sidecar_token: Option<String>,
}

#[derive(Debug, Serialize)]
struct RenewShape {
    outcome: &'static str,
    remaining_ms: Option<u64>,
    renewable_for_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct ReleaseShape {
    outcome: &'static str,
}

/// Durations whose limits are the coordinator's to judge.
pub(super) fn any_duration() -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    duration(Duration::ZERO, Duration::from_secs(3650 * 24 * 3600))
}

pub(super) fn request_id(text: &str) -> Result<RequestId, String> {
    let mut bytes = [0; 16];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| {
        "is no request id; allowed: the 32 hex digits that `lease acquire` printed".to_owned()
    })?;
    Ok(RequestId::from_bytes(bytes))
}

impl WaitFlag {
    pub(super) fn get(&self) -> Duration {
        self.wait.unwrap_or_default()
    }
}

impl LeaseFlags {
    pub(super) async fn run(self, session: &Session) -> Result<Ending, Failure> {
        match self.what {
            What::Acquire(flags) => acquire(session, flags).await,
            What::Renew(RenewFlags { key, lease, ttl }) => {
                renew(session, &lease.adopt(session, &key), ttl).await
            }
            What::Release(ReleaseFlags { key, lease }) => {
                let released = lease.adopt(session, &key).release().await;
                give_back(session, released.map_err(|error| session.failed(&error))?)
            }
            What::Fail(FailFlags { key, lease, reason }) => {
                let released = lease.adopt(session, &key).fail(&reason).await;
                give_back(session, released.map_err(|error| session.failed(&error))?)
            }
        }
    }
}

impl HeldFlags {
    fn adopt(&self, session: &Session, key: &str) -> Lease {
        session.coordinator.adopt_lease(session.entry(key), self.request_id, self.generation)
    }
}

async fn acquire(session: &Session, flags: AcquireFlags) -> Result<Ending, Failure> {
    let AcquireFlags { key, owner, ttl, wait, path, token } = flags;
    let entry = session.entry(&key).path(path.unwrap_or_default());
    let options = AcquireOptions {
        ttl,
        wait: wait.get(),
        consistency_token: token.map(ConsistencyToken::new),
        owner,
        ..AcquireOptions::default()
    };
    let acquired =
        session.coordinator.acquire(&entry, &options).await.map_err(|error| session.failed(&error))?;
    let shape = AcquireShape::from(&acquired);
    session.output.result(&shape, || match &shape.lease {
        Some(lease) => lease.text(session, &key),
        None => why_not_text(&acquired, options.wait),
    })?;
    Ok(if shape.lease.is_some() { Ending::Done } else { Ending::NotReached })
}

async fn renew(session: &Session, lease: &Lease, ttl: Option<Duration>) -> Result<Ending, Failure> {
    let renewed = lease.renew(ttl).await.map_err(|error| session.failed(&error))?;
    let (shape, ending) = match renewed {
        Renewal::Renewed { .. } => {
            let remaining_ms = Some(shape::millis(lease.remaining()));
            let renewable_for_ms = Some(shape::millis(lease.renewable_for()));
            (RenewShape { outcome: "renewed", remaining_ms, renewable_for_ms }, Ending::Done)
        }
        Renewal::Lost => {
            (RenewShape { outcome: "lost", remaining_ms: None, renewable_for_ms: None }, Ending::NotReached)
        }
    };
    session.output.result(&shape, || match ending {
        Ending::Done => {
            format!(
                "renewed for {}, renewable for {}",
                rough(lease.remaining()),
                rough(lease.renewable_for())
            )
        }
        _ => "lost: another was granted the lease since, or it was ended or held as long as one may be"
            .to_owned(),
    })?;
    Ok(ending)
}

fn give_back(session: &Session, release: Release) -> Result<Ending, Failure> {
    let (outcome, text, ending) = match release {
        Release::Released => ("released", "released", Ending::Done),
        Release::NotHeld => (
            "not_held",
            "not held: another was granted the lease since, or it was ended; nothing changed",
            Ending::NotReached,
        ),
    };
    session.output.result(&ReleaseShape { outcome }, || text.to_owned())?;
    Ok(ending)
}

impl From<&Acquire> for AcquireShape {
    fn from(acquired: &Acquire) -> Self {
        let page = |page: &Page| Some(PageShape::from(page));
        let (outcome, lease, why) = match acquired {
            Acquire::Granted(lease) => {
                let previous = lease.previous().and_then(|stale| page(&stale.page));
                ("granted", Some(LeaseShape::from(lease)), WhyNot { page: previous, ..WhyNot::default() })
            }
            Acquire::Ready(current) => {
                ("ready", None, WhyNot { page: page(current.page()), ..WhyNot::default() })
            }
            Acquire::Held(held) => {
                let previous = held.previous.as_ref().and_then(|stale| page(&stale.page));
                let regeneration = Some(RegenerationShape::from(&held.regeneration));
                ("held", None, WhyNot { page: previous, regeneration, backoff: None })
            }
            Acquire::BackingOff(pause) => {
                let previous = pause.previous.as_ref().and_then(|stale| page(&stale.page));
                let backoff = Some(PauseShape::from(pause));
                ("backing_off", None, WhyNot { page: previous, regeneration: None, backoff })
            }
            Acquire::Ended => ("ended", None, WhyNot::default()),
        };
        Self { outcome, lease, why }
    }
}

impl From<&Lease> for LeaseShape {
    fn from(lease: &Lease) -> Self {
        Self {
            request_id: hex::encode(lease.request_id().expose()),
            generation: lease.generation(),
            remaining_ms: shape::millis(lease.remaining()),
            renewable_for_ms: shape::millis(lease.renewable_for()),
            html_object: lease.html_object().to_owned(),
            sidecar_object: lease.sidecar_object().to_owned(),
            sidecar_token: lease.sidecar_token().map(|token| token.as_str().to_owned()),
        }
    }
}

impl LeaseShape {
    fn text(&self, session: &Session, key: &str) -> String {
        let Self { request_id, generation, .. } = self;
        let span = |millis| rough(Duration::from_millis(millis));
        let mut rows = Rows::default();
        rows.add("outcome", format!("granted for {}", span(self.remaining_ms)))
            .add("renewable", format!("for {}", span(self.renewable_for_ms)))
            .add("generation", generation.to_string())
            .add("request id", format!("{request_id} (a secret: who has it can commit)"))
            .add("html", self.html_object.clone())
            .add("sidecar", self.sidecar_object.clone())
            .add_some("token", self.sidecar_token.clone());
        let mut text = rows.text();
        // Its lease is what the other commands are about, so they are worth having at hand.
        let held = format!("--request-id {request_id} --generation {generation}");
        let (key, same) = (shell_word(key), session.same_place());
        let _ = write!(text, "next        leasehold commit {key} --html FILE {held}{same}");
        text
    }
}

/// Why a lease was not granted, and what to do, for people.
pub(super) fn why_not_text(acquired: &Acquire, waited: Duration) -> String {
    match acquired {
        Acquire::Granted(_) => "granted".to_owned(),
        Acquire::Ready(CurrentPage::Fresh(fresh)) => {
            let until = match fresh.fresh_for {
                Some(span) => format!("for {}", rough(span)),
                None => "until invalidated".to_owned(),
            };
            format!("ready: the page is fresh {until}; to render it before that, invalidate its key first")
        }
        Acquire::Ready(CurrentPage::Stale(_)) => "ready: another has just rendered the page".to_owned(),
        Acquire::Held(held) => {
            let (owner, left) = (&held.regeneration.owner, rough(held.regeneration.remaining));
            let advice = match waited.is_zero() {
                true => "wait for it with --wait",
                false => "the wait is over, or as long as the coordinator's --max-wait allows: try again",
            };
            format!("held by {owner} for up to {left}; {advice}")
        }
        Acquire::BackingOff(pause) => format!(
            "backing off for {} after {} in a row; the last one: {}",
            rough(pause.remaining),
            failures(pause.failures),
            pause.reason
        ),
        Acquire::Ended => "ended: this lease was committed or released before".to_owned(),
    }
}

/// So many failures, in words.
pub(super) fn failures(number: u32) -> String {
    if number == 1 { "1 failed render".to_owned() } else { format!("{number} failed renders") }
}
