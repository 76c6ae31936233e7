//! Static tokens.

use super::*;

const RENDERER: &str = "the-token-of-the-renderer-of-acme";
const OTHER: &str = "the-token-of-the-renderer-of-globex";
const READER: &str = "the-token-of-the-reader-of-acme";
const STRANGER: &str = "the-token-of-whom-no-rule-is-for";

pub(crate) fn tokens(pairs: &[(&str, &str)]) -> String {
    let token = |(principal, secret): &(&str, &str)| {
        format!("[[token]]\nprincipal = \"{principal}\"\nsecret = \"{secret}\"\n")
    };
    pairs.iter().map(token).collect()
}

async fn world() -> World {
    let mut world = World::new();
    let known =
        [("render-acme", RENDERER), ("render-globex", OTHER), ("reader", READER), ("stranger", STRANGER)];
    world.write("tokens.toml", &tokens(&known));
    world.start("--auth token --policy @/policy.toml --tokens @/tokens.toml").await;
    world
}

fn presenting(token: &str) -> Security {
    Security::default().token(token)
}

#[tokio::test]
async fn callers_may_do_what_their_token_says() {
    let world = world().await;
    let table = [
        (Security::default(), UNKNOWN),
        (presenting("a-token-that-nobody-knows-here"), UNKNOWN),
        (presenting(STRANGER), DENIED),
        (presenting(OTHER), DENIED),
        (presenting(READER), MAY_READ),
        (presenting(RENDERER), MAY_BOTH),
    ];
    for (security, expected) in table {
        assert_eq!(tried(&world.caller(security.clone())).await, expected, "{security:?}");
    }
    // Whose it is need not be said.
    let own = EntryRef::key("page");
    let acquired =
        world.caller(presenting(RENDERER)).acquire(&own, &AcquireOptions::default()).await.unwrap();
    assert!(matches!(acquired, Acquire::Granted(_)));
    let held = world.caller(presenting(READER)).acquire(&page_of("acme"), &AcquireOptions::default()).await;
    assert_eq!(why(held.map(drop)), Some(Reason::PermissionDenied));
    world.stop().await;
}

#[tokio::test]
async fn tokens_and_policy_change_while_calls_go_on() {
    let world = world().await;
    let (renderer, reader) = (world.caller(presenting(RENDERER)), world.caller(presenting(READER)));
    assert_eq!(tried(&renderer).await, MAY_BOTH);
    // What cannot be used changes nothing: by the next change it is known to have been looked at.
    world.write("policy.toml", "[[rule]]\nprincipal = ");
    world.write("tokens.toml", &tokens(&[("reader", READER)]));
    becomes(&renderer, UNKNOWN).await;
    assert_eq!(tried(&reader).await, MAY_READ);

    world.write("tokens.toml", &tokens(&[("reader", READER), ("render-acme", RENDERER)]));
    becomes(&renderer, MAY_BOTH).await;
    world.write("policy.toml", "[[rule]]\nprincipal = \"reader\"\ntenants = [\"*\"]\nrights = [\"admin\"]\n");
    becomes(&renderer, DENIED).await;
    assert_eq!(tried(&reader).await, MAY_BOTH);
    // To take everything away is a change as any other.
    world.write("policy.toml", "");
    becomes(&reader, DENIED).await;
    world.write("tokens.toml", "");
    becomes(&reader, UNKNOWN).await;
    world.stop().await;
}

#[tokio::test]
async fn a_token_that_was_refused_is_renewed_by_its_file_and_by_its_function() {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };
    let world = world().await;
    world.write("token", &format!("{RENDERER}\n"));
    let by_file = world.caller(Security::default().token_file(world.path("token")));
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let by_function = world.caller(Security::default().token_by(move || {
        let number = counted.fetch_add(1, Ordering::Relaxed);
        async move { Ok(leasehold_client::Token::new(if number == 0 { RENDERER } else { OTHER })) }
    }));
    for caller in [&by_file, &by_function] {
        assert_eq!(tried(caller).await, MAY_BOTH);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);

    let next = "the-next-token-of-the-renderer-of-acme";
    world.write("token", next);
    world.write("tokens.toml", &tokens(&[("render-acme", next), ("render-acme", OTHER), ("reader", READER)]));
    becomes(&world.caller(presenting(RENDERER)), UNKNOWN).await;
    // One call is enough: it is refused, asks for another token, and comes again.
    for caller in [&by_file, &by_function] {
        assert_eq!(tried(caller).await, MAY_BOTH);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    world.stop().await;
}

#[tokio::test]
async fn a_call_without_a_token_to_present_is_not_sent() {
    let world = world().await;
    let missing = world.caller(Security::default().token_file(world.path("missing")));
    assert_eq!(tried(&missing).await, UNKNOWN);
    let failing = world.caller(Security::default().token_by(|| async { Err("no network".into()) }));
    let error = failing.lookup(&page_of("acme"), &LookupOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("no network") && !error.may_have_been_applied(), "{error}");
    world.stop().await;
}

#[tokio::test]
async fn a_watch_goes_on_with_the_next_token() {
    let world = world().await;
    let next = "the-next-token-of-the-renderer-of-acme";
    let tokens_given = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = tokens_given.clone();
    let caller = world.caller(Security::default().token_by(move || {
        let first = counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        async move { Ok(leasehold_client::Token::new(if first { RENDERER } else { next })) }
    }));
    let mut watch = caller.watch(&[leasehold_client::WatchFilter::whole_tenant("acme")], None);
    let started = leasehold_client::WatchEvent::Started;
    assert_eq!(watch.next().await.unwrap().unwrap().event, started);
    // What it was opened with is over: it is opened again with what holds now, without a word to its reader.
    world.write("tokens.toml", &tokens(&[("render-acme", next)]));
    let again = tokio::time::timeout(PATIENCE, watch.next()).await.expect("a message").unwrap().unwrap();
    assert_eq!(again.event, started);
    assert_eq!(tokens_given.load(std::sync::atomic::Ordering::Relaxed), 2);
    world.stop().await;
}
