//! Attempts to reach another tenant: by its name in every place where a name can be, by names that look like it, by what is
//! between names in stored keys, by its tokens, and by headers.

use super::*;

const SECRET: &str = "the secret of globex";

/// What a name of the victim may be written as.
const DISGUISES: [&str; 26] = [
    "globex",
    "Globex",
    "GLOBEX",
    "glоbex",       // Cyrillic о
    "ｇｌｏｂｅｘ", // full width
    "globex\u{200d}",
    "\u{feff}globex",
    "globex\u{301}",
    "globe\u{78}",
    "acme/globex",
    "globex/acme",
    "acme#globex",
    "acme::globex",
    "globex::page?",
    "acme#CACHE#globex",
    "TENANT#globex",
    "TENANT#globex#CACHE#page",
    "../globex",
    "acme/../globex",
    "%67lobex",
    "globex%00",
    "globex;acme",
    "globex,acme",
    "*",
    "{tenant}",
    "default",
];

async fn two_tenants(world: &World) -> (Coordinator, About) {
    let own = |name: &str| TenantRef::Named(TenantId::parse(name).expect("a tenant"));
    let rules = vec![
        rule("acme", Some(own("acme")), Reach::Some(vec![]), &[Right::Admin]),
        rule("globex", Some(own("globex")), Reach::Some(vec![]), &[Right::Admin]),
    ];
    let names = Names::knowing(&["acme", "globex"]);
    let guard = Guard::new(names, policy(rules), Arc::<TestClock>::clone(&world.clock));
    let node = world.start_guarded(guard).await;
    let victim = publish(&node, "globex", "globex", SECRET).await;
    publish(&node, "acme", "acme", "a page of acme").await;
    (node, victim)
}

