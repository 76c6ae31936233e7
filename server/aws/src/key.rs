//! The partition key of an entry: a template, so that a table can be shared with others who chose theirs.

use leasehold_core::identity::{DeploymentId, EntryId, EntryKey, TenantId};
use std::{collections::HashMap, fmt, str::FromStr};

/// The longest partition key that DynamoDB takes, in bytes.
pub const MAX_PK_BYTES: usize = 2048;

/// How the partition key of an entry is made: literal text with placeholders.
///
/// | placeholder | becomes |
/// |---|---|
/// | `{tenant}` | the tenant |
/// | `{deployment}` | the deployment, nothing where there is none |
/// | `{key}` | the key |
/// | `{digest}` | 64 hex digits: SHA-256 over tenant, deployment and key, framed so that no two identities share one |
///
/// The default is `TENANT#{tenant}#CACHE#{digest}`. `CACHE#{key}` is what TableTheory has without configuration.
///
/// Whatever the template, the record of an entry holds its whole identity: where two entries have one partition key, the
/// second is refused, and never answered with the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PkTemplate {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Field(Field),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Field {
    Tenant,
    Deployment,
    Key,
    Digest,
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// Braces around something else than the name of a placeholder.
    #[error("`{{{0}}}` is no placeholder; there are {{tenant}}, {{deployment}}, {{key}} and {{digest}}")]
    UnknownPlaceholder(String),
    /// A brace without its other one.
    #[error("a brace is open or closed without its other one")]
    UnbalancedBrace,
    /// Nothing tells one entry of a tenant from another.
    #[error("needs {{digest}} or {{key}}: without them all entries would have one partition key")]
    NoKey,
    /// Where one value ends and the next begins could not be told.
    #[error("two placeholders stand side by side; put a separator between them")]
    Adjacent,
}

/// A partition key would be over [`MAX_PK_BYTES`]: there is no such record, and can be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its partition key is {0} bytes long; the limit is {MAX_PK_BYTES}. A template with {{digest}} has no such limit"
)]
pub(crate) struct PkTooLong(usize);

impl PkTemplate {
    /// The partition key of an entry.
    pub(crate) fn render(&self, id: &EntryId) -> Result<String, PkTooLong> {
        let mut pk = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => pk.push_str(text),
                Part::Field(Field::Digest) => pk.push_str(&hex::encode(id.digest())),
                Part::Field(field) => pk.push_str(field.text(id)),
            }
        }
        if pk.len() > MAX_PK_BYTES { Err(PkTooLong(pk.len())) } else { Ok(pk) }
    }

    /// Whether the partition key alone says which entry it is of. Where it does not, a row that somebody else wrote, which
    /// holds no identity of its own, may be another tenant's page.
    pub(crate) fn identifies(&self, id: &EntryId) -> bool {
        if self.has(Field::Digest) {
            return true;
        }
        // A value after which what follows it begins too early could be read as a shorter one, and the rest as part of the
        // next.
        let unambiguous = self.parts.windows(2).all(|pair| match pair {
            [Part::Field(field), Part::Literal(next)] => ends_where(field.text(id), next),
            _ => true,
        });
        // Keys that are derived from requests begin with their tenant, here and in FaceTheory, and then their route.
        let key_of_tenant = || {
            id.key.as_str().starts_with(id.tenant.as_str())
                && id.key.as_str().find("::/") == Some(id.tenant.as_str().len())
        };
        let tenant = self.has(Field::Tenant) || key_of_tenant();
        let deployment = self.has(Field::Deployment) || id.deployment.is_none();
        unambiguous && tenant && deployment
    }

    /// Whose partition key this may be. For the digest alone that is one answer; where values contain what separates them,
    /// and for the tenant at the beginning of a key, it is all that could be meant.
    pub(crate) fn owners(&self, pk: &str) -> Owners {
        let mut search = Search::default();
        search.go(&self.parts, pk, &mut HashMap::new());
        let all_told = [Field::Tenant, Field::Deployment, Field::Key].iter().all(|field| self.has(*field));
        Owners {
            matched: search.matched,
            complete: (all_told || self.has(Field::Digest)) && !search.cut_off,
            digests: search.digests,
        }
    }

    fn has(&self, field: Field) -> bool {
        self.parts.contains(&Part::Field(field))
    }
}

