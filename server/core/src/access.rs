//! Who may do what: principals, and the policy that gives them rights over tenants.
//!
//! Nothing is allowed that no rule allows. Rules only ever add: their order makes no difference, except that the first one
//! that matches and names a tenant says whose the principal's own requests are.

use crate::identity::{InvalidName, Principal, TenantId};
use std::collections::BTreeSet;

/// The most rules of a policy.
pub const MAX_RULES: usize = 10_000;
/// The longest pattern of principals, in bytes of UTF-8.
pub const MAX_PATTERN_BYTES: usize = 512;

/// What a principal may do with the pages of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// Look pages up, read their bodies, watch them.
    Read,
    /// Acquire leases, which answers with pages too, and renew, release and commit under them.
    Render,
    /// Invalidate.
    Invalidate,
    /// All of these; over every tenant, invalidate everything at once.
    Admin,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Read, Self::Render, Self::Invalidate, Self::Admin];

    /// As policies and errors write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Render => "render",
            Self::Invalidate => "invalidate",
            Self::Admin => "admin",
        }
    }
}

/// Which principals a rule is for: the name itself, or with `{tenant}` for a part of it, or with `*` for its rest.
///
/// `{tenant}` stands for one or more characters up to the one that follows it in the pattern, never for a slash: there is
/// one way to read a name by a pattern, and no tenant's name can reach past its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    before: Box<str>,
    /// What follows `{tenant}`, where there is one.
    after: Option<Box<str>>,
    open_ended: bool,
}

/// Why a text is no pattern. `Display` completes the sentence "`field` …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// As a name it would be none.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// `*` before the end.
    #[error("has a `*` before its end")]
    StarInside,
    /// More than one `{tenant}`.
    #[error("has `{{tenant}}` more than once")]
    TenantTwice,
    /// `{tenant}*`: nothing says where the tenant's name ends.
    #[error("has `*` right after `{{tenant}}`, and nothing says where the tenant's name ends")]
    TenantWithoutEnd,
    /// Braces that are not those of `{tenant}`.
    #[error("has braces that are not those of `{{tenant}}`")]
    Braces,
}

const CAPTURE: &str = "{tenant}";

impl Pattern {
    /// Reads a pattern of at most [`MAX_PATTERN_BYTES`].
    ///
    /// # Errors
    /// [`InvalidPattern`].
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        if text.len() > MAX_PATTERN_BYTES {
            return Err(InvalidName::TooLong { actual: text.len(), limit: MAX_PATTERN_BYTES }.into());
        }
        Principal::parse(text)?;
        let (fixed, open_ended) = text.strip_suffix('*').map_or((text, false), |fixed| (fixed, true));
        if fixed.contains('*') {
            return Err(InvalidPattern::StarInside);
        }
        let (before, after) = match fixed.split_once(CAPTURE) {
            None => (fixed, None),
            Some((_, after)) if after.contains(CAPTURE) => return Err(InvalidPattern::TenantTwice),
            Some((_, "")) if open_ended => return Err(InvalidPattern::TenantWithoutEnd),
            Some((before, after)) => (before, Some(after)),
        };
        if [before, after.unwrap_or_default()].iter().any(|part| part.contains(['{', '}'])) {
            return Err(InvalidPattern::Braces);
        }
        Ok(Self { before: before.into(), after: after.map(Into::into), open_ended })
    }

    /// Whether a part of the name is a tenant's.
    pub fn names_tenant(&self) -> bool {
        self.after.is_some()
    }

    /// Whether the pattern fits, and the tenant that the name holds.
    fn fit(&self, principal: &Principal) -> Option<Option<TenantId>> {
        let rest = principal.as_str().strip_prefix(&*self.before)?;
        let fits = |rest: &str, end: &str| if self.open_ended { rest.starts_with(end) } else { rest == end };
        let Some(after) = self.after.as_deref() else {
            return fits(rest, "").then_some(None);
        };
        let end = match after.chars().next() {
            Some(follows) => rest.find(follows)?,
            None => rest.len(),
        };
        let (name, rest) = rest.split_at(end);
        if name.contains('/') || !fits(rest, after) {
            return None;
        }
        let tenant = TenantId::parse(name).ok()?;
        // The pages of those who declare no tenant are nobody's own: who may have them is named in full.
        (tenant != TenantId::unnamed()).then_some(Some(tenant))
    }
}

/// A tenant in a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantRef {
    /// By name.
    Named(TenantId),
    /// The one that the principal's name holds.
    Captured,
}

/// Over which tenants a rule reaches, beside the principal's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All of them.
    All,
    /// These.
    Some(Vec<TenantRef>),
}

/// One rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// For whom it is.
    pub principal: Pattern,
    /// Whose their requests are that declare no tenant; they have the rights over it.
    pub own: Option<TenantRef>,
    /// Over whom else they have the rights.
    pub tenants: Reach,
    /// Which ones.
    pub rights: Vec<Right>,
}

/// Why a rule is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRule {
    /// A tenant is taken from a name that holds none.
    #[error("has `{{tenant}}` among its tenants, and its principal has none")]
    NothingCaptured,
    /// No tenants.
    #[error("reaches no tenant: it needs `tenant` or `tenants`")]
    NoTenant,
    /// No rights.
    #[error("gives no rights")]
    NoRights,
}

