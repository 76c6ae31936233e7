//! A policy as it is written: TOML.

use super::{AccessError, source::Source};
use leasehold_core::{
    access::{InvalidPattern, InvalidPolicy, Pattern, Policy, Reach, Right, Rule, TenantRef},
    identity::{InvalidName, TenantId},
};
use serde::Deserialize;

/// Why a text is no policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// It is no TOML, or has what no policy has.
    #[error("{0}")]
    Form(String),
    /// There are no rules in it: nobody could do anything.
    #[error("has no [[rule]]: nobody could do anything")]
    Empty,
    /// A principal's pattern is none.
    #[error("rule {place}: principal {why}")]
    Principal {
        /// Counted from 1.
        place: usize,
        /// Why.
        why: InvalidPattern,
    },
    /// A tenant is none.
    #[error("rule {place}: tenant {why}")]
    Tenant {
        /// Counted from 1.
        place: usize,
        /// Why.
        why: InvalidName,
    },
    /// A rule makes no sense.
    #[error(transparent)]
    Rule(#[from] InvalidPolicy),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    rule: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    principal: String,
    tenant: Option<String>,
    #[serde(default)]
    tenants: Vec<String>,
    rights: Vec<WrittenRight>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenRight {
    Read,
    Render,
    Invalidate,
    Admin,
}

impl From<WrittenRight> for Right {
    fn from(right: WrittenRight) -> Self {
        match right {
            WrittenRight::Read => Self::Read,
            WrittenRight::Render => Self::Render,
            WrittenRight::Invalidate => Self::Invalidate,
            WrittenRight::Admin => Self::Admin,
        }
    }
}

/// The policy that this text of `source` is. At the start one without rules is a mistake; later it may be meant, to shut
/// everybody out.
pub(super) fn read(text: &str, source: &Source, is_first: bool) -> Result<Policy, AccessError> {
    let wrong = |error| AccessError::Policy { place: source.to_string(), source: error };
    let policy = parse(text).map_err(wrong)?;
    if policy.rules() > 0 {
        return Ok(policy);
    }
    if is_first {
        return Err(wrong(PolicyError::Empty));
    }
    tracing::warn!(place = %source, "the policy has no rule: nobody may do anything");
    Ok(policy)
}

pub(super) fn parse(text: &str) -> Result<Policy, PolicyError> {
    let File { rule: written } = toml::from_str(text).map_err(|error| PolicyError::Form(told(&error)))?;
    let rules = written.into_iter().enumerate().map(|(at, rule)| self::rule(at + 1, rule));
    Ok(Policy::new(rules.collect::<Result<_, _>>()?)?)
}

fn rule(place: usize, written: Written) -> Result<Rule, PolicyError> {
    let Written { principal, tenant, tenants, rights } = written;
    let principal = Pattern::parse(&principal).map_err(|why| PolicyError::Principal { place, why })?;
    let named = |text: &String| match &**text {
        "{tenant}" => Ok(TenantRef::Captured),
        name => TenantId::parse(name).map(TenantRef::Named).map_err(|why| PolicyError::Tenant { place, why }),
    };
    let own = tenant.as_ref().map(named).transpose()?;
    let tenants = if tenants.iter().any(|name| name == "*") {
        Reach::All
    } else {
        Reach::Some(tenants.iter().map(named).collect::<Result<_, _>>()?)
    };
    Ok(Rule { principal, own, tenants, rights: rights.into_iter().map(Into::into).collect() })
}

/// What is wrong. Nothing in a policy is secret.
fn told(error: &toml::de::Error) -> String {
    error.message().lines().next().unwrap_or("is no TOML").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use leasehold_core::identity::Principal;

    #[test]
    fn a_policy_is_read_as_it_is_meant() {
        let policy = parse(
            r#"
            [[rule]]
            principal = "spiffe://shop/tenant/{tenant}/render"
            tenant = "{tenant}"
            rights = ["read", "render"]

            [[rule]]
            principal = "editor"
            tenants = ["acme", "globex"]
            rights = ["invalidate"]

            [[rule]]
            principal = "ops"
            tenants = ["*"]
            rights = ["admin"]
            "#,
        )
        .unwrap();
        let permissions = |name: &str| policy.permissions(&Principal::parse(name).unwrap());
        let (acme, globex) = (TenantId::parse("acme").unwrap(), TenantId::parse("globex").unwrap());
        let worker = permissions("spiffe://shop/tenant/acme/render");
        assert_eq!(worker.tenant(None), acme);
        assert!(worker.allow(Right::Render, &acme) && !worker.allow(Right::Render, &globex));
        assert!(!worker.allow(Right::Invalidate, &acme));
        assert!(permissions("editor").allow(Right::Invalidate, &globex));
        assert!(permissions("ops").allow_everywhere(Right::Admin));
    }

    #[test]
    fn what_is_wrong_with_a_policy_is_said_with_its_place() {
        let rule = |fields: &str| format!("[[rule]]\nprincipal = \"ops\"\n{fields}\n");
        let table = [
            ("x".to_owned(), ""),
            ("[[rules]]".to_owned(), "unknown field `rules`"),
            (rule("tenants = [\"*\"]"), "missing field `rights`"),
            (rule("tenants = [\"*\"]\nrights = [\"write\"]"), "unknown variant `write`"),
            (rule("rights = [\"read\"]"), "rule 1 reaches no tenant"),
            (rule("tenants = [\"\"]\nrights = [\"read\"]"), "rule 1: tenant must not be empty"),
            (rule("tenant = \"{tenant}\"\nrights = [\"read\"]"), "rule 1 has `{tenant}`"),
            (rule("tenant = \"a\"\nrights = []"), "rule 1 gives no rights"),
            (
                rule("tenant = \"a\"\nrights = [\"read\"]\n[[rule]]\nprincipal = \"a*b\"\nrights = []"),
                "rule 2: principal has a `*`",
            ),
        ];
        for (text, why) in table {
            let error = parse(&text).expect_err(&text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
