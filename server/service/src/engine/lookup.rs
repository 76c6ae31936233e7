//! What is current.

use super::{
    Engine,
    error::EngineError,
    foreign,
    placing::{is_purged, labels_of},
    transitions::Trust,
    view::{Doubt, Slot, View},
};
use crate::{
    meters::{Via, tenants::TenantMeters},
    time::Moment,
};
use leasehold_core::{
    entry::{Entry, Lease},
    freshness::{self, Freshness},
    identity::{EntryId, Seq, TenantId},
    invalidation::{Depth, Mark, Marks, Scope, Verdict},
    labels::Labels,
    named::{GivenName, Origin},
    object::{self, BodyKind, ObjectName, SidecarToken},
    page::{BodyRef, Digest, Pointer},
    time::Timestamp,
    transition::{self, Decision},
};
use leasehold_store::port::StoredObject;
use std::{sync::Arc, time::Duration};

/// How current an answer must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// At most a tail interval behind.
    #[default]
    Bounded,
    /// Log and entry are read after the request arrived.
    Strict,
}

/// The longest that an answer waits for word of a newer page.
const REREAD_TIME: Duration = Duration::from_millis(250);

/// An entry with a lease that was granted here is read again so many times less often.
const SELDOM: u32 = 4;

/// How often a page whose body is gone is looked up again before the caller is told.
const HEALS: usize = 3;

/// The state of an entry when it was judged.
#[derive(Clone)]
pub struct Looked {
    slot: Arc<Slot>,
    view: Arc<View>,
    /// What may be served.
    pub freshness: Freshness,
    /// When it was judged: after all waits, so that nothing is called fresh by a log that was read too long ago.
    pub now: Moment,
}

/// Where this coordinator stands in the invalidation log.
#[derive(Clone, Debug)]
pub struct LogStanding {
    /// Everything up to here was read.
    pub position: Seq,
    /// How long ago a read that reached the head was sent.
    pub age: Option<Duration>,
    /// Whether that is recent enough to call anything fresh.
    pub verified: bool,
    /// The newest events that concern the entry.
    pub marks: Marks,
    /// The one that decides: the newest hard one where it purged the page, else the newest.
    pub decisive: Mark,
    /// Its scopes that concern the entry.
    pub scopes: Vec<(Scope, Depth)>,
    /// What the events leave of the page.
    pub verdict: Verdict,
}

/// A body that was read by the name that its worker gave it.
#[derive(Clone, Debug)]
pub struct ReadObject {
    /// It, and what is written on it.
    pub object: StoredObject,
    /// Which body of its page.
    pub kind: BodyKind,
    /// SHA-256 of its bytes.
    pub digest: Digest,
}

/// What is there of a sidecar that a token names.
enum Asked {
    Found(StoredObject),
    /// It is current, and gone.
    Missing,
    /// Nothing that the asker is to see.
    Nothing,
    /// By what it says of itself it is purged, or may be.
    PurgedUnlessCurrent {
        /// When its lease was granted, as far as that is told.
        granted_at: Option<Timestamp>,
    },
}

/// What the current page knows of a body of this name.
fn body_of<'a>(looked: &'a Looked, name: &ObjectName) -> Option<&'a BodyRef> {
    let pointer = looked.pointer()?;
    [Some(&pointer.html), pointer.sidecar.as_ref()].into_iter().flatten().find(|body| body.object == *name)
}

impl Looked {
    /// The entry's identity.
    pub fn id(&self) -> &EntryId {
        &self.slot.id
    }

    /// The record.
    pub fn entry(&self) -> Option<&Entry> {
        self.view.entry.as_deref()
    }

    /// What is current, also where it may not be served.
    pub fn pointer(&self) -> Option<&Pointer> {
        self.entry()?.pointer.as_ref()
    }

    /// What its tenant's pages cost.
    pub(crate) fn tenant(&self) -> &Arc<TenantMeters> {
        &self.slot.tenant
    }