/// Whether of a value and what follows it, the value is all that comes before: a separator can also begin within one.
fn ends_where(value: &str, next: &str) -> bool {
    format!("{value}{next}").find(next) == Some(value.len())
}

/// Whose a partition key may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owners {
    /// Whether the template can have made it at all.
    pub(crate) matched: bool,
    /// Whether, if it has, its owner is surely among `digests`.
    pub(crate) complete: bool,
    /// Digests of identities.
    pub(crate) digests: Vec<[u8; 32]>,
}

/// More ways to read one partition key than anybody's have. A key that is made of separators would take ages.
const MAX_STEPS: usize = 10_000;

/// Reads a partition key in every way in which the template may have made it.
#[derive(Default)]
struct Search {
    digests: Vec<[u8; 32]>,
    steps: usize,
    /// Whether there were more ways than it went.
    cut_off: bool,
    matched: bool,
}

impl Search {
    fn go<'a>(&mut self, parts: &'a [Part], rest: &'a str, values: &mut HashMap<Field, &'a str>) {
        if self.steps == MAX_STEPS {
            self.cut_off = true;
            return;
        }
        self.steps += 1;
        match parts {
            [] if rest.is_empty() => self.found(values),
            [] => {}
            [Part::Literal(text), parts @ ..] => {
                if let Some(rest) = rest.strip_prefix(&**text) {
                    self.go(parts, rest, values);
                }
            }
            [Part::Field(field), parts @ ..] => {
                let ends: Vec<usize> = match parts {
                    // Two fields are never side by side.
                    [Part::Literal(next), ..] => {
                        let starts = rest.char_indices().map(|(at, _)| at);
                        starts.filter(|at| rest[*at..].starts_with(&**next)).collect()
                    }
                    _ => vec![rest.len()],
                };
                for end in ends {
                    let (value, rest) = rest.split_at(end);
                    let before = values.insert(*field, value);
                    // A placeholder that is there twice has one value.
                    if before.is_none_or(|before| before == value) {
                        self.go(parts, rest, values);
                    }
                    match before {
                        Some(before) => values.insert(*field, before),
                        None => values.remove(field),
                    };
                }
            }
        }
    }

    fn found(&mut self, values: &HashMap<Field, &str>) {
        if let Some(digits) = values.get(&Field::Digest) {
            let mut digest = [0; 32];
            if hex::decode_to_slice(digits, &mut digest).is_ok() && hex::encode(digest) == *digits {
                self.matched = true;
                self.digests.push(digest);
            }
            return;
        }
        let Some(Ok(key)) = values.get(&Field::Key).map(|key| EntryKey::parse(key)) else { return };
        self.matched = true;
        let deployment = match values.get(&Field::Deployment).filter(|deployment| !deployment.is_empty()) {
            Some(deployment) => match DeploymentId::parse(deployment) {
                Ok(deployment) => Some(deployment),
                Err(_) => return,
            },
            None => None,
        };
        let tenants: Vec<&str> = match values.get(&Field::Tenant) {
            Some(tenant) => vec![tenant],
            None => key.as_str().match_indices("::").map(|(end, _)| &key.as_str()[..end]).collect(),
        };
        for tenant in tenants {
            if let Ok(tenant) = TenantId::parse(tenant) {
                let id = EntryId { tenant, deployment: deployment.clone(), key: key.clone() };
                self.digests.push(id.digest());
            }
        }
    }
}

impl Field {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "tenant" => Self::Tenant,
            "deployment" => Self::Deployment,
            "key" => Self::Key,
            "digest" => Self::Digest,
            _ => return None,
        })
    }

    /// The value as it is in the identity; a digest is not.
    fn text(self, id: &EntryId) -> &str {
        match self {
            Self::Tenant => id.tenant.as_str(),
            Self::Deployment => id.deployment.as_ref().map_or("", |deployment| deployment.as_str()),
            Self::Key => id.key.as_str(),
            Self::Digest => "",
        }
    }
}

