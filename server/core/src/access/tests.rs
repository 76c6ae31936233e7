use super::*;
use proptest::prelude::*;

fn principal(name: &str) -> Principal {
    Principal::parse(name).unwrap()
}

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

fn rule(pattern: &str, own: Option<TenantRef>, tenants: Reach, rights: &[Right]) -> Rule {
    Rule { principal: Pattern::parse(pattern).unwrap(), own, tenants, rights: rights.into() }
}

fn named(names: &[&str]) -> Reach {
    Reach::Some(names.iter().map(|name| TenantRef::Named(tenant(name))).collect())
}

#[test]
fn a_pattern_fits_in_one_way() {
    let table: [(&str, &str, Option<Option<&str>>); 25] = [
        ("ops", "ops", Some(None)),
        ("ops", "opsx", None),
        ("ops", "op", None),
        ("ops*", "ops", Some(None)),
        ("ops*", "ops-7/x", Some(None)),
        ("*", "anybody", Some(None)),
        ("render-{tenant}", "render-acme", Some(Some("acme"))),
        ("render-{tenant}", "render-", None),
        ("render-{tenant}", "render-a/b", None),
        ("render-{tenant}", "Render-acme", None),
        ("render-{tenant}", "render-acme-2", Some(Some("acme-2"))),
        ("{tenant}-render", "acme-render", Some(Some("acme"))),
        // The tenant's name ends at the first dash, and so this is nobody's: it cannot be read in two ways.
        ("{tenant}-render", "a-b-render", None),
        ("{tenant}.render.internal", "acme.render.internal", Some(Some("acme"))),
        ("{tenant}.render.internal", "acme.evil.render.internal", None),
        ("{tenant}.render.internal", "acme.render.internal.evil", None),
        ("spiffe://shop/t/{tenant}/*", "spiffe://shop/t/acme/render/1", Some(Some("acme"))),
        ("spiffe://shop/t/{tenant}/*", "spiffe://shop/t/acme", None),
        ("spiffe://shop/t/{tenant}/*", "spiffe://shop/t//render", None),
        ("spiffe://shop/t/{tenant}/render", "spiffe://shop/t/acme/x/render", None),
        ("spiffe://shop/t/{tenant}", "spiffe://shop/t/acme/x", None),
        ("spiffe://shop/t/{tenant}", "spiffe://shop.evil/t/acme", None),
        // Whose pages are nobody's own.
        ("render-{tenant}", "render-default", None),
        ("render-{tenant}", "render-Default", Some(Some("Default"))),
        ("{tenant}é", "acmeé", Some(Some("acme"))),
    ];
    for (pattern, name, expected) in table {
        let fit = Pattern::parse(pattern).unwrap().fit(&principal(name));
        assert_eq!(fit, expected.map(|captured| captured.map(tenant)), "{pattern} by {name}");
    }
}

#[test]
fn texts_that_are_no_patterns_are_refused() {
    let too_long = "x".repeat(MAX_PATTERN_BYTES + 1);
    let table = [
        ("", InvalidPattern::Name(InvalidName::Empty)),
        (" x", InvalidPattern::Name(InvalidName::Padded)),
        ("a\nb", InvalidPattern::Name(InvalidName::ControlCharacter(10))),
        ("a*b", InvalidPattern::StarInside),
        ("a**", InvalidPattern::StarInside),
        ("{tenant}-{tenant}", InvalidPattern::TenantTwice),
        ("{tenant}*", InvalidPattern::TenantWithoutEnd),
        ("{name}", InvalidPattern::Braces),
        ("a}", InvalidPattern::Braces),
        (&too_long, InvalidPattern::Name(InvalidName::TooLong { actual: 513, limit: 512 })),
    ];
    for (text, why) in table {
        assert_eq!(Pattern::parse(text), Err(why), "{text}");
    }
    assert!(Pattern::parse(&too_long[1..]).is_ok());
}

#[test]
fn rules_that_can_be_none_are_named_by_their_place() {
    let fine = || rule("ops", None, Reach::All, &[Right::Admin]);
    let table = [
        (
            rule("ops", None, Reach::Some(vec![TenantRef::Captured]), &[Right::Read]),
            InvalidRule::NothingCaptured,
        ),
        (rule("ops", Some(TenantRef::Captured), Reach::All, &[Right::Read]), InvalidRule::NothingCaptured),
        (rule("ops", None, Reach::Some(vec![]), &[Right::Read]), InvalidRule::NoTenant),
        (rule("ops", None, Reach::All, &[]), InvalidRule::NoRights),
    ];
    for (wrong, why) in table {
        let refused = Policy::new(vec![fine(), wrong]).unwrap_err();
        assert_eq!(refused, InvalidPolicy::Rule { place: 2, why });
    }
    assert_eq!(Policy::new(vec![fine(); MAX_RULES + 1]).unwrap_err(), InvalidPolicy::TooMany(MAX_RULES + 1));
}

#[test]
fn nobody_may_do_anything_that_no_rule_allows() {
    let nothing = Policy::default().permissions(&principal("ops"));
    for right in Right::ALL {
        assert!(!nothing.allow(right, &tenant("acme")) && !nothing.allow_everywhere(right));
    }
    assert_eq!(nothing.tenant(None), TenantId::unnamed());
}

