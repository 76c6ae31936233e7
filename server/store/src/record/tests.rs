use super::*;
use proptest::{collection::vec, option, prelude::*};

fn text(limit: usize) -> impl Strategy<Value = String> {
    // What every name accepts, with what tends to be mangled: separators, quotes, wildcards, several scripts.
    vec(
        prop_oneof![
            Just('a'),
            Just('Z'),
            Just('0'),
            Just('/'),
            Just('#'),
            Just(':'),
            Just('?'),
            Just('%'),
            Just('_'),
            Just('\''),
            Just('"'),
            Just('é'),
            Just('日'),
            Just('🦀'),
            any::<char>().prop_filter("white", |c| { !c.is_control() && !c.is_whitespace() }),
        ],
        1..limit,
    )
    .prop_map(|chars| chars.into_iter().collect())
}

prop_compose! {
    fn identity()(
        tenant in text(20), deployment in option::of(text(20)), key in text(60),
    ) -> EntryId {
        EntryId {
            tenant: TenantId::parse(&tenant).unwrap(),
            deployment: deployment.map(|deployment| DeploymentId::parse(&deployment).unwrap()),
            key: EntryKey::parse(&key).unwrap(),
        }
    }
}

prop_compose! {
    fn body()(name in "[a-z0-9]{1,40}(/[a-z0-9.-]{3,40}){0,3}", digest in any::<[u8; 32]>(), size_bytes: u64) -> BodyRef {
        BodyRef { object: ObjectName::parse(&name).unwrap(), digest: Digest(digest), size_bytes }
    }
}

fn path() -> impl Strategy<Value = PagePath> {
    text(30).prop_map(|text| PagePath::parse(&format!("/{text}")).unwrap())
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp::from_millis)
}

prop_compose! {
    fn page()(
        status in 200u16..500, content_type in any::<String>(), headers in vec(any::<(String, String)>(), 0..4),
        etag in any::<String>(), windows in any::<[Option<Duration>; 4]>(), tags in vec(text(30), 0..5),
        path in option::of(path()),
    ) -> PageMeta {
        let [revalidate, stale_while_revalidate, stale_if_error, render_time] = windows;
        PageMeta {
            status: PageStatus::new(status).unwrap(), content_type, headers, etag, revalidate, stale_while_revalidate,
            stale_if_error, tags: tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect(), path, render_time,
        }
    }
}

prop_compose! {
    fn pointer()(
        generation: u64, token: u128, html in body(), sidecar in option::of(body()), meta in page(),
        generated_at in timestamp(), committed_at in timestamp(), seen: u64, gone: bool,
    ) -> Pointer {
        Pointer {
            generation: Generation(generation), token: LeaseToken::from_bits(token), html, sidecar, meta, generated_at,
            committed_at, seen: Seq(seen), gone,
        }
    }
}

prop_compose! {
    fn lease()(
        generation: u64, token: u128, owner in text(40), granted_at in timestamp(), expires_at in timestamp(),
        ttl: Duration, hold_until in timestamp(), seen: u64, repeated: bool,
    ) -> Lease {
        Lease {
            generation: Generation(generation), token: LeaseToken::from_bits(token),
            owner: Owner::parse(&owner).unwrap(), granted_at, expires_at, ttl, hold_until,
            seen: Seq(seen), repeated,
        }
    }
}

prop_compose! {
    fn entry()(
        version: u128, generation: u64, pointer in option::of(pointer()), lease in option::of(lease()),
        released in any::<Option<(u64, u128)>>(),
        backoff in option::of((any::<u32>(), timestamp(), timestamp(), any::<String>())),
    ) -> Entry {
        Entry {
            version: Version(version), generation: Generation(generation), pointer, lease,
            released: released.map(|(generation, token)| Released {
                generation: Generation(generation), token: LeaseToken::from_bits(token),
            }),
            backoff: backoff.map(|(failures, not_before, failed_at, reason)| Backoff {
                failures, not_before, failed_at, reason,
            }),
        }
    }
}

fn scope() -> impl Strategy<Value = Scope> {
    let tenant = || text(20).prop_map(|tenant| TenantId::parse(&tenant).unwrap());
    prop_oneof![
        Just(Scope::Everything),
        tenant().prop_map(Scope::Tenant),
        (tenant(), text(20)).prop_map(|(t, name)| Scope::Deployment(t, DeploymentId::parse(&name).unwrap())),
        (tenant(), path()).prop_map(|(t, path)| Scope::PathPrefix(t, path)),
        (tenant(), text(20)).prop_map(|(t, name)| Scope::Tag(t, Tag::parse(&name).unwrap())),
        (tenant(), text(20)).prop_map(|(t, name)| Scope::Key(t, EntryKey::parse(&name).unwrap())),
    ]
}

prop_compose! {
    fn invalidation()(id: u128, scopes in vec(scope(), 0..5), hard: bool) -> Invalidation {
        Invalidation { id: RequestId(id), scopes, depth: if hard { Depth::Hard } else { Depth::Soft } }
    }
}

