//! What table and bucket hold when all is over, read past the system.

use leasehold_aws::testing::Doubles;
use leasehold_checker::history::{Attempt, Body, Identity, Need, Row};
use leasehold_core::{
    entry::{Entry, Lease},
    identity::{EntryId, TenantId},
    named::{NamedObject, ORIGIN_ATTRIBUTE, Origin},
    object::{ObjectName, ObjectPrefix, PageObjects, names_for},
    page::BodyRef,
};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// The pages that rows name.
///
/// # Panics
/// When a row does not decode, or is of an entry that nobody asked for.
pub fn rows(doubles: &Doubles, entries: &[Identity]) -> Vec<Row> {
    let body = |tenant: &TenantId, body: &BodyRef| Body {
        object: body.object.to_string(),
        given: NamedObject::of(&body.object)
            .filter(|named| named.is_of(tenant))
            .map(|named| named.given().to_string()),
        bytes: body_of(doubles, &body.object).map(|bytes| hex::encode(Sha256::digest(bytes))),
    };
    let rows = doubles.entries().into_iter().filter_map(|(id, entry)| Some((id, entry.pointer?)));
    rows.map(|(id, pointer)| Row {
        entry: entries.iter().position(|identity| is_of(identity, &id)).expect("an entry that was asked for"),
        generation: pointer.generation.0,
        html: body(&id.tenant, &pointer.html),
        sidecar: pointer.sidecar.as_ref().map(|sidecar| body(&id.tenant, sidecar)),
    })
    .collect()
}

/// All objects, and who needs them.
///
/// # Panics
/// As [`rows`].
pub fn objects(doubles: &Doubles, prefix: &ObjectPrefix) -> BTreeMap<String, Need> {
    let bucket = Doubles::settings().bucket;
    let mut objects: BTreeMap<_, _> =
        doubles.s3.names(&bucket).into_iter().map(|name| (name, Need::Nobody)).collect();
    let origins: Vec<_> = objects.keys().filter_map(|name| origin_of(doubles, name)).collect();
    for (id, Entry { pointer, lease, .. }) in doubles.entries() {
        let leased = lease.iter().flat_map(|lease| {
            let PageObjects { html, sidecar } = names_for(prefix, &id, lease);
            let given = origins.iter().filter(|(_, origin)| is_under(origin, &id, lease));
            [html, sidecar].into_iter().chain(given.map(|(name, _)| name.clone()))
        });
        let named = pointer.iter().flat_map(|pointer| pointer.objects());
        let needed =
            leased.map(|name| (name, Need::Leased)).chain(named.map(|name| (name.clone(), Need::Named)));
        for (name, need) in needed {
            if let Some(needed) = objects.get_mut(name.as_str()) {
                *needed = need;
            }
        }
    }
    objects
}

/// The request ids of all invalidations in the log.
///
/// # Panics
/// When an event does not decode.
pub fn invalidations(doubles: &Doubles) -> Vec<Attempt> {
    doubles.events().into_iter().flat_map(|event| event.invalidations).map(|one| one.id.0).collect()
}

/// What is written on an object that its worker named.
fn origin_of(doubles: &Doubles, name: &str) -> Option<(ObjectName, Origin)> {
    let name = ObjectName::parse_stored(name).ok()?;
    let written = doubles.s3.attribute(&Doubles::settings().bucket, &name, ORIGIN_ATTRIBUTE)?;
    Some((name, Origin::parse(&written).expect("an origin that can be read")))
}

/// Whether it was stored under this lease.
fn is_under(origin: &Origin, id: &EntryId, lease: &Lease) -> bool {
    *origin == Origin::of(id, lease, origin.digest)
}

fn body_of(doubles: &Doubles, name: &ObjectName) -> Option<bytes::Bytes> {
    doubles.s3.body(&Doubles::settings().bucket, name)
}

fn is_of(identity: &Identity, id: &EntryId) -> bool {
    let deployment = id.deployment.as_ref().map(|deployment| deployment.as_str());
    (&*identity.tenant, identity.deployment.as_deref(), &*identity.key)
        == (id.tenant.as_str(), deployment, id.key.as_str())
}