#[test]
fn rights_are_given_over_the_tenants_of_their_rule_only() {
    let policy = Policy::new(vec![
        rule("worker", None, named(&["acme"]), &[Right::Read, Right::Render]),
        rule("worker", None, named(&["globex"]), &[Right::Read]),
        rule("editor", None, named(&["acme"]), &[Right::Admin]),
        rule("ops", None, Reach::All, &[Right::Admin]),
        rule("cdn", None, Reach::All, &[Right::Read]),
    ])
    .unwrap();
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    let table: [(&str, &TenantId, [bool; 4]); 8] = [
        ("worker", &acme, [true, true, false, false]),
        ("worker", &globex, [true, false, false, false]),
        ("editor", &acme, [true, true, true, true]),
        ("editor", &globex, [false; 4]),
        ("ops", &globex, [true; 4]),
        ("cdn", &globex, [true, false, false, false]),
        ("worker2", &acme, [false; 4]),
        ("worker", &tenant("default"), [false; 4]),
    ];
    for (name, tenant, expected) in table {
        let permissions = policy.permissions(&principal(name));
        assert_eq!(Right::ALL.map(|right| permissions.allow(right, tenant)), expected, "{name} {tenant}");
    }
    let everywhere = |name: &str| {
        let permissions = policy.permissions(&principal(name));
        Right::ALL.map(|right| permissions.allow_everywhere(right))
    };
    assert_eq!(everywhere("editor"), [false; 4]);
    assert_eq!(everywhere("cdn"), [true, false, false, false]);
    assert_eq!(everywhere("ops"), [true; 4]);
    let anywhere = |name: &str| {
        let permissions = policy.permissions(&principal(name));
        Right::ALL.map(|right| permissions.allow_anywhere(right))
    };
    assert_eq!(anywhere("worker"), [true, true, false, false]);
    assert_eq!(anywhere("editor"), [true; 4]);
    assert_eq!(anywhere("worker2"), [false; 4]);
}

#[test]
fn a_right_is_over_a_single_tenant_where_no_rule_gives_it_over_another() {
    let policy = Policy::new(vec![
        rule("worker", None, named(&["acme"]), &[Right::Read, Right::Render]),
        rule("worker", None, named(&["acme"]), &[Right::Read]),
        rule("worker", None, named(&["globex"]), &[Right::Render]),
        rule("ops", None, named(&["acme"]), &[Right::Read]),
        rule("ops", None, Reach::All, &[Right::Admin]),
    ])
    .unwrap();
    let acme = tenant("acme");
    let worker = policy.permissions(&principal("worker"));
    assert_eq!(worker.only_tenant(Right::Read), Some(&acme));
    assert_eq!(worker.only_tenant(Right::Render), None);
    assert_eq!(worker.only_tenant(Right::Invalidate), None);
    assert_eq!(policy.permissions(&principal("ops")).only_tenant(Right::Read), None);
}

#[test]
fn requests_without_a_tenant_are_of_the_principals_own() {
    let policy = Policy::new(vec![
        rule("render-{tenant}", Some(TenantRef::Captured), Reach::Some(vec![]), &[Right::Render]),
        rule("render-acme", Some(TenantRef::Named(tenant("later"))), Reach::Some(vec![]), &[Right::Read]),
        rule("shared", None, named(&["default"]), &[Right::Read]),
    ])
    .unwrap();
    let worker = policy.permissions(&principal("render-acme"));
    assert_eq!(worker.tenant(None), tenant("acme"));
    assert_eq!(worker.tenant(Some(tenant("globex"))), tenant("globex"));
    assert!(worker.allow(Right::Render, &tenant("acme")) && !worker.allow(Right::Render, &tenant("globex")));
    assert!(!worker.allow(Right::Render, &TenantId::unnamed()));
    assert!(policy.permissions(&principal("shared")).allow(Right::Read, &TenantId::unnamed()));
}

proptest! {
    /// Whatever a tenant is called, the rule for tenants' own pages reaches that tenant, and no other.
    #[test]
    fn a_captured_name_is_that_of_the_tenant_and_of_no_other(name in "\\PC{1,12}", other in "\\PC{1,12}") {
        let policy = Policy::new(vec![rule(
            "spiffe://shop/{tenant}/render",
            Some(TenantRef::Captured),
            Reach::Some(vec![]),
            &[Right::Render],
        )])
        .unwrap();
        let Ok(principal) = Principal::parse(&format!("spiffe://shop/{name}/render")) else { return Ok(()) };
        let permissions = policy.permissions(&principal);
        let reached = TenantId::parse(&name).is_ok_and(|tenant| permissions.allow(Right::Render, &tenant));
        prop_assert_eq!(
            reached,
            TenantId::parse(&name).is_ok() && !name.contains('/') && name != "default"
        );
        if other != name && let Ok(other) = TenantId::parse(&other) {
            prop_assert!(!permissions.allow(Right::Render, &other));
        }
    }
}