impl FromStr for PkTemplate {
    type Err = InvalidTemplate;

    fn from_str(text: &str) -> Result<Self, InvalidTemplate> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let literal = rest.find(['{', '}']).unwrap_or(rest.len());
            if literal > 0 {
                parts.push(Part::Literal(rest[..literal].into()));
            }
            rest = &rest[literal..];
            if rest.is_empty() {
                break;
            }
            let (name, after) = rest
                .strip_prefix('{')
                .and_then(|inside| inside.split_once('}'))
                .ok_or(InvalidTemplate::UnbalancedBrace)?;
            let field = Field::parse(name).ok_or_else(|| InvalidTemplate::UnknownPlaceholder(name.into()))?;
            if matches!(parts.last(), Some(Part::Field(_))) {
                return Err(InvalidTemplate::Adjacent);
            }
            parts.push(Part::Field(field));
            rest = after;
        }
        let template = Self { text: text.into(), parts };
        if !template.has(Field::Digest) && !template.has(Field::Key) {
            return Err(InvalidTemplate::NoKey);
        }
        Ok(template)
    }
}

impl fmt::Display for PkTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Default for PkTemplate {
    fn default() -> Self {
        let literal = |text: &str| Part::Literal(text.into());
        let parts = vec![
            literal("TENANT#"),
            Part::Field(Field::Tenant),
            literal("#CACHE#"),
            Part::Field(Field::Digest),
        ];
        Self { text: "TENANT#{tenant}#CACHE#{digest}".into(), parts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(tenant: &str, deployment: Option<&str>, key: &str) -> EntryId {
        EntryId {
            tenant: TenantId::parse(tenant).unwrap(),
            deployment: deployment.map(|deployment| DeploymentId::parse(deployment).unwrap()),
            key: EntryKey::parse(key).unwrap(),
        }
    }

    fn template(text: &str) -> PkTemplate {
        text.parse().unwrap()
    }

    #[test]
    fn the_default_names_the_tenant_and_a_digest_of_everything() {
        let entry = id("acme", Some("blue"), "acme::/blog?");
        let digest = hex::encode(entry.digest());
        let pk = PkTemplate::default().render(&entry).unwrap();
        assert_eq!(pk, format!("TENANT#acme#CACHE#{digest}"));
        assert_eq!(template("TENANT#{tenant}#CACHE#{digest}"), PkTemplate::default());
    }

    #[test]
    fn placeholders_become_the_parts_of_the_identity() {
        let entry = id("acme", Some("blue"), "/blog");
        for (text, pk) in [
            ("CACHE#{key}", "CACHE#/blog"),
            ("{tenant}#{deployment}#{key}", "acme#blue#/blog"),
            ("{key}", "/blog"),
            ("é{key}é", "é/blogé"),
        ] {
            assert_eq!(template(text).render(&entry).unwrap(), pk);
            assert_eq!(template(text).to_string(), text);
        }
        assert_eq!(template("{deployment}#{key}").render(&id("t", None, "k")).unwrap(), "#k");
    }

    #[test]
    fn templates_that_cannot_work_are_refused() {
        use InvalidTemplate::{Adjacent, NoKey, UnbalancedBrace, UnknownPlaceholder};
        for (text, why) in [
            ("", NoKey),
            ("CACHE#", NoKey),
            ("CACHE#{tenant}", NoKey),
            ("{tenant}{key}", Adjacent),
            ("CACHE#{", UnbalancedBrace),
            ("CACHE#{key", UnbalancedBrace),
            ("CACHE#}{key}", UnbalancedBrace),
            ("{Key}", UnknownPlaceholder("Key".into())),
            ("{}", UnknownPlaceholder(String::new())),
            ("{{key}}", UnknownPlaceholder("{key".into())),
        ] {
            assert_eq!(text.parse::<PkTemplate>(), Err(why), "{text}");
        }
    }

    #[test]
    fn a_key_that_does_not_fit_is_refused_and_a_digest_always_fits() {
        let entry = id(&"t".repeat(128), None, &"k".repeat(4096));
        assert_eq!(template("CACHE#{key}").render(&entry), Err(PkTooLong(4102)));
        let bytes = |key: usize| template("CACHE#{key}").render(&id("t", None, &"k".repeat(key)));
        assert_eq!(bytes(2042).map(|pk| pk.len()), Ok(MAX_PK_BYTES));
        assert_eq!(bytes(2043), Err(PkTooLong(2049)));
        assert!(PkTemplate::default().render(&entry).is_ok());
    }

    #[test]
    fn a_partition_key_that_two_tenants_could_share_identifies_neither() {
        let cases = [
            ("CACHE#{key}", id("acme", None, "acme::/blog?"), true),
            ("CACHE#{key}", id("acme", None, "other::/blog?"), false),
            ("CACHE#{key}", id("acme", None, "acmeother::/blog?"), false),
            ("CACHE#{key}", id("acme", None, "emca::/blog?"), false),
            ("CACHE#{key}", id("a::b", None, "a::b::/blog?"), true),
            ("CACHE#{key}", id("acme", Some("blue"), "acme::/blog?"), false),
            ("CACHE#{digest}", id("acme", Some("blue"), "other::/blog?"), true),
            ("{tenant}#{key}", id("acme", None, "b#c"), true),
            ("{tenant}#{key}", id("acme#b", None, "c"), false),
            ("{tenant}#{key}", id("acme", Some("blue"), "b"), false),
            ("{tenant}#{deployment}#{key}", id("acme", Some("blue"), "b"), true),
        ];
        for (text, entry, expected) in cases {
            assert_eq!(template(text).identifies(&entry), expected, "{text} {entry:?}");
        }
    }

    #[test]
    fn of_two_entries_with_one_partition_key_it_identifies_one_at_most() {
        for (text, one, other) in [
            ("CACHE#{key}", id("a", None, "a::b::/x?"), id("a::b", None, "a::b::/x?")),
            ("CACHE#{key}", id("a", None, "a::/b::/x?"), id("a::/b", None, "a::/b::/x?")),
            ("{tenant}::{key}", id("a:", None, "x"), id("a", None, ":x")),
        ] {
            let template = template(text);
            assert_eq!(template.render(&one), template.render(&other));
            assert!(
                !(template.identifies(&one) && template.identifies(&other)),
                "{text}: {one:?} and {other:?}"
            );
        }
    }

    #[test]
    fn the_owner_of_a_partition_key_is_among_those_that_are_told() {
        let cases = [
            ("TENANT#{tenant}#CACHE#{digest}", id("acme#CACHE#x", Some("blue"), "other::/blog?"), true),
            ("A#{digest}#{key}", id("acme", None, "x#y"), true),
            ("{tenant}#{deployment}#{key}", id("ac#me", Some("b#l"), "k#::/#"), true),
            ("{tenant}#{deployment}#{key}", id("acme", None, "k"), true),
            ("{tenant}#{key}", id("ac#me", None, "k#"), false),
            ("CACHE#{key}", id("acme", None, "acme::/blog?"), false),
            ("CACHE#{key}", id("a::b", None, "a::b::/blog?x=::"), false),
            ("{key}#{key}", id("acme", None, "acme::#x"), false),
        ];
        for (text, entry, complete) in cases {
            let owners = template(text).owners(&template(text).render(&entry).unwrap());
            assert!(owners.matched && owners.digests.contains(&entry.digest()), "{text} {entry:?}");
            assert_eq!(owners.complete, complete, "{text}");
        }
        // No tenant is in the key: nobody's, as far as the partition key says.
        assert_eq!(template("CACHE#{key}").owners("CACHE#k").digests, Vec::<[u8; 32]>::new());
        for other in ["USER#1", "TENANT#a#CACHE#00", &format!("TENANT#a#CACHE#{}", "A".repeat(64))] {
            assert!(!PkTemplate::default().owners(other).matched, "{other}");
        }
        for other in ["k#x", "k", "#"] {
            assert!(!template("{key}#").owners(other).matched, "{other}");
        }
        let separators = template("{tenant}#{deployment}#{key}").owners(&"#".repeat(MAX_PK_BYTES));
        assert!(!separators.complete, "not gone through");
    }
}
