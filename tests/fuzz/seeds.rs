//! Writes what the fuzz targets begin with, made of real encodings: `seeds FOLDER` makes a folder in it for each target.

// What all of it is built with calls into the fuzzer, also where nothing is fuzzed.
use libfuzzer_sys as _;

use leasehold_aws::{
    Layout,
    fuzzing::{AttributeValue, Item, write_row},
};
use leasehold_core::{
    identity::{Owner, PagePath, Seq, Tag},
    labels::Labels,
    named::{GivenName, Origin},
    object::{ObjectPrefix, SidecarToken, names_for},
    page::Digest,
};
use leasehold_fuzz::{StoredRow, join};
use leasehold_proto::v1;
use leasehold_service::edge::fuzzing::{write_consistency_token, write_resume_token};
use leasehold_store::{
    conformance::samples::{
        LATER, entry, event, extreme_entry, full_entry, full_event, identity, object_meta,
    },
    record::{encode_entry, encode_event, encode_meta},
};
use prost::Message;
use prost_types::Duration;
use std::{env, fs, io, path::Path};

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).ok_or_else(|| io::Error::other("which folder?"))?;
    let targets = [
        ("records", records()),
        ("rows", rows()),
        ("names", names()),
        ("keys", keys()),
        ("requests", requests()),
    ];
    for (target, inputs) in targets {
        let folder = Path::new(&folder).join(target);
        fs::create_dir_all(&folder)?;
        for (at, input) in inputs.iter().enumerate() {
            fs::write(folder.join(format!("seed-{at:02}")), input)?;
        }
    }
    Ok(())
}

fn records() -> Vec<Vec<u8>> {
    let id = identity("acme", Some("blue"), "acme::/blog/{slug}?slug=a");
    let entries = [entry(1, 1), full_entry(7, 8), extreme_entry(u128::MAX)];
    let entries = entries.map(|entry| (0, encode_entry(&id, &entry)));
    let events = [event(1, 2), full_event(3, 4)].map(|event| (1, encode_event(&event)));
    let meta = (2, encode_meta(&object_meta()));
    entries
        .into_iter()
        .chain(events)
        .chain([meta])
        .map(|(kind, record)| [vec![kind], record].concat())
        .collect()
}

fn rows() -> Vec<Vec<u8>> {
    let layouts = [Layout::default(), Layout { s3_key_prefix: "isr/".into(), ..Layout::table_theory() }];
    let mut rows = Vec::new();
    for (layout, deployment, key) in [(0, "blue", "k"), (1, "", "acme::/a?"), (2, "", "b#c"), (3, "x", "#b")]
    {
        let id = identity("acme", Some(deployment).filter(|name| !name.is_empty()), key);
        let row = |item: Item| {
            let texts = ["acme", deployment, key].map(str::to_owned);
            let [tenant, deployment, key] = texts;
            StoredRow { layout, tenant, deployment, key, item }.write()
        };
        let entry = full_entry(1 << 100, 7);
        let item = write_row(&layouts[usize::from(layout) % 2], &id, &entry, LATER).expect("a short key");
        let mut overwritten = item.clone();
        overwritten.insert("s3_key".into(), AttributeValue::S("isr/other.html".into()));
        let mut foreign = overwritten.clone();
        foreign.remove("r");
        foreign.remove("v");
        foreign.insert("revalidate_seconds".into(), AttributeValue::N("0.25".into()));
        let head = Item::from([
            ("seq".into(), AttributeValue::N("42".into())),
            ("v".into(), AttributeValue::N("1".into())),
        ]);
        rows.extend([item, overwritten, foreign, head].map(row));
    }
    rows
}

