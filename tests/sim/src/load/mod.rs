//! What is asked of the system: workers that render, readers, editors and watchers, each as random as its seed.

mod calls;
mod editor;
mod names;
mod reader;
mod watcher;
mod worker;

pub use calls::Caller;

use crate::recorder::Journal;
use futures::{FutureExt as _, future::BoxFuture};
use leasehold_checker::history::{Identity, Scope};
use leasehold_client::{ConsistencyToken, Coordinator, EntryRef};
use names::GivenNames;
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
    /// What they tell each other, past the system: the tokens of invalidations, by the number of the operation.
    tokens: Arc<Mutex<Vec<(usize, ConsistencyToken)>>>,
    /// And what workers called the bodies of their pages.
    names: Arc<Mutex<GivenNames>>,
    /// Whether renders still fail, and workers still walk away.
    calm: Arc<AtomicBool>,
    /// Whether nobody begins anything new.
    over: Arc<AtomicBool>,
}

/// Where somebody sits who asks: at a simulated machine, or in a process. Nothing else of their surroundings is known to them.
#[derive(Clone)]
pub struct Seat {
    /// What they sign their pages with.
    pub name: Arc<str>,
    /// Its own, different for every start.
    pub seed: u64,
    /// How patient they are.
    pub pace: Pace,
    /// Makes handles: which give up after so long, and of this number, for whatever is random in them.
    pub connect: Arc<dyn Fn(Duration, u64) -> Coordinator + Send + Sync>,
    /// Where they write down what they ask and are answered.
    pub journal: Arc<dyn Journal>,
}

/// How patient those are who ask.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long a call may take, waiting aside: some give up while a fault still lasts, and then do not know.
    pub patience: [Duration; 3],
    /// How long a body may take on top of that, after what tells of it.
    pub body: Duration,
    /// How long those wait who want to render what another renders.
    pub waits: [Duration; 4],
}

/// What goes on until the load is over, or for ever.
pub type Task = BoxFuture<'static, ()>;

/// The longest lease that is asked for, in milliseconds.
pub const LONGEST_LEASE: u64 = 800;
/// The longest render while there are faults, in milliseconds.
pub const LONGEST_RENDER: u64 = 900;
/// The longest render when all is calm, in milliseconds.
pub const LONGEST_CALM_RENDER: u64 = 100;
/// HTML and sidecar of more than this are uploaded ahead of their commit.
pub const INLINE_LIMIT: usize = 2_048;
/// Tags that pages carry.
const TAGS: [&str; 3] = ["news", "sport", "layout"];

impl Load {
    /// On these entries.
    pub fn new(entries: Vec<Identity>) -> Self {
        Self {
            entries: entries.into(),
            tokens: Arc::default(),
            names: Arc::default(),
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

    /// What renders pages, so many at a time.
    pub fn workers(&self, seat: &Seat, many: u64) -> Vec<Task> {
        (0..many).map(|number| worker::run(Caller::new(self, seat, number)).boxed()).collect()
    }

    /// What looks pages up in every way that there is.
    pub fn readers(&self, seat: &Seat) -> Vec<Task> {
        let caller = |number| Caller::new(self, seat, number);
        vec![
            reader::one_by_one(caller(0)).boxed(),
            reader::many_at_once(caller(1)).boxed(),
            reader::by_name(caller(3)).boxed(),
            watcher::run(caller(2)).boxed(),
        ]
    }

    /// What invalidates.
    pub fn editors(&self, seat: &Seat) -> Vec<Task> {
        (0..2).map(|number| editor::run(Caller::new(self, seat, number)).boxed()).collect()
    }

    /// What looks at every entry when all is over, through more than one coordinator if it can be.
    pub fn auditors(&self, seat: &Seat) -> Vec<Task> {
        (0..3).map(|number| reader::audit(Caller::new(self, seat, number)).boxed()).collect()
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