prop_compose! {
    fn event()(
        seq: u64, id: u128, at in timestamp(), forget_after in timestamp(), invalidations in vec(invalidation(), 0..4),
    ) -> LogEvent {
        LogEvent { seq: Seq(seq), id: RequestId(id), at, forget_after, invalidations }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_entry_decodes_to_itself(id in identity(), entry in entry()) {
        let record = encode_entry(&id, &entry);
        prop_assert_eq!(decode_entry(&id, &record), Ok(entry.clone()));
        prop_assert_eq!(identity_of_entry(&record), Ok(id.clone()));
        prop_assert_eq!(decode_any_entry(&record), Ok((id.clone(), entry)));
        // Whose it is can be told also where the rest is of no use: a field given again, with a version of one byte.
        let damaged = [record, wire::Entry { version: vec![7], ..Default::default() }.encode_to_vec()].concat();
        prop_assert!(decode_any_entry(&damaged).is_err());
        prop_assert_eq!(identity_of_entry(&damaged), Ok(id));
    }

    #[test]
    fn an_entry_is_not_read_under_another_identity(id in identity(), other in identity(), entry in entry()) {
        prop_assume!(id != other);
        prop_assert_eq!(decode_entry(&other, &encode_entry(&id, &entry)), Err(InvalidRecord::OtherIdentity));
    }

    #[test]
    fn every_event_decodes_to_itself(event in event()) {
        prop_assert_eq!(decode_event(&encode_event(&event)), Ok(event));
    }

    #[test]
    fn all_metadata_decodes_to_itself(content_type: String, attributes: Vec<(String, String)>) {
        let meta = ObjectMeta { content_type, attributes };
        prop_assert_eq!(decode_meta(&encode_meta(&meta)), Ok(meta));
    }

    #[test]
    fn arbitrary_bytes_never_panic(id in identity(), record: Vec<u8>) {
        let _ = (decode_entry(&id, &record), decode_any_entry(&record), decode_event(&record), decode_meta(&record));
    }

    /// Bytes that are nearly a record reach deeper than arbitrary ones do.
    #[test]
    fn damaged_records_never_panic(
        id in identity(), entry in entry(), event in event(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index,
    ) {
        for mut record in [encode_entry(&id, &entry), encode_event(&event)] {
            let position = at.index(record.len());
            record[position] = byte;
            record.truncate(cut.index(record.len()) + 1);
            let _ = (decode_entry(&id, &record), decode_event(&record), decode_meta(&record));
        }
    }
}

fn stored() -> wire::Entry {
    wire::Entry {
        format: FORMAT,
        id: Some(wire::Identity { tenant: "t".into(), deployment: None, key: "k".into() }),
        version: vec![0; 16],
        generation: 1,
        pointer: Some(wire::Pointer {
            token: vec![0; 16],
            html: Some(wire::Body { object: "o".into(), digest: vec![0; 32], size_bytes: 0 }),
            status: 200,
            path: Some("/a".into()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn id() -> EntryId {
    EntryId { tenant: TenantId::parse("t").unwrap(), deployment: None, key: EntryKey::parse("k").unwrap() }
}

#[test]
fn what_a_type_refuses_is_refused_naming_the_field() {
    type Damage = fn(&mut wire::Entry);
    assert!(decode_entry(&id(), &stored().encode_to_vec()).is_ok());
    let damages: [(&str, Damage); 9] = [
        ("id", |entry| entry.id = None),
        ("id.tenant", |entry| entry.id.as_mut().unwrap().tenant = " ".into()),
        ("version", |entry| entry.version = vec![0; 15]),
        ("pointer.html", |entry| entry.pointer.as_mut().unwrap().html = None),
        ("pointer.html", |entry| entry.pointer.as_mut().unwrap().html.as_mut().unwrap().digest = vec![]),
        ("pointer.status", |entry| entry.pointer.as_mut().unwrap().status = 500),
        ("pointer.path", |entry| entry.pointer.as_mut().unwrap().path = Some("/a/".into())),
        ("pointer.tags", |entry| entry.pointer.as_mut().unwrap().tags = vec!["".into()]),
        ("pointer.revalidate", |entry| {
            entry.pointer.as_mut().unwrap().revalidate =
                Some(wire::Span { seconds: 0, nanos: 1_000_000_000 });
        }),
    ];
    for (field, damage) in damages {
        let mut entry = stored();
        damage(&mut entry);
        match decode_entry(&id(), &entry.encode_to_vec()) {
            Err(InvalidRecord::Field { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{field}: {other:?}"),
        }
    }
}

#[test]
fn records_without_a_format_or_of_a_newer_one_are_refused() {
    for found in [0, FORMAT + 1] {
        let record = wire::Entry { format: found, ..stored() }.encode_to_vec();
        assert_eq!(decode_entry(&id(), &record), Err(InvalidRecord::Format { found }));
    }
    assert_eq!(decode_event(&[]), Err(InvalidRecord::Format { found: 0 }));
    assert_eq!(decode_meta(&[]), Err(InvalidRecord::Format { found: 0 }));
}

#[test]
fn a_scope_of_a_newer_kind_is_refused_rather_than_skipped() {
    let mut event = wire::Event {
        format: FORMAT,
        seq: 1,
        id: vec![0; 16],
        at: 0,
        forget_after: 0,
        invalidations: vec![wire::Invalidation {
            id: vec![0; 16],
            depth: 1,
            scopes: vec![wire::Scope { kind: None }],
        }],
    };
    assert!(matches!(decode_event(&event.encode_to_vec()), Err(InvalidRecord::Field { .. })));
    event.invalidations[0].scopes.clear();
    event.invalidations[0].depth = 7;
    assert!(matches!(decode_event(&event.encode_to_vec()), Err(InvalidRecord::Field { .. })));
}