fn names() -> Vec<Vec<u8>> {
    let lease = full_entry(7, 8).lease.expect("a lease");
    let tags = ["blog", "post:日本, 2"].map(|tag| Tag::parse(tag).expect("a tag"));
    let path = PagePath::parse("/blog//2026/").expect("a path");
    let labels = Labels::encode(&tags, Some(&path)).expect("short labels");
    let mut inputs = vec![join([labels.as_bytes(), b"/blog//2026/", b"v1,t:a%20b,p:/"])];
    for (tenant, deployment, prefix) in [("acme", "", "isr"), ("acme", "blue", ""), ("t", "", "isr/blue")] {
        let id = identity(tenant, Some(deployment).filter(|name| !name.is_empty()), "k");
        let under = ObjectPrefix::parse(prefix).expect("a prefix");
        let names = names_for(&under, &id, &lease);
        let file = names.sidecar.as_str().rsplit('/').next().expect("a file").to_owned();
        let given = GivenName::of_any_kind("isr/a/1-x.html").expect("a name").stored(&under, &id.tenant);
        let origin = Origin::of(&id, &lease, Digest([7; 32])).encode();
        for text in
            [SidecarToken::encode(&names.sidecar), file, names.html.to_string(), given.to_string(), origin]
        {
            inputs.push(join([tenant, deployment, "k", prefix, &text].map(str::as_bytes)));
        }
    }
    inputs
}

fn keys() -> Vec<Vec<u8>> {
    [
        &["tacme", "r/blog/{slug}/{proxy*}", "pslug=a b", "pproxy=x/y", "qpage=2", "qpage=3", "qa=é"][..],
        &["r/{proxy*}", "qproxy=about", "q__facetheory_isr_hydration=x"],
        &[
            "r/a/",
            "hAuthorization=Bearer hunter2",
            "hx-api-key=k",
            "hX-Api-Key=l",
            "csession=s",
            "ctheme=dark",
        ],
        &["r", "hx-tenant-id=acme", "csession=s", "ltheme", "lsession"],
        &["ta::/b", "r/c", "i", "ca=1\nb=2", "cB=", "ca\u{301}=", "cá="],
        &["t acme ", "r /a?b", "n", "pB=1", "pa=2", "q日本=", "q"],
    ]
    .map(|fields| join(fields.iter().map(|field| field.as_bytes())))
    .into()
}

