//! A watcher of a tenant, for a while at a time.

use super::{
    between,
    calls::{Caller, failed},
};
use leasehold_checker::history::{Outcome, Told};
use leasehold_client::{WatchEvent, WatchFilter};
use rand::seq::IndexedRandom as _;

pub(super) async fn run(mut caller: Caller) {
    while !caller.load.is_over() {
        let entries = caller.load.entries.clone();
        let Some(tenant) = entries.choose(&mut caller.rng).map(|entry| entry.tenant.clone()) else { return };
        let lasting = between(&mut caller.rng, 300, 3_000);
        let longest = caller.seat.pace.patience.into_iter().max().unwrap_or_default();
        let operation = caller.begin_watch(lasting + longest);
        let mut watch = caller.handle().watch(&[WatchFilter::whole_tenant(tenant)], None);
        let mut told = Vec::new();
        let watching = async {
            while let Some(message) = watch.next().await {
                match message?.event {
                    WatchEvent::Committed(page) => {
                        let is_it = |entry: &leasehold_checker::history::Identity| {
                            (&entry.tenant, &entry.deployment, &entry.key)
                                == (&page.tenant, &page.deployment, &page.key)
                        };
                        if let Some(entry) = entries.iter().position(is_it) {
                            told.push(Told::Committed { entry, generation: page.generation });
                        }
                    }
                    WatchEvent::Invalidated(_) => told.push(Told::Invalidated),
                    WatchEvent::Resync(_) => told.push(Told::Resync),
                    _ => {}
                }
            }
            Ok(())
        };
        let ended: Result<Result<(), leasehold_client::Error>, _> =
            tokio::time::timeout(lasting, watching).await;
        let outcome = match ended {
            Ok(Err(error)) => failed(&error),
            Ok(Ok(())) | Err(_) => Outcome::Watched(told),
        };
        caller.end_watch(operation, outcome);
    }
}
