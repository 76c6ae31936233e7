//! Callers known by their certificates, and certificates that are replaced.

use super::{
    authority::{Authority, Certified},
    *,
};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const RENDERER: &str = "spiffe://shop/acme/render";

pub(crate) fn install(world: &World, authority: &Authority) {
    let Certified { certificate, key } = authority.server();
    world.write("key.pem", &key);
    world.write("cert.pem", &certificate);
    world.write("ca.pem", &authority.pem);
}

async fn world(authority: &Authority) -> World {
    let mut world = World::new();
    install(&world, authority);
    world
        .start("--auth mtls --policy @/policy.toml --tls-cert @/cert.pem --tls-key @/key.pem --tls-client-ca @/ca.pem")
        .await;
    world
}

fn presenting(authority: &Authority, client: Certified) -> Security {
    Security::default().ca_pem(&authority.pem).client_certificate_pem(client.certificate, client.key)
}

#[tokio::test]
async fn callers_may_do_what_their_certificate_says() {
    let authority = Authority::new();
    let world = world(&authority).await;
    let table = [
        (authority.client(RENDERER), MAY_BOTH),
        (authority.client("reader.shop"), MAY_READ),
        (authority.client("spiffe://shop/globex/render"), DENIED),
        (authority.client("spiffe://shop/acme/render/more"), DENIED),
        (authority.client("spiffe://other/acme/render"), DENIED),
        (authority.client("other.shop"), DENIED),
    ];
    for (client, expected) in table {
        let caller = world.caller(presenting(&authority, client));
        assert_eq!(tried(&caller).await, expected);
    }
    world.stop().await;
}

#[tokio::test]
async fn whoever_cannot_prove_who_he_is_gets_no_connection() {
    let authority = Authority::new();
    let world = world(&authority).await;
    let foreign = Authority::new();
    let refused = [
        ("expired", presenting(&authority, authority.expired(RENDERER))),
        ("of another authority", presenting(&authority, foreign.client(RENDERER))),
        ("none", Security::default().ca_pem(&authority.pem)),
    ];
    for (which, security) in refused {
        let caller = Coordinator::builder()
            .endpoint(world.endpoint())
            .overall_timeout(Duration::from_secs(2))
            .security(security)
            .build()
            .unwrap();
        let error = caller.lookup(&page_of("acme"), &LookupOptions::default()).await.unwrap_err();
        assert!(error.reason().is_none(), "{which}: {error:?}");
    }
    // And who does not believe the coordinator does not speak to it.
    for security in [
        presenting(&foreign, authority.client(RENDERER)),
        presenting(&authority, authority.client(RENDERER)).server_name("elsewhere"),
    ] {
        let caller = Coordinator::builder()
            .endpoint(world.endpoint())
            .overall_timeout(Duration::from_secs(2))
            .security(security)
            .build()
            .unwrap();
        assert!(caller.lookup(&page_of("acme"), &LookupOptions::default()).await.is_err());
    }
    world.stop().await;
}

#[tokio::test]
async fn a_connection_whose_certificate_is_over_is_replaced_by_one_with_the_next() {
    let authority = Authority::new();
    let world = world(&authority).await;
    let install = |client: &Certified| {
        world.write("client.key", &client.key);
        world.write("client.pem", &client.certificate);
    };
    let short = authority.short_lived(RENDERER, Duration::from_secs(4));
    install(&short);
    let files = Security::default()
        .ca_pem(&authority.pem)
        .client_certificate_files(world.path("client.pem"), world.path("client.key"));
    // Both are connected; one has nothing else to present.
    let (renewing, lasting) = (world.caller(files), world.caller(presenting(&authority, short)));
    assert_eq!((tried(&renewing).await, tried(&lasting).await), (MAY_BOTH, MAY_BOTH));
    install(&authority.client(RENDERER));
    let over = async {
        while lasting.lookup(&page_of("acme"), &LookupOptions::default()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, over).await.expect("it is never over");
    assert_eq!(tried(&renewing).await, MAY_BOTH);
    world.stop().await;
}

/// Every certificate is replaced, and then its authority: first both are believed, then all certificates are of the new one,
/// then it alone is believed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_replaced_under_load_without_a_request_that_fails() {
    let (old, new) = (Authority::new(), Authority::new());
    let world = world(&old).await;
    let client = |authority: &Authority| {
        let Certified { certificate, key } = authority.client(RENDERER);
        world.write("client.key", &key);
        world.write("client.pem", &certificate);
    };
    client(&old);
    world.write("believed.pem", &old.pem);
    let security = Security::default()
        .ca_file(world.path("believed.pem"))
        .client_certificate_files(world.path("client.pem"), world.path("client.key"));
    let (stop, calls, failures) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let load = async {
        let lasting = world.caller(security.clone());
        while !stop.load(Ordering::Relaxed) {
            // One connection that lasts, and a new one each time.
            for caller in [lasting.clone(), world.caller(security.clone())] {
                let answer = caller.lookup(&page_of("acme"), &LookupOptions::default()).await;
                calls.fetch_add(1, Ordering::Relaxed);
                if let Err(error) = answer {
                    eprintln!("{error:?}");
                    failures.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    };
    let rotation = async {
        let both = format!("{}{}", old.pem, new.pem);
        let settled = || async {
            // Several looks at the files, and calls meanwhile.
            let before = calls.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(500)).await;
            while calls.load(Ordering::Relaxed) < before + 20 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        settled().await;
        world.write("believed.pem", &both);
        world.write("ca.pem", &both);
        settled().await;
        let Certified { certificate, key } = new.server();
        world.write("cert.pem", &certificate);
        world.write("key.pem", &key);
        client(&new);
        settled().await;
        world.write("believed.pem", &new.pem);
        world.write("ca.pem", &new.pem);
        settled().await;
        stop.store(true, Ordering::Relaxed);
    };
    let both = async { tokio::join!(load, rotation) };
    tokio::time::timeout(4 * PATIENCE, both).await.expect("the load has ended");
    assert_eq!(failures.load(Ordering::Relaxed), 0, "of {} calls", calls.load(Ordering::Relaxed));
    assert!(calls.load(Ordering::Relaxed) >= 80);
    // The old authority is believed no more.
    let caller = Coordinator::builder()
        .endpoint(world.endpoint())
        .overall_timeout(Duration::from_secs(2))
        .security(presenting(&new, old.client(RENDERER)))
        .build()
        .unwrap();
    assert!(caller.lookup(&page_of("acme"), &LookupOptions::default()).await.is_err());
    world.stop().await;
}