    /// What may be served, fresh or stale.
    pub fn servable(&self) -> Option<&Pointer> {
        match self.freshness {
            Freshness::Fresh | Freshness::Stale(_) => self.pointer(),
            Freshness::Missing(_) => None,
        }
    }
}

impl Engine {
    /// Counts what a caller is told.
    pub(crate) fn note_lookup(&self, via: Via, looked: &Looked) {
        self.0.meters.looked_up(via, looked.freshness);
        looked.tenant().looked_up(looked.freshness);
    }

    /// Answers from memory; `None` where a store must be asked. For bounded lookups without a body.
    pub fn lookup_remembered(&self, id: &EntryId, at_least: Option<Seq>, now: Moment) -> Option<Looked> {
        let inner = &self.0;
        if at_least.is_some_and(|seq| inner.log.state().position() < seq) {
            return None;
        }
        let slot = inner.views.slot(id);
        let view = slot.view()?;
        let looked = self.judge(slot, view, now);
        self.due_reread(&looked).is_none().then_some(looked)
    }

    /// Tells what is current.
    pub async fn lookup(
        &self,
        id: &EntryId,
        consistency: Consistency,
        at_least: Option<Seq>,
        now: Moment,
    ) -> Result<Looked, EngineError> {
        let inner = &self.0;
        if consistency == Consistency::Strict {
            inner.log.read_now().await?;
        }
        if let Some(seq) = at_least {
            inner.log.reach(seq).await?;
        }
        let slot = inner.views.slot(id);
        let view = match consistency {
            Consistency::Strict => inner.views.read(&slot, now).await?,
            Consistency::Bounded => self.current_view(&slot, now).await?,
        };
        Ok(self.judge(slot, view, self.now()))
    }

    /// What is remembered, unless it says that nothing is fresh and another coordinator may know better.
    pub(super) async fn current_view(&self, slot: &Arc<Slot>, now: Moment) -> Result<Arc<View>, EngineError> {
        let inner = &self.0;
        let Some(view) = slot.view() else { return inner.views.read(slot, now).await };
        let looked = self.judge(Arc::clone(slot), Arc::clone(&view), now);
        let Some(interval) = self.due_reread(&looked) else { return Ok(view) };
        slot.note_reread(now);
        // A store that does not answer must not take away what is known: the page that may still be served, or that there is
        // none.
        match tokio::time::timeout(interval.min(REREAD_TIME), inner.views.read(slot, now)).await {
            Ok(Ok(view)) => Ok(view),
            Ok(Err(_)) | Err(_) => Ok(view),
        }
    }

    /// The HTML of what may be served. A page whose object is gone is marked so, and is looked up again: what comes back
    /// is the state after that. Of a foreign page, it also tells what only its object does.
    pub async fn page_body(&self, mut looked: Looked) -> Result<(Looked, Option<StoredObject>), EngineError> {
        for _ in 0..HEALS {
            let Some(pointer) = looked.servable() else { return Ok((looked, None)) };
            let (body, generation) = (pointer.html.clone(), pointer.generation);
            let is_foreign = pointer.is_foreign();
            let object = self.0.bodies.get_as(&body).await?;
            let is_page = |object: &StoredObject| !is_foreign || foreign::is_page(&object.meta);
            let Some(object) = object.filter(is_page) else {
                looked = self.heal(looked).await?;
                continue;
            };
            looked.view.stamp_again(self.0.log.state());
            // It took its time: the page may be stale by now, or purged.
            let now = self.now();
            let view = if is_foreign { looked.view.completed(&object.meta, now) } else { looked.view };
            looked = self.judge(looked.slot, view, now);
            if looked.servable().is_some_and(|pointer| pointer.generation == generation) {
                return Ok((looked, Some(object)));
            }
        }
        Err(EngineError::StoreUnavailable("the page changes faster than it can be read".to_owned()))
    }

    /// The HTML if it is in memory.
    pub fn remembered_body(&self, body: &BodyRef) -> Option<StoredObject> {
        self.0.bodies.cached(body)
    }

