//! What callers have of a coordinator for a time and give back, how many of each there are, and how many of these one tenant
//! may have.

use super::error::EdgeError;
use crate::{
    engine::{Engine, Place, Places},
    settings::Limits,
};
use std::{ops::Index, sync::Arc};

/// What callers have for a time and give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// A call in progress; of a tenant's, not one that is answered from memory.
    Call,
    /// One of a render that goes on: a renewal, a commit, a release. Apart from the others, also among those of all, and as many:
    /// these must not keep a page from its commit, nor may one tenant's of both kinds together keep all others out.
    RenderCall,
    /// A call that waits for another's lease.
    Waiter,
    Watch,
    LookupStream,
    Upload,
    /// What is begun for a call and may end after it: a read or a grant of an entry.
    Operation,
    /// The same for a render that goes on. Apart from the others.
    RenderOperation,
    /// An invalidation, likewise.
    Invalidation,
    /// Bytes of lookups on streams and of their answers, without bodies, until these are sent.
    AnswerBytes,
    /// Bytes of uploads and commits in progress.
    UploadBytes,
    /// A body on its way to a reader, by a stream of its own or within an answer on a lookup stream.
    StreamedBody,
    /// Bytes of bodies on their way to a reader.
    StreamedBytes,
}

/// Of how many kinds these are.
pub(super) const KINDS: usize = Held::StreamedBytes as usize + 1;

/// By which places are found: where each kind stands among all is its number.
const _: () = {
    let mut at = 0;
    while at < KINDS {
        assert!(Held::ALL[at] as usize == at);
        at += 1;
    }
};

/// A kind of places.
pub(super) struct Kind {
    /// As metrics call it.
    label: &'static str,
    /// As errors call it.
    what: &'static str,
    /// The same, of one tenant.
    pub(super) of_tenant: &'static str,
    /// How many there are for all.
    limit: usize,
    /// However small its share, a tenant may have so many: a body of any size that is allowed passes.
    least: usize,
}

/// Its label, how it is told, how many there are, and the least for one tenant.
macro_rules! kind {
    ($label:literal, $what:literal, $limit:expr, $least:expr) => {
        Kind {
            label: $label,
            what: $what,
            of_tenant: concat!($what, " of one tenant"),
            limit: $limit,
            least: $least,
        }
    };
}

impl Held {
    pub(super) const ALL: [Self; KINDS] = [
        Self::Call,
        Self::RenderCall,
        Self::Waiter,
        Self::Watch,
        Self::LookupStream,
        Self::Upload,
        Self::Operation,
        Self::RenderOperation,
        Self::Invalidation,
        Self::AnswerBytes,
        Self::UploadBytes,
        Self::StreamedBody,
        Self::StreamedBytes,
    ];

    pub(super) fn kind(self, limits: &Limits) -> Kind {
        let (calls, a_body) = (limits.concurrent_calls, limits.body_bytes.max(limits.message_bytes));
        match self {
            Self::Call => kind!("calls", "concurrent calls", calls, 1),
            Self::RenderCall => kind!("render_calls", "concurrent calls of renders", calls, 1),
            // Those of all are the engine's own.
            Self::Waiter => kind!("waiters", "waiting calls", limits.waiters, 1),
            Self::Watch => kind!("watches", "watches", limits.watches, 1),
            Self::LookupStream => kind!("lookup_streams", "lookup streams", limits.lookup_streams, 1),
            Self::Upload => kind!("uploads", "uploads", limits.uploads, 1),
            Self::Operation => kind!("operations", "reads and changes in progress", limits.operations(), 1),
            Self::RenderOperation => kind!(
                "render_operations",
                "reads and changes of renders in progress",
                limits.render_operations(),
                1
            ),
            Self::Invalidation => {
                kind!("invalidations", "invalidations in progress", limits.invalidations(), 1)
            }
            Self::AnswerBytes => kind!(
                "answer_bytes",
                "bytes of answers on lookup streams",
                limits.answer_bytes(),
                limits.message_bytes
            ),
            Self::UploadBytes => {
                kind!("upload_bytes", "bytes of uploads and commits in progress", limits.upload_bytes, a_body)
            }
            Self::StreamedBody => kind!("streamed_bodies", "bodies being streamed", calls, 1),
            Self::StreamedBytes => {
                kind!("streamed_bytes", "bytes of bodies being streamed", limits.streamed_bytes, a_body)
            }
        }
    }

    /// Of what there is for all, what one tenant may have; `None` for all of it.
    pub(super) fn share(self, limits: &Limits) -> Option<usize> {
        let Kind { limit, least, .. } = self.kind(limits);
        let percent = limits.tenant.share_percent;
        let share = percent.map(|percent| (limit.saturating_mul(percent.get() as usize) / 100).max(least));
        match self {
            Self::Waiter => share.into_iter().chain(limits.tenant.waiters).min(),
            _ => share,
        }
    }
}

/// The places that there are for all.
pub(super) struct AllPlaces([Arc<Places>; KINDS]);

impl AllPlaces {
    /// Those that the limits of an engine allow, which has made those of its waiters itself. Its metrics show all of them.
    pub(super) fn of(engine: &Engine) -> Self {
        let limits = &engine.settings().limits;
        let places = Self(Held::ALL.map(|held| match (held, held.kind(limits)) {
            (Held::Waiter, _) => Arc::clone(engine.waiters()),
            (_, Kind { what, limit, .. }) => Places::new(what, limit),
        }));
        let shown = Held::ALL.map(|held| (held.kind(limits).label, &places[held]));
        engine.meters().show_places(shown);
        places
    }

    /// Takes one.
    ///
    /// # Errors
    /// Where there is none left.
    pub(super) fn take(&self, held: Held) -> Result<Place, EdgeError> {
        self.take_many(held, 1)
    }

    /// Takes several or none.
    ///
    /// # Errors
    /// Where there are not so many left.
    pub(super) fn take_many(&self, held: Held, count: usize) -> Result<Place, EdgeError> {
        Ok(self[held].take_many(count)?)
    }
}

impl Index<Held> for AllPlaces {
    type Output = Arc<Places>;

    fn index(&self, held: Held) -> &Arc<Places> {
        &self.0[held as usize]
    }
}
