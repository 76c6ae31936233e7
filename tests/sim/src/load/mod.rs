//! What is asked of the system: workers that render, readers, editors and watchers, each as random as its seed.

mod calls;
mod editor;
mod reader;
mod watcher;
mod worker;

pub use calls::Caller;

use crate::{
    checker::history::{Identity, Scope},
    machine::{Address, Context, Software},
    recorder::Recorder,
};
use futures::{FutureExt as _, future::BoxFuture};
use leasehold_client::{ConsistencyToken, EntryRef};
use parking_lot::Mutex;
use rand::{Rng, rngs::StdRng, seq::IndexedRandom as _};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// What all who ask have in common. Clones share it.
#[derive(Clone)]
pub struct Load {
    /// What is asked for.
    pub entries: Arc<[Identity]>,
    /// Whom to ask.
    pub coordinators: Arc<[Address]>,
    /// Where it is written down.
    pub recorder: Recorder,
    /// What they tell each other, past the system: the tokens of invalidations, by the number of the operation.
    tokens: Arc<Mutex<Vec<(usize, ConsistencyToken)>>>,
    /// Whether renders still fail, and workers still walk away.
    calm: Arc<AtomicBool>,
    /// Whether nobody begins anything new.
    over: Arc<AtomicBool>,
}

/// The longest lease that is asked for, in milliseconds.
pub const LONGEST_LEASE: u64 = 800;
/// The longest render while there are faults, in milliseconds.
pub const LONGEST_RENDER: u64 = 900;
/// The longest render when all is calm, in milliseconds.
pub const LONGEST_CALM_RENDER: u64 = 100;
/// Tags that pages carry.
const TAGS: [&str; 3] = ["news", "sport", "layout"];

impl Load {
    /// On these entries, by way of these coordinators.
    pub fn new(entries: Vec<Identity>, coordinators: Vec<Address>, recorder: Recorder) -> Self {
        Self {
            entries: entries.into(),
            coordinators: coordinators.into(),
            recorder,
            tokens: Arc::default(),
            calm: Arc::default(),
            over: Arc::default(),
        }
    }

    /// From now on no render fails, none takes long, and nobody walks away from a lease.
    pub fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    /// From now on, what was begun is finished, and nothing else.
    pub fn finish(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Renders pages, so many at a time.
    pub fn worker(&self, tasks: u64) -> Software {
        self.software(move |load, context| {
            (0..tasks).map(|number| worker::run(Caller::new(load, context, number)).boxed()).collect()
        })
    }

    /// Looks pages up in every way that there is.
    pub fn reader(&self) -> Software {
        self.software(|load, context| {
            let caller = |number| Caller::new(load, context, number);
            vec![
                reader::one_by_one(caller(0)).boxed(),
                reader::many_at_once(caller(1)).boxed(),
                watcher::run(caller(2)).boxed(),
            ]
        })
    }

    /// Invalidates.
    pub fn editor(&self) -> Software {
        self.software(|load, context| vec![editor::run(Caller::new(load, context, 0)).boxed()])
    }

    /// Looks at every entry once, when all is over, and ends.
    pub fn auditor(&self) -> Software {
        let load = self.clone();
        Box::new(move |context| Box::pin(reader::audit(Caller::new(&load, &context, 0))))
    }

    /// Starts tasks, and stays until the machine stops.
    fn software(&self, tasks: impl Fn(&Self, &Context) -> Vec<BoxFuture<'static, ()>> + 'static) -> Software {
        let load = self.clone();
        Box::new(move |context| {
            let tasks = tasks(&load, &context);
            // Each in a task of its own, as in a program.
            Box::pin(async move {
                let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
                drop(futures::future::join_all(tasks).await);
            })
        })
    }

    fn token(&self, rng: &mut StdRng) -> Option<(usize, ConsistencyToken)> {
        let tokens = self.tokens.lock();
        // A recent one: those are the ones that some coordinator may not have heard of.
        let recent = tokens.len().saturating_sub(4)..tokens.len();
        if recent.is_empty() { None } else { Some(tokens[rng.random_range(recent)].clone()) }
    }
}

/// As the client names it.
pub fn named(identity: &Identity) -> EntryRef {
    let entry = EntryRef::key(&identity.key).tenant(&identity.tenant).path(&identity.path);
    match &identity.deployment {
        Some(deployment) => entry.deployment(deployment),
        None => entry,
    }
}

fn between(rng: &mut StdRng, least: u64, most: u64) -> Duration {
    Duration::from_millis(rng.random_range(least..=most))
}

fn one_in(rng: &mut StdRng, many: u32) -> bool {
    rng.random_range(0..many) == 0
}

fn some_tags(rng: &mut StdRng) -> BTreeSet<String> {
    TAGS.iter().filter(|_| one_in(rng, 2)).map(|tag| (*tag).to_owned()).collect()
}

/// A random scope that covers some of the entries.
fn some_scope(rng: &mut StdRng, entries: &[Identity]) -> Scope {
    let Identity { tenant, deployment, key, path } = entries.choose(rng).cloned().unwrap_or_default();
    match rng.random_range(0..12) {
        0 => Scope::Everything,
        1 => Scope::Tenant(tenant),
        2 | 3 => match deployment {
            Some(deployment) => Scope::Deployment(tenant, deployment),
            None => Scope::Key(tenant, key),
        },
        4 => Scope::Path(tenant, path),
        5 => Scope::Path(
            tenant,
            path.rsplit_once('/')
                .map(|(above, _)| above)
                .filter(|above| !above.is_empty())
                .unwrap_or("/")
                .to_owned(),
        ),
        6..=8 => Scope::Tag(tenant, TAGS.choose(rng).copied().unwrap_or_default().to_owned()),
        _ => Scope::Key(tenant, key),
    }
}