    /// A URL of the HTML of what may be served.
    pub async fn page_url(&self, pointer: &Pointer, ttl: Duration) -> Result<String, EngineError> {
        self.0.bodies.url(&pointer.html.object, ttl).await
    }

    /// The sidecar that a token in a page's URL names, if it is one of this entry and was not purged, by the log up to
    /// `at_least`.
    pub async fn sidecar(
        &self,
        id: &EntryId,
        token: &str,
        at_least: Option<Seq>,
    ) -> Result<StoredObject, EngineError> {
        let name = SidecarToken::decode(token).ok_or(EngineError::SidecarNotFound)?;
        let looked = self.lookup(id, Consistency::Bounded, at_least, self.now()).await?;
        match self.sidecar_of(&looked, &name).await? {
            Asked::Found(object) => Ok(object),
            Asked::Missing => {
                // A page without its sidecar does not work: it is rendered again.
                self.heal(looked).await?;
                Err(EngineError::SidecarNotFound)
            }
            Asked::Nothing => Err(EngineError::SidecarNotFound),
            Asked::PurgedUnlessCurrent { granted_at } => {
                let looked = self.doubt(looked, granted_at).await?;
                match self.sidecar_of(&looked, &name).await? {
                    Asked::Found(object) => Ok(object),
                    Asked::Missing | Asked::Nothing | Asked::PurgedUnlessCurrent { .. } => {
                        Err(EngineError::SidecarNotFound)
                    }
                }
            }
        }
    }

    /// The sidecar of this name, as far as it is one of this entry.
    async fn sidecar_of(&self, looked: &Looked, name: &ObjectName) -> Result<Asked, EngineError> {
        let id = looked.id();
        let is_named = looked.pointer().is_some_and(|pointer| pointer.objects().any(|object| object == name));
        let is_beside = looked.pointer().and_then(foreign::sidecar_of).is_some_and(|beside| beside == *name);
        let prefix = &self.0.settings.object_prefix;
        // Whose it is within the tenant, only it can tell.
        let is_given = self.0.given_name(&id.tenant, name).is_some();
        if !is_beside && !is_given && !object::belongs_to(name, prefix, id) {
            return Ok(Asked::Nothing);
        }
        let current = looked.pointer().filter(|_| is_named || is_beside);
        let known = current.and_then(|pointer| pointer.sidecar.as_ref()).filter(|body| body.object == *name);
        let object = match known {
            Some(body) => self.0.bodies.get_as(body).await?,
            None => self.0.bodies.get(name).await?,
        };
        let Some(object) = object else {
            // Another system's page may never have had one.
            return Ok(if is_named { Asked::Missing } else { Asked::Nothing });
        };
        let (seen, granted_at) = match Origin::in_attributes(&object.meta.attributes).filter(|_| is_given) {
            Some(origin) if origin.entry == id.digest() => (origin.seen, Some(origin.granted_at)),
            None if !is_given => (object::seen_of(name), object::granted_at_of(name)),
            // What is current is judged by its pointer.
            Some(_) | None if current.is_some() => (Seq::START, None),
            Some(_) | None => return Ok(Asked::Nothing),
        };
        let is_purged = self.0.log.state().with(self.now(), |log| {
            let hard = match (current, labels_of(&object)) {
                (Some(pointer), _) => return freshness::verdict(id, pointer, log.view) == Verdict::Purged,
                (None, Some(Labels { tags, path })) => log.view.marks_for(id, &tags, &path).hard,
                // When in doubt, it is purged.
                (None, None) => log.view.marks_in_doubt(id).hard,
            };
            hard.seq > seen
        });
        Ok(match is_purged {
            false => Asked::Found(object),
            true if current.is_some() => Asked::Nothing,
            true => Asked::PurgedUnlessCurrent { granted_at },
        })
    }