fn requests() -> Vec<Vec<u8>> {
    let entry = Some(v1::EntryRef {
        tenant: "acme".into(),
        deployment: "blue".into(),
        name: Some(v1::entry_ref::Name::Key("acme::/a?".into())),
        path: "/a".into(),
    });
    let pair = |name: &str, value: &str| v1::NameValue { name: name.into(), value: value.into() };
    let pairs = |name: &str, value: &str| v1::NameValues { name: name.into(), values: vec![value.into()] };
    let by_request = Some(v1::EntryRef {
        tenant: String::new(),
        name: Some(v1::entry_ref::Name::Request(v1::PageRequest {
            route: "/blog/{slug}".into(),
            params: vec![pair("slug", "a")],
            query: vec![pairs("page", "2")],
            headers: vec![pairs("authorization", "Bearer x")],
            cookies: vec![pair("theme", "dark")],
            ignore_credentials: false,
            cookie_variance: v1::CookieVariance::Allowlist.into(),
            cookie_allowlist: vec!["theme".into()],
        })),
        ..Default::default()
    });
    let request_id = vec![7; 16];
    let lease = Some(v1::LeaseRef { request_id: request_id.clone().into(), generation: 7 });
    let seconds = |seconds| Some(Duration { seconds, nanos: 0 });
    let token = write_consistency_token(Seq(42));
    let lookup = v1::LookupRequest {
        entry: by_request.clone(),
        consistency: v1::Consistency::Strict.into(),
        consistency_token: token.clone(),
        body: v1::BodyDelivery::Inline.into(),
        known_generation: Some(3),
        explain: true,
    };
    let inline = |body: &'static [u8]| {
        Some(v1::BodySource {
            source: Some(v1::body_source::Source::Inline(body.into())),
            object_name: "isr/a/1.html".into(),
        })
    };
    let stored =
        v1::body_source::Source::Stored(v1::StoredBody { digest: vec![1; 32].into(), size_bytes: 2 });
    let scope = |scope| v1::InvalidationScope { tenant: "acme".into(), scope: Some(scope) };
    use v1::invalidation_scope::Scope;
    let filter = |filter| v1::WatchFilter { tenant: "acme".into(), filter: Some(filter) };
    use v1::watch_filter::Filter;
    let messages: [Vec<u8>; 12] = [
        lookup.encode_to_vec(),
        v1::LookupStreamRequest { id: 1, lookup: Some(lookup), timeout: seconds(1) }.encode_to_vec(),
        v1::AcquireLeaseRequest {
            entry: by_request.clone(),
            request_id: request_id.clone().into(),
            owner: Owner::parse("worker").expect("an owner").to_string(),
            ttl: seconds(30),
            wait: seconds(5),
            consistency_token: token.clone(),
            body: v1::BodyDelivery::None.into(),
            known_generation: None,
            retry: true,
        }
        .encode_to_vec(),
        v1::RenewLeaseRequest { entry: entry.clone(), lease: lease.clone(), ttl: seconds(30) }
            .encode_to_vec(),
        v1::ReleaseLeaseRequest {
            entry: entry.clone(),
            lease: lease.clone(),
            failure: Some("upstream\nbusy".into()),
        }
        .encode_to_vec(),
        v1::CommitPointerRequest {
            entry: by_request.clone(),
            lease: lease.clone(),
            html: inline(b"<p>"),
            sidecar: Some(v1::BodySource { source: Some(stored), object_name: String::new() }),
            metadata: Some(v1::PageMetadata {
                status: 200,
                content_type: "text/html".into(),
                headers: vec![pair("X-A", "1")],
                etag: "W/\"a\"".into(),
                revalidate: seconds(60),
                stale_while_revalidate: seconds(0),
                stale_if_error: None,
                tags: vec!["b".into(), "a".into()],
                path: "/blog/a/".into(),
                render_time: seconds(1),
            }),
        }
        .encode_to_vec(),
        v1::UploadBodyRequest {
            part: Some(v1::upload_body_request::Part::Head(v1::UploadHead {
                entry: entry.clone(),
                lease,
                kind: v1::BodyKind::Sidecar.into(),
                content_type: "application/json".into(),
                object_name: "a.hydration.json".into(),
            })),
        }
        .encode_to_vec(),
        v1::ServeSidecarRequest {
            entry: entry.clone(),
            sidecar_token: "aXNy".into(),
            consistency_token: token.clone(),
        }
        .encode_to_vec(),
        v1::ServeObjectRequest {
            tenant: "acme".into(),
            object_name: "isr/a/1.html".into(),
            consistency_token: token.clone(),
        }
        .encode_to_vec(),
        v1::ServePageRequest { entry: by_request, consistency: 0, consistency_token: token.clone() }
            .encode_to_vec(),
        v1::InvalidateRequest {
            request_id: request_id.into(),
            scopes: vec![
                scope(Scope::PathPrefix("/blog/".into())),
                scope(Scope::Tag("a".into())),
                scope(Scope::Key("k".into())),
                scope(Scope::Deployment("blue".into())),
                scope(Scope::WholeTenant(v1::WholeTenant {})),
            ],
            depth: v1::InvalidationDepth::Hard.into(),
        }
        .encode_to_vec(),
        v1::WatchRequest {
            filters: vec![
                filter(Filter::Tag("a".into())),
                filter(Filter::Key("k".into())),
                filter(Filter::WholeTenant(v1::WholeTenant {})),
            ],
            resume_token: write_resume_token(7, 42),
        }
        .encode_to_vec(),
    ];
    let messages = messages.into_iter().zip(0..).map(|(message, call)| [vec![call], message].concat());
    let texts = [token, write_resume_token(7, 42), "99999999H".into(), "5m".into()];
    messages.chain(texts.map(|text| [vec![12], text.into_bytes()].concat())).collect()
}
