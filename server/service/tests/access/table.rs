//! Every call by everybody.

use super::*;

#[tokio::test]
async fn every_call_is_refused_to_whoever_may_not_make_it_and_then_nothing_is_read_or_written() {
    let world = World::new();
    let others = |right: Right| -> Vec<_> {
        [Right::Read, Right::Render, Right::Invalidate].into_iter().filter(|other| *other != right).collect()
    };
    let mut rules = vec![
        rule("publisher", None, Reach::All, &[Right::Admin]),
        rule("wrong-tenant", None, over("globex"), &[Right::Admin]),
        rule("admin-of-one", None, over(TENANT), &[Right::Admin]),
        rule("admin-of-all", None, Reach::All, &[Right::Admin]),
        rule("all-but-admin", None, Reach::All, &[Right::Read, Right::Render, Right::Invalidate]),
    ];
    for right in [Right::Read, Right::Render, Right::Invalidate] {
        let name = right.as_str();
        rules.push(rule(&format!("has-{name}"), None, over(TENANT), &[right]));
        rules.push(rule(&format!("lacks-{name}"), None, over(TENANT), &others(right)));
    }
    let names = [
        "publisher",
        "wrong-tenant",
        "admin-of-one",
        "admin-of-all",
        "all-but-admin",
        "has-read",
        "has-render",
        "has-invalidate",
        "lacks-read",
        "lacks-render",
        "lacks-invalidate",
        "without-a-rule",
    ];
    let guard = Guard::new(Names::knowing(&names), policy(rules), Arc::<TestClock>::clone(&world.clock));
    let node = world.start_guarded(guard).await;
    let about = publish(&node, "publisher", TENANT, "the page").await;
    let entry = v1::EntryRef { tenant: String::new(), ..about.entry.clone() };
    let unnamed = About { entry, tenant: String::new(), ..about.clone() };

    for call in Call::ALL {
        let right = call.right();
        let denied = Some((Code::PermissionDenied, "PERMISSION_DENIED"));
        let unknown = Some((Code::Unauthenticated, "UNAUTHENTICATED"));
        let bearer = |name: &str| vec![("authorization", format!("Bearer {name}"))];
        let (has, lacks) = match right {
            Right::Admin => ("admin-of-all".to_owned(), "all-but-admin".to_owned()),
            right => (format!("has-{}", right.as_str()), format!("lacks-{}", right.as_str())),
        };
        let is_everything = call == Call::InvalidateEverything;
        let table = [
            (vec![], &about, unknown),
            (bearer("nobody"), &about, unknown),
            (vec![("authorization", format!("Basic {has}"))], &about, unknown),
            (vec![("authorization", has.clone())], &about, unknown),
            (vec![("authorization", format!("Bearer {has}, Bearer {has}"))], &about, unknown),
            ([bearer(&has), bearer(&has)].concat(), &about, unknown),
            (bearer("without-a-rule"), &about, denied),
            (bearer("wrong-tenant"), &about, denied),
            (bearer(&lacks), &about, denied),
            (bearer("admin-of-one"), &about, denied.filter(|_| is_everything)),
            (bearer("admin-of-all"), &about, None),
            (bearer(&has), &about, None),
            // Without a tenant it is the one that nobody owns, to which these have no right.
            (bearer("admin-of-one"), &unnamed, denied),
        ];
        for (headers, about, refused) in table {
            let before = node.counts();
            let pairs: Vec<_> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
            let answer = call.make(presenting(&node, &pairs), about).await;
            let case = format!("{call:?} with {pairs:?}");
            match refused {
                Some((code, reason)) => {
                    let status = assert_refused(answer, code, reason);
                    assert_eq!(node.counts(), before, "{case}: the store was asked");
                    assert!(!format!("{status:?}").contains("nobody"), "{case}: {status:?}");
                    if code == Code::PermissionDenied {
                        assert_eq!(metadata(&status, "right").as_deref(), Some(right.as_str()), "{case}");
                    }
                }
                None => {
                    let code = answer.err().map(|status| status.code());
                    // What is wrong with it otherwise is told to those only who may know.
                    assert!(
                        !matches!(code, Some(Code::PermissionDenied | Code::Unauthenticated)),
                        "{case}: {code:?}"
                    );
                }
            }
            if refused.is_none()
                && matches!(call, Call::Invalidate | Call::InvalidateEverything | Call::Acquire)
            {
                // So that the next one finds the same page again.
                publish_again(&node, &about.entry).await;
            }
        }
    }
}

async fn publish_again(node: &Coordinator, page: &v1::EntryRef) {
    let mut client = client_as(node, "publisher");
    let asked = acquire(page);
    let outcome = soon(client.acquire_lease(asked.clone())).await.expect("an acquire").into_inner().outcome;
    if let Some(v1::acquire_lease_response::Outcome::Granted(grant)) = outcome {
        soon(client.commit_pointer(Render::of(&asked, grant).page("the page"))).await.expect("a commit");
    }
}

#[tokio::test]
async fn without_a_guard_everybody_may_do_everything() {
    let world = World::new();
    let node = world.start().await;
    let about = publish(&node, "anybody", TENANT, "the page").await;
    for call in Call::ALL {
        let code = call.make(presenting(&node, &[]), &about).await.err().map(|status| status.code());
        assert!(!matches!(code, Some(Code::PermissionDenied | Code::Unauthenticated)), "{call:?}: {code:?}");
    }
}

#[tokio::test]
async fn health_and_reflection_answer_whoever_asks() {
    let world = World::new();
    let guard = Guard::new(Names::knowing(&[]), Policy::default(), Arc::<TestClock>::clone(&world.clock));
    let node = world.start_guarded(guard).await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(node.channel());
    let request = tonic_health::pb::HealthCheckRequest { service: String::new() };
    assert_eq!(soon(health.check(request)).await.unwrap().into_inner().status, 1);
}
