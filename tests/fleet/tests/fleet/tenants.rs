//! Two tenants with the same site, on one coordinator.

use leasehold_client::{Depth, EntryRef, LookupOptions, Scope};
use leasehold_fleet::{CoordinatorProcess, SiteOptions, SiteProcess};

const SIDECAR_PARAM: &str = "__facetheory_isr_hydration=";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_with_the_same_content_share_no_page() {
    let coordinator = CoordinatorProcess::start().await;
    let (acme, globex) = (of(&coordinator, "acme").await, of(&coordinator, "globex").await);
    let acmes = acme.get("/about").await;
    let globexes = globex.get("/about").await;
    assert_eq!((acmes.state.as_str(), globexes.state.as_str()), ("miss", "miss"));
    assert!(acmes.body.contains("rendered by acme") && globexes.body.contains("rendered by globex"));
    assert_eq!(acme.get("/about").await.body, acmes.body);

    // Whose page it is, is not for a visitor to say.
    let claim = [("x-tenant-id", "globex")];
    let claimed = acme.visitor().get_with("/about", &claim).await.expect("an answer");
    assert_eq!((claimed.state.as_str(), &claimed.body), ("hit", &acmes.body));

    let editor = coordinator.client("editor");
    let token = editor.invalidate(&[Scope::whole_tenant("acme")], Depth::Hard).await.expect("invalidated");
    let seen = LookupOptions { consistency_token: Some(token), ..Default::default() };
    editor.lookup(&EntryRef::key("any").tenant("acme"), &seen).await.expect("the log is read that far");
    assert_eq!(acme.get("/about").await.state, "miss");
    let untouched = globex.get("/about").await;
    assert_eq!((untouched.state.as_str(), &untouched.body), ("hit", &globexes.body));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecar_token_of_one_tenant_or_page_is_not_found_for_another() {
    let coordinator = CoordinatorProcess::start().await;
    let (acme, globex) = (of(&coordinator, "acme").await, of(&coordinator, "globex").await);
    let acmes = acme.get("/about").await;
    for other in [globex.get("/about").await, globex.get("/").await, acme.get("/").await] {
        assert_eq!(other.state, "miss");
    }
    let token = acmes.body.split_once(SIDECAR_PARAM).and_then(|(_, rest)| rest.split('"').next());
    let token = token.unwrap_or_else(|| panic!("no sidecar's URL in {}", acmes.body));
    let sidecar = acme.get(&format!("/about?{SIDECAR_PARAM}{token}")).await;
    assert_eq!(sidecar.status, 200);
    assert!(sidecar.body.contains("\"path\":\"/about\"") && sidecar.body.contains("rendered by acme"));

    let unknown = acme.get(&format!("/about?{SIDECAR_PARAM}bm9uZQ")).await;
    assert_eq!(unknown.status, 404);
    for (site, page) in [(&globex, "/about"), (&globex, "/"), (&acme, "/")] {
        let refused = site.get(&format!("{page}?{SIDECAR_PARAM}{token}")).await;
        assert_eq!((refused.status, &refused.body), (404, &unknown.body), "{page}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenant_header_is_refused_by_a_site_that_declares_no_tenant() {
    let coordinator = CoordinatorProcess::start().await;
    let site = SiteProcess::start(&coordinator, SiteOptions::default()).await;
    let claim = [("x-tenant-id", "acme")];
    let refused = site.visitor().get_with("/about", &claim).await.expect("an answer");
    assert_eq!((refused.status, refused.state.as_str()), (400, ""));
    assert_eq!((site.get("/about").await.state.as_str(), site.renders().await), ("miss", 1));
}

async fn of(coordinator: &CoordinatorProcess, tenant: &'static str) -> SiteProcess {
    let options = SiteOptions { worker: tenant, tenant: Some(tenant), ..Default::default() };
    SiteProcess::start(coordinator, options).await
}