    /// The body that its worker named so, if it is one of this tenant and was not purged, by the log up to `at_least`.
    pub async fn object(
        &self,
        tenant: &TenantId,
        name: &str,
        at_least: Option<Seq>,
    ) -> Result<ReadObject, EngineError> {
        let given = GivenName::of_any_kind(name).ok_or(EngineError::ObjectNotFound)?;
        if let Some(seq) = at_least {
            self.0.log.reach(seq).await?;
        }
        let name = given.stored(&self.0.settings.object_prefix, tenant);
        let interval = self.0.settings.reread_interval;
        let object = self.0.bodies.find(&name, self.now(), interval).await?;
        let object = object.ok_or(EngineError::ObjectNotFound)?;
        // What says nothing of its lease cannot be told from a purged one.
        let origin = Origin::in_attributes(&object.meta.attributes).ok_or(EngineError::ObjectNotFound)?;
        let is_purged =
            self.0.log.state().with(self.now(), |log| is_purged(&object, &origin, tenant, log.view));
        if !is_purged {
            return Ok(ReadObject { object, kind: given.kind(), digest: origin.digest });
        }
        let (object, digest) = self.current_object(tenant, &name, &origin).await?;
        Ok(ReadObject { object, kind: given.kind(), digest })
    }

    /// The body of a current page, of which what is written on it says that it is purged, or not that it is not. What a page
    /// may be served with can be read by its name: there its pointer says what the object may not, and has seen what the
    /// object has not where it shares it with the page before.
    ///
    /// Where there is no room on the object for its entry's key, nobody can tell which page it is of.
    async fn current_object(
        &self,
        tenant: &TenantId,
        name: &ObjectName,
        origin: &Origin,
    ) -> Result<(StoredObject, Digest), EngineError> {
        let id = origin.id(tenant).ok_or(EngineError::ObjectNotFound)?;
        let mut looked = self.lookup(&id, Consistency::Bounded, None, self.now()).await?;
        if body_of(&looked, name).is_none() {
            looked = self.doubt(looked, Some(origin.granted_at)).await?;
        }
        let pointer = looked.pointer().ok_or(EngineError::ObjectNotFound)?;
        let body = body_of(&looked, name).ok_or(EngineError::ObjectNotFound)?;
        if self.0.log.state().verdict(&id, pointer) == Verdict::Purged {
            return Err(EngineError::ObjectNotFound);
        }
        // The pointer speaks for its own body, not for one that had the name before.
        let object = self.0.bodies.get_as(body).await?.ok_or(EngineError::ObjectNotFound)?;
        let digest =
            Origin::in_attributes(&object.meta.attributes).map_or(body.digest, |origin| origin.digest);
        Ok((object, digest))
    }

    /// The state of an entry whose current page does not name a body as far as is remembered, of a lease that was granted then:
    /// another coordinator may have committed it since. Asked for by one call in an interval, so that names of what is gone cost
    /// the store next to nothing; and by the first one of a newer lease than the page's and those that were asked for, which
    /// the others must not hide.
    async fn doubt(&self, looked: Looked, granted_at: Option<Timestamp>) -> Result<Looked, EngineError> {
        let Some(interval) = self.0.settings.reread_interval else { return Ok(looked) };
        let Looked { slot, view, .. } = looked;
        let now = self.now();
        let asking = async {
            let mut last = slot.doubted.lock().await;
            let last_one = last.filter(|last| now.elapsed.saturating_sub(last.at) < interval);
            if let Some(last) = last_one {
                let view = slot.view().unwrap_or_else(|| Arc::clone(&view));
                let known_until = last.granted_at.max(view.page_generated_at());
                if granted_at <= known_until {
                    return Ok(view);
                }
            }
            let view = self.0.views.read(&slot, now).await?;
            // Not before it has answered: else all others would be told that there is nothing, by a store that is silent.
            let newest = last_one.and_then(|last| last.granted_at).max(granted_at);
            *last = Some(Doubt { at: now.elapsed, granted_at: newest });
            Ok::<_, EngineError>(view)
        };
        let asked = tokio::time::timeout(REREAD_TIME, asking).await;
        let unanswered = || EngineError::StoreUnavailable("the entry could not be read in time".to_owned());
        let view = asked.map_err(|_| unanswered())??;
        Ok(self.judge(slot, view, self.now()))
    }

