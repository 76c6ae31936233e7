//! Names of objects and tokens of sidecars, labels of objects, and all other names: none is read as something that it was not
//! written as, and a token leads to nothing but a sidecar of the entry that asked, under the prefix of the coordinator.

#![no_main]

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use leasehold_core::{
    identity::{DeploymentId, EntryId, EntryKey, InvalidName, Owner, PagePath, Seq, Tag, TenantId},
    key::TenantBoundary,
    labels::{Labels, MAX_LABELS_BYTES},
    named::{GivenName, MAX_ORIGIN_BYTES, NamedObject, Origin},
    object::{
        BodyKind, ENTRY_DIGEST_BYTES, ObjectName, ObjectPrefix, SidecarToken, belongs_to, entry_digest_of,
        granted_at_of, seen_of,
    },
    orphan::Written,
};
use leasehold_fuzz::texts;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let fields: Vec<&str> = texts(data).take(8).collect();
    for text in &fields {
        names(text);
        labels(text);
        origin(text);
    }
    let [tenant, deployment, key, prefix, text, ..] = *fields else { return };
    let (Ok(tenant), Ok(key)) = (TenantId::parse(tenant), EntryKey::parse(key)) else { return };
    let Ok(prefix) = ObjectPrefix::parse(prefix) else { return };
    let id = EntryId { tenant, deployment: DeploymentId::parse(deployment).ok(), key };
    // As a token, as the name in a token, and as a file of this very entry, which is the hardest to refuse.
    let directory = directory(&prefix, &id);
    for token in [
        text.to_owned(),
        URL_SAFE_NO_PAD.encode(text),
        URL_SAFE_NO_PAD.encode(format!("{directory}{text}")),
        URL_SAFE_NO_PAD.encode(format!("{directory}{text}.hydration.json")),
    ] {
        sidecar(&token, &prefix, &id);
    }
    for name in [text.to_owned(), format!("{directory}{text}")] {
        if let Ok(name) = ObjectName::parse(&name) {
            object(&name, &prefix, &id);
        }
    }
    given(text, &prefix, &id);
});

/// What a worker calls a body leads back to that name and that tenant, and to nobody's entry.
fn given(text: &str, prefix: &ObjectPrefix, id: &EntryId) {
    let other = TenantId::parse("somebody else").unwrap();
    let endings = ["", ".html", ".hydration.json"].map(|ending| format!("{text}{ending}"));
    for given in endings.iter().filter_map(|text| GivenName::of_any_kind(text)) {
        let stored = given.stored(prefix, &id.tenant);
        assert_eq!(ObjectName::parse(stored.as_str()).as_ref(), Ok(&stored));
        let named = NamedObject::of(&stored).expect("a name that was given");
        assert_eq!(named.given(), &given);
        assert!(named.is_under(prefix) && named.is_of(&id.tenant));
        assert_eq!(named.is_of(&other), id.tenant == other);
        assert!(entry_digest_of(&stored).is_none() && !belongs_to(&stored, prefix, id), "{stored}");
    }
    if let Some(named) = ObjectName::parse(text).ok().as_ref().and_then(NamedObject::of)
        && named.is_under(prefix)
        && named.is_of(&id.tenant)
    {
        assert_eq!(named.given().stored(prefix, &id.tenant).as_str(), text);
    }
}

fn origin(text: &str) {
    let Some(origin) = Origin::parse(text) else { return };
    assert!(text.len() <= MAX_ORIGIN_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic()));
    assert_eq!(origin.encode(), text);
    assert!(Origin::tells(text, origin.digest));
    assert!(Written::from(&origin).entry == origin.entry[..ENTRY_DIGEST_BYTES]);
}

/// As the design writes it.
fn directory(prefix: &ObjectPrefix, id: &EntryId) -> String {
    let digits = &hex::encode(id.digest())[..24];
    if prefix.as_str().is_empty() { format!("{digits}/") } else { format!("{}/{digits}/", prefix.as_str()) }
}

