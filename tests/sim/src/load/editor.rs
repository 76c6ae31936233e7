//! An editor: changes things, and says so.

use super::{between, calls::Caller, one_in, some_scope};
use rand::Rng as _;

pub(super) async fn run(mut caller: Caller) {
    while !caller.load.is_over() {
        tokio::time::sleep(between(&mut caller.rng, 20, 1_400)).await;
        let many = if one_in(&mut caller.rng, 4) { caller.rng.random_range(2..5) } else { 1 };
        let entries = caller.load.entries.clone();
        let scopes: Vec<_> = (0..many).map(|_| some_scope(&mut caller.rng, &entries)).collect();
        let hard = one_in(&mut caller.rng, 4);
        let id = caller.a_request_id();
        if one_in(&mut caller.rng, 6) {
            futures::join!(caller.invalidate(0, id, &scopes, hard), caller.invalidate(1, id, &scopes, hard));
        } else {
            caller.invalidate(0, id, &scopes, hard).await;
        }
    }
}