    /// What the log says of an entry: for people who ask why.
    pub fn log_standing(&self, looked: &Looked) -> LogStanding {
        let state = self.0.log.state();
        let age = state.age(looked.now);
        state.with(looked.now, |log| {
            let tags = looked.pointer().map_or(&[][..], |pointer| &pointer.meta.tags);
            let path = looked.pointer().and_then(|pointer| pointer.meta.path.as_ref());
            let marks = log.view.marks_for(looked.id(), tags, path);
            let verdict =
                looked.pointer().map_or(Verdict::Valid, |pointer| freshness::verdict_by(&marks, pointer));
            let decisive = if verdict == Verdict::Purged { marks.hard } else { marks.newest };
            LogStanding {
                position: log.view.position(),
                age,
                verified: log.verified,
                marks,
                decisive,
                scopes: log.view.scopes_at(decisive.seq, looked.id(), tags, path),
                verdict,
            }
        })
    }

    /// Whether another may be granted the next lease because of an invalidation.
    pub fn is_overtaken(&self, looked: &Looked, lease: &Lease) -> bool {
        self.0.transitions.ask(&looked.slot, &looked.view, looked.now, |entry, context| {
            let pointer = entry.and_then(|entry| entry.pointer.as_ref());
            transition::is_overtaken(lease, pointer, None, context)
        })
    }

    /// Whether another may be granted the next lease because its time is over.
    pub fn is_expired(&self, looked: &Looked, lease: &Lease) -> bool {
        self.0.transitions.ask(&looked.slot, &looked.view, looked.now, |_, context| {
            context.now >= transition::expired_from(lease, context)
        })
    }

    pub(super) fn judge(&self, slot: Arc<Slot>, view: Arc<View>, now: Moment) -> Looked {
        let freshness = view.judge(&slot.id, self.0.log.state(), now, self.0.settings.rules.retention);
        Looked { slot, view, freshness, now }
    }

    /// How often to read an entry again because another coordinator may have changed it; `None` where there is no other.
    /// Seldom as long as a lease runs that was granted here, as its holder's calls are likely to come here too.
    pub(super) fn reread_interval(&self, slot: &Slot, view: &View, now: Moment) -> Option<Duration> {
        let interval = self.0.settings.reread_interval?;
        let lease = view.entry.as_ref().and_then(|entry| entry.lease.as_ref());
        let is_ours = lease.is_some_and(|lease| lease.expires_at > now.wall && slot.is_granted_here(lease));
        Some(if is_ours { interval * SELDOM } else { interval })
    }

    /// That interval, where it is time to read what was judged again.
    fn due_reread(&self, looked: &Looked) -> Option<Duration> {
        let interval = self.reread_interval(&looked.slot, &looked.view, looked.now)?;
        let asked_at = looked.slot.asked_at(&looked.view);
        let is_due =
            looked.freshness != Freshness::Fresh && looked.now.elapsed.saturating_sub(asked_at) >= interval;
        is_due.then_some(interval)
    }

    async fn heal(&self, looked: Looked) -> Result<Looked, EngineError> {
        let Some(pointer) = looked.pointer() else { return Ok(looked) };
        let generation = pointer.generation;
        let object = pointer.html.object.clone();
        let missing = object.clone();
        let settled = self
            .settle(
                looked.id(),
                |_| Trust::ReadAfterArrival,
                move |entry, context| {
                    let current = entry.and_then(|entry| entry.pointer.as_ref());
                    // Pages of another system can have one generation: its seconds.
                    if current.is_some_and(|current| current.html.object != missing) {
                        return Decision::Answer(transition::Healed::Superseded);
                    }
                    transition::mark_gone(entry, generation, context)
                },
            )
            .await?;
        if settled.answer == transition::Healed::Gone {
            tracing::warn!(object = %object, entry.generation = generation.0, "the body of the current page is gone");
        }
        let slot = Arc::clone(&looked.slot);
        let view = self.0.views.view(&slot, self.now()).await?;
        Ok(self.judge(slot, view, self.now()))
    }
}