fn sidecar(token: &str, prefix: &ObjectPrefix, id: &EntryId) {
    let Some(name) = SidecarToken::resolve(token, prefix, id) else { return };
    assert_eq!(SidecarToken::encode(&name), token, "two tokens of one sidecar");
    assert_eq!(URL_SAFE_NO_PAD.decode(token).unwrap(), name.as_str().as_bytes());
    let file = name.as_str().strip_prefix(&directory(prefix, id)).expect("a name of this entry");
    assert!(!file.contains(['/', '\\', '%']) && file.ends_with(".hydration.json"), "{name}");
    assert_eq!(name.kind(), Some(BodyKind::Sidecar));
    let key = |key: &str| EntryKey::parse(key).unwrap();
    for other in [
        EntryId { tenant: TenantId::parse("somebody else").unwrap(), ..id.clone() },
        EntryId { key: key("another"), ..id.clone() },
        EntryId {
            deployment: id.deployment.is_none().then(|| DeploymentId::parse("blue").unwrap()),
            ..id.clone()
        },
    ] {
        assert!(other == *id || SidecarToken::resolve(token, prefix, &other).is_none());
    }
    let other = ObjectPrefix::parse("other").unwrap();
    assert!(*prefix == other || SidecarToken::resolve(token, &other, id).is_none());
}

fn object(name: &ObjectName, prefix: &ObjectPrefix, id: &EntryId) {
    let digest = entry_digest_of(name);
    if digest.is_none() {
        assert_eq!((granted_at_of(name), seen_of(name)), (None, Seq::START), "{name} is not ours");
    }
    if belongs_to(name, prefix, id) {
        assert!(name.as_str().starts_with(&directory(prefix, id)) && name.kind().is_some(), "{name}");
        assert!(digest.is_none_or(|digest| digest == id.digest()[..ENTRY_DIGEST_BYTES]));
    }
    if prefix.is_of(name) {
        let digits = hex::encode(digest.expect("a digest"));
        let slash = if prefix.as_str().is_empty() { "" } else { "/" };
        assert!(name.as_str().starts_with(&format!("{}{slash}{digits}/", prefix.as_str())), "{name}");
    }
}

/// What one coordinator takes for a name, another that reads it from the store takes for the same.
fn names(text: &str) {
    fn kept<T>(text: &str, parse: fn(&str) -> Result<T, InvalidName>, as_str: fn(&T) -> &str) {
        if let Ok(name) = parse(text) {
            assert_eq!(as_str(&name), text);
        }
    }
    kept(text, TenantId::parse, TenantId::as_str);
    kept(text, DeploymentId::parse, DeploymentId::as_str);
    kept(text, EntryKey::parse, EntryKey::as_str);
    kept(text, Tag::parse, Tag::as_str);
    kept(text, Owner::parse, Owner::as_str);
    if let Ok(path) = PagePath::parse(text) {
        assert_eq!(PagePath::parse(path.as_str()).as_ref(), Ok(&path), "{text:?} in its normal form");
        for prefix in path.prefixes() {
            // One that ends in white space cannot be named, so that nobody can mean it.
            assert!(
                PagePath::parse(prefix)
                    .map_or_else(|why| why == InvalidName::Padded, |parsed| parsed.as_str() == prefix)
            );
        }
    }
    if let Ok(Some(tenant)) = TenantBoundary::default().resolve(Some(text), true, &[]) {
        assert_eq!(TenantId::parse(tenant.as_str()), Ok(tenant));
    }
}

fn labels(text: &str) {
    let Some(labels) = Labels::parse(text) else { return };
    match Labels::encode(&labels.tags, labels.path.as_ref()) {
        Some(written) => {
            assert!(written.len() <= MAX_LABELS_BYTES && written.bytes().all(|byte| byte.is_ascii_graphic()));
            assert_eq!(Labels::parse(&written), Some(labels));
        }
        None => assert!(text.len() > MAX_LABELS_BYTES / 3, "{text:?} was read and cannot be written"),
    }
}
