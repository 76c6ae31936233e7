//! Rows of the table, of any attributes of any type: each is refused, or is an entry that is written as a row which reads the
//! same, and which is then ours. A partition key that says whose it is says so of one entry only.

#![no_main]

use leasehold_aws::{
    Layout,
    fuzzing::{
        Row, identifies, may_be_foreign, owners, partition_key, read_head, read_row, unchanged, write_row,
    },
};
use leasehold_core::{
    identity::{DeploymentId, EntryId, EntryKey, TenantId},
    time::Timestamp,
};
use leasehold_fuzz::StoredRow;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static LAYOUTS: LazyLock<Vec<Layout>> = LazyLock::new(|| {
    let keyed = |template: &str| Layout { entry_key: template.parse().unwrap(), ..Layout::default() };
    vec![
        Layout::default(),
        Layout { s3_key_prefix: "isr/".into(), ..Layout::table_theory() },
        keyed("{tenant}#{key}"),
        keyed("{tenant}##{deployment}##{key}"),
        keyed("{key}#{key}"),
    ]
});

fuzz_target!(|data: &[u8]| {
    let Some(StoredRow { layout, tenant, deployment, key, item }) = StoredRow::read(data) else { return };
    let _ = read_head(Some(&item));
    let layout = &LAYOUTS[usize::from(layout) % LAYOUTS.len()];
    let (Ok(tenant), Ok(key)) = (TenantId::parse(&tenant), EntryKey::parse(&key)) else { return };
    let id = EntryId { tenant, deployment: DeploymentId::parse(&deployment).ok(), key };
    owner_is_told(layout, &id);

    let Ok(Row { entry, foreign }) = read_row(layout, &id, &item) else { return };
    assert!(!foreign || may_be_foreign(entry.version));
    let (condition, values) = unchanged(&item);
    assert!(values.keys().all(|value| condition.contains(value.as_str())), "{condition} {values:?}");

    let Some(written) = write_row(layout, &id, &entry, Timestamp::EPOCH) else { return };
    assert_eq!(read_row(layout, &id, &written), Ok(Row { entry, foreign: false }));
});

/// Whatever is moved from one part of an identity to another, it has another partition key, or one that says nothing.
fn owner_is_told(layout: &Layout, id: &EntryId) {
    let template = &layout.entry_key;
    let Some(pk) = partition_key(template, id) else { return };
    let (digests, complete) = owners(template, &pk);
    assert!(!complete || digests.contains(&id.digest()), "the owner of {pk} is not told");
    let _ = owners(template, id.key.as_str());
    if !identifies(template, id) {
        return;
    }
    for other in others(id) {
        if other != *id && partition_key(template, &other).as_deref() == Some(&pk) {
            assert!(!identifies(template, &other), "{pk} is of {id:?} and of {other:?}");
        }
    }
}

/// Identities that are likely to share something with this one: every way to part the text of all its parts.
fn others(id: &EntryId) -> Vec<EntryId> {
    let deployment = id.deployment.as_ref().map(|deployment| deployment.as_str());
    let mut others = Vec::new();
    for separator in ["::", "#", "##"] {
        let whole = [Some(id.tenant.as_str()), deployment, Some(id.key.as_str())];
        let whole = whole.into_iter().flatten().collect::<Vec<_>>().join(separator);
        for text in [whole.as_str(), id.key.as_str()] {
            for (at, _) in text.match_indices(separator).take(64) {
                let (tenant, rest) = (&text[..at], &text[at + separator.len()..]);
                for key in [rest, id.key.as_str(), text] {
                    if let (Ok(tenant), Ok(key)) = (TenantId::parse(tenant), EntryKey::parse(key)) {
                        others.push(EntryId { tenant, deployment: None, key });
                    }
                }
            }
            // What separates them may begin within a value.
            for at in (1..text.len()).filter(|at| text.is_char_boundary(*at)).take(64) {
                let (tenant, rest) = text.split_at(at);
                let Some(key) = rest.strip_prefix(separator) else { continue };
                if let (Ok(tenant), Ok(key)) = (TenantId::parse(tenant), EntryKey::parse(key)) {
                    others.push(EntryId { tenant, deployment: None, key });
                }
            }
        }
    }
    others
}
