//! Requests of any bytes, for each call: each is refused naming a field, or what it brings in is stored as what it is read as.

#![no_main]

use leasehold_core::{
    entry::{Backoff, Entry, Lease},
    identity::{EntryId, EntryKey, Generation, LeaseToken, Owner, RequestId, Seq, TenantId, Version},
    invalidation::LogEvent,
    labels::Labels,
    object::{ObjectPrefix, names_for},
    page::{BodyRef, Digest, Pointer},
    time::Timestamp,
};
use leasehold_fuzz::{Counted, protobuf, within};
use leasehold_service::{
    edge::fuzzing::{
        Accepted, Call, Headers, Parsed, Refusal, consistency_token, parse, resume_token, times,
        write_consistency_token, write_resume_token,
    },
    settings::Settings,
};
use leasehold_store::record::{decode_entry, decode_event, encode_entry, encode_event};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use std::{sync::LazyLock, time::Duration};

#[global_allocator]
static MEMORY: Counted = Counted;

static SETTINGS: LazyLock<Settings> = LazyLock::new(Settings::default);

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    protobuf::mutate(data, size, max_size, seed)
});

fuzz_target!(|data: &[u8]| {
    let Some((kind, message)) = data.split_first() else { return };
    let settings = &*SETTINGS;
    match Call::ALL.get(usize::from(*kind % 13)) {
        None => tokens(message),
        Some(call) => match within(64 * 1024 + 256 * message.len(), || parse(*call, message, settings)) {
            Parsed::NotAMessage => {}
            Parsed::Refused(refusal) => told(&refusal),
            Parsed::Accepted(accepted) => stored(*accepted),
        },
    }
});

/// Whoever is refused is told what to mend.
fn told(Refusal { code, reason, fields, header, message }: &Refusal) {
    match reason.as_str() {
        "INVALID_FIELD" => {
            let [field] = &**fields else { panic!("{fields:?} are named") };
            let is_path = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._[]".contains(c);
            assert!(!field.is_empty() && field.chars().all(is_path), "{field:?} is no field");
            assert!(
                message.starts_with(&format!("{field} ")) && message.len() > field.len() + 8,
                "{message}"
            );
            assert_eq!(*code, tonic_code::INVALID_ARGUMENT);
        }
        "TENANT_BOUNDARY" => {
            assert!(header.as_ref().is_some_and(|header| message.contains(&**header)));
            assert_eq!(*code, tonic_code::FAILED_PRECONDITION);
        }
        other => panic!("refused for {other}"),
    }
}

/// Codes of gRPC.
mod tonic_code {
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const FAILED_PRECONDITION: i32 = 9;
}

/// What is accepted can be read again once it is stored: a record that cannot would block its page, or the log, for good.
fn stored(Accepted { entry, path, owner, failure, page, invalidation }: Accepted) {
    if let Some(invalidation) = invalidation {
        let at = Timestamp::from_millis(1);
        let event = LogEvent {
            seq: Seq(1),
            id: RequestId(1),
            at,
            forget_after: at,
            invalidations: vec![invalidation],
        };
        assert_eq!(decode_event(&encode_event(&event)), Ok(event));
    }
    let Some(id) = entry else { return };
    let lease = Lease {
        generation: Generation(1),
        token: LeaseToken::from_bits(1),
        owner: owner.unwrap_or_else(|| Owner::parse("worker").unwrap()),
        granted_at: Timestamp::EPOCH,
        expires_at: Timestamp::EPOCH,
        ttl: Duration::ZERO,
        hold_until: Timestamp::EPOCH,
        seen: Seq::START,
        repeated: false,
    };
    let objects = names_for(&ObjectPrefix::default(), &id, &lease);
    let path = page.as_ref().and_then(|page| page.path.clone()).or(path);
    let pointer = page.map(|page| {
        let mut meta = page;
        meta.path = path.clone();
        if let Some(text) = Labels::encode(&meta.tags, meta.path.as_ref()) {
            let labels = Labels { tags: meta.tags.clone(), path: meta.path.clone() };
            assert_eq!(Labels::parse(&text), Some(labels));
        }
        Pointer {
            generation: Generation(1),
            token: LeaseToken::from_bits(1),
            html: BodyRef { object: objects.html, digest: Digest([1; 32]), size_bytes: 1 },
            sidecar: None,
            meta,
            generated_at: Timestamp::EPOCH,
            committed_at: Timestamp::EPOCH,
            seen: Seq::START,
            gone: false,
        }
    });
    let backoff = failure.map(|reason| Backoff {
        failures: 1,
        not_before: Timestamp::EPOCH,
        failed_at: Timestamp::EPOCH,
        reason,
    });
    let generation = Generation(1);
    let entry =
        Entry { version: Version(1), generation, pointer, lease: Some(lease), released: None, backoff };
    assert_eq!(decode_entry(&id, &encode_entry(&id, &entry)), Ok(entry));
    assert_ne!(id.digest(), EntryId { tenant: other(&id.tenant), ..id.clone() }.digest());
    assert!(EntryKey::parse(id.key.as_str()).is_ok());
    if let Some(path) = path {
        assert!(leasehold_core::identity::PagePath::parse(path.as_str()).is_ok(), "{path:?}");
    }
}

fn other(tenant: &TenantId) -> TenantId {
    let other = TenantId::parse("other").unwrap();
    if other == *tenant { TenantId::unnamed() } else { other }
}

/// Tokens and headers: what is read is what was written, and nothing else.
fn tokens(text: &[u8]) {
    let (default, wait) = (Duration::from_secs(30), Duration::from_secs(60));
    if let Some(headers) = Headers::with_timeout(text) {
        let (time, waits) = times(&headers, default, wait);
        assert!(time <= Duration::from_secs(600) && waits <= wait, "{time:?} {waits:?}");
    }
    let Ok(text) = str::from_utf8(text) else { return };
    match consistency_token(text) {
        Ok(None) => assert!(text.is_empty()),
        Ok(Some(seq)) => assert_eq!(consistency_token(&write_consistency_token(seq)), Ok(Some(seq))),
        Err(refusal) => told(&refusal),
    }
    match resume_token(text) {
        Ok(None) => assert!(text.is_empty()),
        Ok(Some((run, cursor))) => {
            assert_eq!(resume_token(&write_resume_token(run, cursor)), Ok(Some((run, cursor))));
        }
        Err(refusal) => told(&refusal),
    }
}