/// Who may do what.
#[derive(Clone, Debug, Default)]
pub struct Policy(Vec<Rule>);

/// A rule that is none, and its place, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// The rule at this place is none.
    #[error("rule {place} {why}")]
    Rule {
        /// Counted from 1.
        place: usize,
        /// Why.
        why: InvalidRule,
    },
    /// More than [`MAX_RULES`].
    #[error("there are {0} rules; the limit is {MAX_RULES}")]
    TooMany(usize),
}

impl Policy {
    /// A policy of these rules, at most [`MAX_RULES`]. Without any, nobody may do anything.
    ///
    /// # Errors
    /// [`InvalidPolicy`], for the first rule that can be no rule.
    pub fn new(rules: Vec<Rule>) -> Result<Self, InvalidPolicy> {
        if rules.len() > MAX_RULES {
            return Err(InvalidPolicy::TooMany(rules.len()));
        }
        for (at, rule) in rules.iter().enumerate() {
            rule.check().map_err(|why| InvalidPolicy::Rule { place: at + 1, why })?;
        }
        Ok(Self(rules))
    }

    /// How many rules it has.
    pub fn rules(&self) -> usize {
        self.0.len()
    }

    /// What this principal may do.
    pub fn permissions(&self, principal: &Principal) -> Permissions {
        let mut permissions = Permissions::default();
        for rule in &self.0 {
            let Some(captured) = rule.principal.fit(principal) else { continue };
            let resolved = |tenant: &TenantRef| match tenant {
                TenantRef::Named(tenant) => Some(tenant.clone()),
                TenantRef::Captured => captured.clone(),
            };
            let own = rule.own.as_ref().and_then(resolved);
            let over = match &rule.tenants {
                Reach::All => Over::All,
                Reach::Some(tenants) => {
                    Over::Some(tenants.iter().filter_map(resolved).chain(own.clone()).collect())
                }
            };
            permissions.grants.push(Grant { over, rights: rule.rights.iter().copied().collect() });
            permissions.own = permissions.own.or(own);
        }
        permissions
    }
}

impl Rule {
    fn check(&self) -> Result<(), InvalidRule> {
        let listed: &[TenantRef] = match &self.tenants {
            Reach::All => &[],
            Reach::Some(tenants) => tenants,
        };
        let mut named = listed.iter().chain(&self.own);
        if !self.principal.names_tenant() && named.any(|tenant| *tenant == TenantRef::Captured) {
            return Err(InvalidRule::NothingCaptured);
        }
        if self.own.is_none() && self.tenants == Reach::Some(Vec::new()) {
            return Err(InvalidRule::NoTenant);
        }
        if self.rights.is_empty() {
            return Err(InvalidRule::NoRights);
        }
        Ok(())
    }
}

/// What one principal may do. By default: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    grants: Vec<Grant>,
    own: Option<TenantId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    over: Over,
    rights: BTreeSet<Right>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Over {
    All,
    Some(BTreeSet<TenantId>),
}

impl Permissions {
    /// Everything, with every tenant.
    pub fn unrestricted() -> Self {
        Self { grants: vec![Grant { over: Over::All, rights: Right::ALL.into() }], own: None }
    }

    /// Whose a request is that declares this tenant, or none.
    pub fn tenant(&self, declared: Option<TenantId>) -> TenantId {
        declared.or_else(|| self.own.clone()).unwrap_or_else(TenantId::unnamed)
    }

    /// Whether they include this right over this tenant.
    pub fn allow(&self, right: Right, tenant: &TenantId) -> bool {
        self.grants.iter().any(|grant| {
            grant.gives(right)
                && match &grant.over {
                    Over::All => true,
                    Over::Some(tenants) => tenants.contains(tenant),
                }
        })
    }

    /// Whether they include this right over any tenant.
    pub fn allow_anywhere(&self, right: Right) -> bool {
        self.over(right).any(|over| *over != Over::Some(BTreeSet::new()))
    }

    /// The tenant over which they include this right, where it is a single one.
    pub fn only_tenant(&self, right: Right) -> Option<&TenantId> {
        let mut only = None;
        for over in self.over(right) {
            let Over::Some(tenants) = over else { return None };
            for tenant in tenants {
                if only.is_some_and(|other| other != tenant) {
                    return None;
                }
                only = Some(tenant);
            }
        }
        only
    }

    fn over(&self, right: Right) -> impl Iterator<Item = &Over> {
        self.grants.iter().filter(move |grant| grant.gives(right)).map(|grant| &grant.over)
    }

    /// Whether they include this right over every tenant, also over those that nobody has named yet.
    pub fn allow_everywhere(&self, right: Right) -> bool {
        self.grants.iter().any(|grant| grant.gives(right) && grant.over == Over::All)
    }
}

impl Grant {
    fn gives(&self, right: Right) -> bool {
        self.rights.contains(&right) || self.rights.contains(&Right::Admin)
    }
}

#[cfg(test)]
mod tests;