/// One attempt. Whatever it says, it must not say the secret.
async fn attempt(node: &Coordinator, call: Call, headers: &[(&'static str, &str)], about: &About, why: &str) {
    let answer = call.make(presenting(node, headers), about).await;
    let told = match answer {
        Ok(told) => told,
        Err(status) => format!("{status:?} {}", String::from_utf8_lossy(status.details())),
    };
    assert!(!told.contains("secret of globex"), "{call:?} by {why}: {told}");
}

#[tokio::test]
async fn no_attempt_reaches_another_tenant() {
    let world = World::new();
    let (node, victim) = two_tenants(&world).await;
    let acme: &[(&str, &str)] = &[("authorization", "Bearer acme")];
    let before = client_as(&node, "globex").lookup(lookup(&victim.entry)).await.unwrap().into_inner();
    let mut watch = {
        let filter = Filter::WholeTenant(v1::WholeTenant {});
        let filters = vec![v1::WatchFilter { tenant: String::new(), filter: Some(filter) }];
        let request = v1::WatchRequest { filters, resume_token: String::new() };
        soon(client_as(&node, "acme").watch(request)).await.expect("a watch").into_inner()
    };
    let mut attempts = 0;

    // By the name of the tenant, in every call.
    for name in DISGUISES {
        let entry = v1::EntryRef { tenant: name.to_owned(), ..victim.entry.clone() };
        let about = About { entry, tenant: name.to_owned(), ..victim.clone() };
        for call in Call::ALL {
            attempt(&node, call, acme, &about, name).await;
            attempts += 1;
        }
    }
    // By the key, the deployment, the sidecar's token and the name of the body, in one's own tenant.
    for name in DISGUISES {
        for (key, deployment) in [
            (name.to_owned(), String::new()),
            (format!("{name}::page?"), String::new()),
            ("page".to_owned(), name.to_owned()),
            (format!("page\u{2028}{name}"), String::new()),
        ] {
            let about = About {
                entry: entry_of("", &deployment, &key),
                tenant: String::new(),
                sidecar: victim.sidecar.clone(),
                object: format!("isr/{name}/{}", victim.object),
            };
            for call in [Call::Lookup, Call::Acquire, Call::Sidecar, Call::Object, Call::Page] {
                attempt(&node, call, acme, &about, &format!("key {key:?}, deployment {deployment:?}")).await;
                attempts += 1;
            }
        }
    }
    // By what is the victim's, as one's own.
    let stolen = About {
        entry: v1::EntryRef { tenant: String::new(), ..victim.entry.clone() },
        tenant: String::new(),
        ..victim.clone()
    };
    for call in Call::ALL {
        if call.right() == Right::Read {
            attempt(&node, call, acme, &stolen, "what is the victim's").await;
            attempts += 1;
        }
    }
    // By headers: of the request, of the page's request, and of the call.
    for (name, value) in [
        ("x-tenant-id", "globex"),
        ("x-facetheory-tenant", "globex"),
        ("tenant", "globex"),
        ("x-forwarded-user", "globex"),
        ("x-forwarded-client-cert", "URI=spiffe://shop/globex"),
        ("authorization", "Bearer globexx"),
        ("authorization", "bearer  globex extra"),
        ("x-amzn-oidc-identity", "globex"),
    ] {
        for call in Call::ALL {
            let headers = [("authorization", "Bearer acme"), (name, value)];
            attempt(&node, call, &headers, &stolen, name).await;
            let request = v1::PageRequest {
                route: "/page".to_owned(),
                headers: vec![v1::NameValues { name: name.to_owned(), values: vec![value.to_owned()] }],
                ..Default::default()
            };
            let entry =
                v1::EntryRef { name: Some(v1::entry_ref::Name::Request(request)), ..stolen.entry.clone() };
            attempt(&node, call, acme, &About { entry, ..stolen.clone() }, name).await;
            attempts += 2;
        }
    }
    // By scopes of one invalidation and filters of one watch of which one only is another's.
    for (tenant, scope) in [
        ("globex", Scope::Tag("news".to_owned())),
        ("globex", Scope::PathPrefix("/".to_owned())),
        ("globex", Scope::Key("page".to_owned())),
        ("globex", Scope::Deployment("blue".to_owned())),
        ("", Scope::Everything(v1::Everything {})),
    ] {
        let scopes = [scope_of("", Scope::Tag("mine".to_owned())), scope_of(tenant, scope)];
        let refused = client_as(&node, "acme").invalidate(purge(scopes)).await.map(drop);
        assert_refused(refused, Code::PermissionDenied, "PERMISSION_DENIED");
        attempts += 1;
    }
    for filter in [
        Filter::WholeTenant(v1::WholeTenant {}),
        Filter::Tag("news".to_owned()),
        Filter::Key("page".to_owned()),
    ] {
        let filters = vec![
            v1::WatchFilter { tenant: String::new(), filter: Some(filter.clone()) },
            v1::WatchFilter { tenant: "globex".to_owned(), filter: Some(filter) },
        ];
        let request = v1::WatchRequest { filters, resume_token: String::new() };
        assert_refused(
            client_as(&node, "acme").watch(request).await.map(drop),
            Code::PermissionDenied,
            "PERMISSION_DENIED",
        );
        attempts += 1;
    }

    assert!(attempts >= 200, "{attempts} attempts");
    // Nothing has changed for the victim,
    let after = client_as(&node, "globex").lookup(lookup(&victim.entry)).await.unwrap().into_inner();
    assert_eq!(seen(&after), seen(&before));
    let page = client_as(&node, "globex").lookup(lookup_with_body(&victim.entry)).await.unwrap().into_inner();
    assert_eq!(html_of(page_of(&page)), Some(SECRET));
    // and who watches his own pages hears of these only: of what he invalidated himself.
    publish_once_more(&node).await;
    loop {
        let message = soon(watch.message()).await.expect("a message").expect("goes on");
        let told = format!("{:?}", message.event);
        assert!(!told.contains("globex"), "{told}");
        if told.contains("the last word") {
            break;
        }
    }
}

async fn publish_once_more(node: &Coordinator) {
    let own = scope_of("", Scope::Tag("the last word".to_owned()));
    soon(client_as(node, "acme").invalidate(invalidation([own]))).await.expect("an invalidation");
}
