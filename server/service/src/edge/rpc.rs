//! The service: each call is parsed, admitted, handed to the engine within its deadline, and answered.

use super::{
    admission::Admission,
    body_stream::{self, BodyPlace, BodyPlaces},
    deadline::Deadline,
    error::EdgeError,
    parse::{self, AcquireAsk, Delivery, LookupAsk, ServeAsk},
    places::{AllPlaces, Held},
    render::{self, AcquireTime, Wish},
    shares::Shares,
    streams::{self, Answers, LookupAnswers, Watched},
    while_read::{Patience, WhileRead},
};
use crate::access::{Caller, Guard};
use crate::engine::{
    Consistency, Engine, EngineError, Place, ReadObject, TenantPlace, UploadRequest, Uploaded,
};
use crate::meters::{
    Acquired as Told, Served, Upload, Via,
    purpose::{Event, Purpose, Room},
};
use crate::settings::KEPT_LOOKUP_BYTES;
use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use leasehold_core::{
    access::{Permissions, Right},
    freshness::Freshness,
    identity::TenantId,
    invalidation::Verdict,
    transition::{Committed, ReleaseOutcome, Renewed},
};
use leasehold_proto::v1::{self, coordinator_service_server::CoordinatorService};
use prost::Message as _;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status, Streaming};

/// The longest that one lookup on a stream may be given.
const MAX_LOOKUP_TIMEOUT: Duration = Duration::from_secs(60);

/// The time for an upload, where its caller names none.
const UPLOAD_TIME: Duration = Duration::from_secs(60);

/// The time until an upload says whose it is: until then nobody's limit but that of all counts it.
const HEAD_TIME: Duration = Duration::from_secs(5);

/// The gRPC service over an engine. Cheap to clone.
#[derive(Clone)]
pub struct Edge {
    engine: Engine,
    guard: Guard,
    places: Arc<AllPlaces>,
    streamed: Arc<BodyPlaces>,
    shares: Arc<Shares>,
}

impl Edge {
    /// A service over this engine, with the limits of its settings, for those whom the guard lets in.
    pub fn new(engine: Engine, guard: Guard) -> Self {
        let places = AllPlaces::of(&engine);
        let [bytes, readers] =
            [Held::StreamedBytes, Held::StreamedBody].map(|held| Arc::clone(&places[held]));
        Self {
            places: Arc::new(places),
            streamed: Arc::new(BodyPlaces::new(bytes, readers)),
            shares: Arc::new(Shares::new(&engine.settings().limits, engine.clock())),
            engine,
            guard,
        }
    }

    /// A call for a tenant, to which what it asks the store for is put down.
    fn cover<F: Future>(&self, event: Event, tenant: &TenantId, call: F) -> impl Future<Output = F::Output> {
        let held = if event.is_of_a_render() { Held::RenderOperation } else { Held::Operation };
        let room = Room { all: Arc::clone(&self.places[held]), of_tenant: self.shares.places(tenant, held) };
        Purpose::of_tenant(event, self.engine.meters().tenants.of(tenant), room).cover(call)
    }

    /// What a call is read with.
    fn admission<T>(&self, request: &Request<T>) -> Result<Admission<'_>, EdgeError> {
        self.admission_of(&self.guard.caller(request.extensions())?)
    }

    fn admission_of(&self, caller: &Caller) -> Result<Admission<'_>, EdgeError> {
        Ok(Admission::new(caller.permissions()?, &self.engine.settings().boundary))
    }

    fn deadline<T>(&self, request: &Request<T>) -> Deadline {
        Deadline::of(request.metadata(), self.engine.settings().store.default_deadline)
    }

    fn wish(&self, delivery: Delivery, known: Option<leasehold_core::identity::Generation>) -> Wish {
        Wish { delivery, known, inline_limit: self.engine.settings().limits.inline_body_bytes }
    }

    /// Answers from memory where that will do; else gives back what is left to be done.
    fn lookup_quickly(&self, ask: LookupAsk, via: Via) -> Result<Quick, EdgeError> {
        self.shares.request(&ask.target.id.tenant)?;
        let now = self.engine.now();
        let wish = self.wish(ask.delivery, ask.known);
        if ask.consistency == Consistency::Bounded
            && !ask.explain
            && let Some(looked) = self.engine.lookup_remembered(&ask.target.id, ask.at_least, now)
            && let Some(answer) = render::lookup_remembered(&self.engine, &looked, wish)
        {
            self.shares.bytes(&ask.target.id.tenant, wish.carries(&looked))?;
            self.engine.note_lookup(via, &looked);
            return Ok(Quick::Answer(Box::new(answer)));
        }
        Ok(Quick::Ask(Box::new(ask), now))
    }

    /// Whoever asks has a place among the calls, and among its tenant's.
    async fn lookup_thoroughly(
        &self,
        ask: LookupAsk,
        now: crate::time::Moment,
        via: Via,
    ) -> Result<v1::LookupResponse, EdgeError> {
        let LookupAsk { target, consistency, at_least, delivery, known, explain } = ask;
        let looking = async {
            let looked = self.engine.lookup(&target.id, consistency, at_least, now).await?;
            let wish = self.wish(delivery, known);
            // Before the body is fetched.
            self.shares.bytes(&target.id.tenant, wish.carries(&looked))?;
            render::lookup(&self.engine, looked, wish).await
        };
        let (looked, mut response) = self.cover(Event::Lookup, &target.id.tenant, looking).await?;
        self.engine.note_lookup(via, &looked);
        if explain {
            response.state = Some(Box::new(render::state(&self.engine, &looked)));
        }
        Ok(response)
    }

    /// One lookup of a stream: answered at once, or a future that answers it.
    pub(crate) fn lookup_on_stream(
        &self,
        permissions: Arc<Permissions>,
        request: v1::LookupStreamRequest,
    ) -> Result<v1::LookupStreamResponse, AbortOnDropHandle<SlowAnswer>> {
        let v1::LookupStreamRequest { id, lookup, timeout } = request;
        let admission = Admission::new(permissions, &self.engine.settings().boundary);
        let parsed = parse::lookup_on_stream(lookup, timeout, &admission)
            .and_then(|(timeout, ask)| Ok((timeout, self.lookup_quickly(ask, Via::Stream)?)));
        match parsed {
            Err(error) => Ok(self.answer_on_stream(id, Err(error))),
            Ok((_, Quick::Answer(answer))) => Ok(self.answer_on_stream(id, Ok(*answer))),
            Ok((timeout, Quick::Ask(ask, now))) => {
                let asked = timeout.map(|timeout| timeout.min(MAX_LOOKUP_TIMEOUT));
                let deadline = Deadline::within(asked, self.engine.settings().store.default_deadline);
                let (call, kept) = match self.places_of_lookup(&ask.target.id.tenant) {
                    Ok(places) => places,
                    Err(error) => return Ok(self.answer_on_stream(id, Err(error))),
                };
                let edge = self.clone();
                // A task of its own: its deadline counts, and its place becomes free, also where nobody reads the answers.
                Err(AbortOnDropHandle::new(tokio::spawn(async move {
                    let tenant = ask.target.id.tenant.clone();
                    let _call = call;
                    // Boxed: the task is kept with its answer, and would keep the room for this as long.
                    let looking = Box::pin(edge.lookup_thoroughly(*ask, now, Via::Stream));
                    let looked = deadline.read(looking).await.and_then(|response| {
                        let places = edge.places_of_answer(&tenant, &response)?;
                        Ok((response, places))
                    });
                    let (result, of_answer) = match looked {
                        Ok((response, places)) => (Ok(response), Some(places)),
                        Err(error) => (Err(error), None),
                    };
                    SlowAnswer { answer: edge.answer_on_stream(id, result), _places: (kept, of_answer) }
                })))
            }
        }
    }

    /// For a lookup on a stream, and for what is kept of it until its answer is sent, whatever that be. The tenant's first, and all
    /// before it is begun: of a stream many are read in one turn, and more than it may have would keep others out until they are
    /// refused.
    fn places_of_lookup(&self, tenant: &TenantId) -> Result<(TenantPlace, TenantPlace), EdgeError> {
        let call = self.shares.take(tenant, Held::Call)?;
        let kept = self.shares.take_many(tenant, Held::AnswerBytes, KEPT_LOOKUP_BYTES)?;
        Ok((
            (self.places.take(Held::Call)?, call),
            (self.places.take_many(Held::AnswerBytes, KEPT_LOOKUP_BYTES)?, kept),
        ))
    }

    /// Places for an answer, as long as it is not sent, and for the body that it carries.
    fn places_of_answer(
        &self,
        tenant: &TenantId,
        response: &v1::LookupResponse,
    ) -> Result<AnswerPlaces, EdgeError> {
        let body = render::inline_body(response);
        let bytes = response.encoded_len().saturating_sub(body.map_or(0, Bytes::len));
        let of_tenant = self.shares.take_many(tenant, Held::AnswerBytes, bytes)?;
        let beside = (self.places.take_many(Held::AnswerBytes, bytes)?, of_tenant);
        Ok((beside, body.map(|body| self.body_place(tenant, body)).transpose()?))
    }

    fn body_place(&self, tenant: &TenantId, body: &Bytes) -> Result<BodyPlace, EdgeError> {
        let reader = self.shares.take(tenant, Held::StreamedBody)?;
        let of_tenant = self.shares.places(tenant, Held::StreamedBytes);
        Ok(self.streamed.take(body, reader, of_tenant.as_ref())?)
    }

    fn answer_on_stream(
        &self,
        id: u64,
        result: Result<v1::LookupResponse, EdgeError>,
    ) -> v1::LookupStreamResponse {
        use v1::lookup_stream_response::Result as Wire;
        let result = match result {
            Ok(response) => Wire::Response(response),
            Err(error) => {
                self.engine.meters().calls.failed("LookupStream", error.reason_name());
                let status = Status::from(error);
                Wire::Error(v1::LookupError {
                    code: status.code().into(),
                    message: status.message().to_owned(),
                    status_details: Bytes::copy_from_slice(status.details()),
                })
            }
        };
        v1::LookupStreamResponse { id, result: Some(result) }
    }

    /// For how long a stream of this method's answers waits for its reader.
    fn patience(&self, method: &'static str) -> Patience {
        let let_go = self.engine.meters().calls.streams_let_go(method);
        Patience { silence: self.engine.settings().limits.stall_timeout, let_go }
    }

    /// A tenant's body in messages, where there is room for one more that is on its way: the answer of this method.
    fn stream<T: Send + 'static>(
        &self,
        method: &'static str,
        tenant: &TenantId,
        head: T,
        body: Bytes,
        chunk: fn(Bytes) -> T,
    ) -> Result<Answers<T>, EdgeError> {
        let place = self.body_place(tenant, &body)?;
        Ok(body_stream::answers(head, body, chunk, place, self.patience(method)))
    }

    fn note_commit(&self, committed: &Committed, tenant: &TenantId, arrived: Duration) {
        let meters = self.engine.meters();
        meters.committed(committed, self.engine.now().elapsed.saturating_sub(arrived));
        if matches!(committed, Committed::Committed | Committed::CommittedStale(_)) {
            meters.tenants.of(tenant).committed();
        }
    }

    /// All of an upload, and the places that it has until it is stored. It can only be of `tenant`, where there is one.
    async fn read_upload(
        &self,
        admission: Admission<'_>,
        tenant: Option<&TenantId>,
        mut parts: Streaming<v1::UploadBodyRequest>,
    ) -> Result<(UploadRequest, Bytes, UploadPlaces), Status> {
        use v1::upload_body_request::Part;
        let limits = &self.engine.settings().limits;
        let take = |tenant| self.shares.take(tenant, Held::Upload);
        let known = tenant.map(take).transpose()?;
        // Whose it is otherwise, is not known before.
        let head = next_part(&mut parts, limits.stall_timeout.min(HEAD_TIME)).await?;
        let head = parse::upload_head(head)?;
        let ask = parse::upload(head, &admission)?;
        self.shares.render_request(&ask.id.tenant)?;
        let tenant = &ask.id.tenant;
        let mut body = BytesMut::new();
        let mut places = UploadPlaces {
            bytes: self.places.take_many(Held::UploadBytes, 0)?,
            tenant_bytes: self.shares.take_many(tenant, Held::UploadBytes, 0)?,
            _of_tenant: known.map_or_else(|| take(tenant), Ok)?,
        };
        while let Some(message) = next_part(&mut parts, limits.stall_timeout).await? {
            let chunk = match message.part {
                Some(Part::Chunk(chunk)) => chunk,
                Some(Part::Head(_)) => return Err(EdgeError::field("head", "must come once").into()),
                None => return Err(EdgeError::field("chunk", "is required after the head").into()),
            };
            parse::check_body_size("chunk", body.len() + chunk.len(), limits)?;
            places.grow(chunk.len()).map_err(EdgeError::from)?;
            body.extend_from_slice(&chunk);
        }
        // All at once: whoever is refused comes again with all of it.
        self.shares.bytes(tenant, body.len() as u64)?;
        Ok((ask, body.freeze(), places))
    }
}

/// What an upload has for a time.
struct UploadPlaces {
    bytes: Place,
    tenant_bytes: Option<Place>,
    _of_tenant: Option<Place>,
}

impl UploadPlaces {
    fn grow(&mut self, bytes: usize) -> Result<(), EngineError> {
        self.bytes.grow(bytes)?;
        self.tenant_bytes.as_mut().map_or(Ok(()), |of_tenant| of_tenant.grow(bytes))
    }
}

/// The next message of an upload. Whoever is silent for too long is sent away: a place, and memory, are held for it.
async fn next_part(
    parts: &mut Streaming<v1::UploadBodyRequest>,
    silence: Duration,
) -> Result<Option<v1::UploadBodyRequest>, Status> {
    match tokio::time::timeout(silence, parts.message()).await {
        Ok(message) => message,
        Err(_) => Err(EdgeError::from(EngineError::Deadline("the next part of the upload")).into()),
    }
}

/// The answer to a lookup that memory could not answer, or why there is none, until it is sent.
pub(crate) struct SlowAnswer {
    pub(crate) answer: v1::LookupStreamResponse,
    _places: (TenantPlace, Option<AnswerPlaces>),
}

/// For what an answer is beside its body, and for that.
type AnswerPlaces = (TenantPlace, Option<BodyPlace>);

enum Quick {
    Answer(Box<v1::LookupResponse>),
    Ask(Box<LookupAsk>, crate::time::Moment),
}

#[tonic::async_trait]
impl CoordinatorService for Edge {
    type LookupStreamStream = WhileRead<LookupAnswers>;
    type ServeSidecarStream = Answers<v1::ServeSidecarResponse>;
    type ServeObjectStream = Answers<v1::ServeObjectResponse>;
    type ServePageStream = Answers<v1::ServePageResponse>;
    type WatchStream = Answers<v1::WatchResponse>;

    async fn lookup(
        &self,
        request: Request<v1::LookupRequest>,
    ) -> Result<Response<v1::LookupResponse>, Status> {
        let _place = self.places.take(Held::Call)?;
        let deadline = self.deadline(&request);
        let admission = self.admission(&request)?;
        let ask = parse::lookup(request.into_inner(), &admission)?;
        match self.lookup_quickly(ask, Via::Lookup)? {
            Quick::Answer(answer) => Ok(Response::new(*answer)),
            Quick::Ask(ask, now) => {
                let tenant = &ask.target.id.tenant;
                let _of_tenant = self.shares.take(tenant, Held::Call)?;
                Ok(Response::new(deadline.read(self.lookup_thoroughly(*ask, now, Via::Lookup)).await?))
            }
        }
    }

    async fn lookup_stream(
        &self,
        request: Request<Streaming<v1::LookupStreamRequest>>,
    ) -> Result<Response<Self::LookupStreamStream>, Status> {
        let place = self.places.take(Held::LookupStream)?;
        let caller = self.guard.caller(request.extensions()).map_err(EdgeError::from)?;
        let permissions = caller.permissions().map_err(EdgeError::from)?;
        if !permissions.allow_anywhere(Right::Read) {
            return Err(EdgeError::PermissionDenied { right: Right::Read, tenant: None }.into());
        }
        // Whose it is, is said by its lookups only. Where all its caller may read is one tenant's, it is that one's.
        let tenant = permissions.only_tenant(Right::Read);
        let of_tenant =
            tenant.map(|tenant| self.shares.take(tenant, Held::LookupStream)).transpose()?.flatten();
        let answers = LookupAnswers::start(
            self.clone(),
            caller,
            request.into_inner(),
            self.engine.settings().limits.lookups_per_stream,
            self.engine.draining().clone(),
            (place, of_tenant),
            self.patience("LookupStream"),
        );
        Ok(Response::new(answers))
    }

    async fn acquire_lease(
        &self,
        request: Request<v1::AcquireLeaseRequest>,
    ) -> Result<Response<v1::AcquireLeaseResponse>, Status> {
        let place = self.places.take(Held::Call)?;
        let arrived = self.engine.now();
        let deadline = self.deadline(&request);
        let caller = self.guard.caller(request.extensions()).map_err(EdgeError::from)?;
        let admission = self.admission_of(&caller)?;
        let AcquireAsk { request: mut ask, delivery, known } =
            parse::acquire(request.into_inner(), &admission, self.engine.settings())?;
        ask.wait = deadline.cap(ask.wait.min(self.engine.settings().leases.max_wait));
        let deadline = deadline.and_wait(ask.wait);
        let id_tenant = ask.id.tenant.clone();
        self.shares.request(&id_tenant)?;
        ask.waiters = self.shares.places(&id_tenant, Held::Waiter);
        let of_tenant = || self.shares.take(&id_tenant, Held::Call);
        let place = (place, of_tenant()?);
        let call = async {
            let (wait, mut place) = (ask.wait, Some(place));
            let used = || self.engine.now().elapsed.saturating_sub(arrived.elapsed);
            loop {
                let acquisition = self.engine.acquire(ask.clone(), &mut place).await?;
                let told = acquisition.outcome.told();
                let time =
                    AcquireTime { arrived: arrived.wall, left: deadline.time().saturating_sub(used()) };
                let wish = self.wish(delivery, known);
                // A grant is written: the page that it replaces comes with it or not, and is not counted.
                if told != Told::Granted {
                    self.shares.bytes(&id_tenant, wish.carries(&acquisition.looked))?;
                }
                match render::acquire(&self.engine, acquisition, time, wish).await? {
                    Some(answer) => return Ok((answer, told)),
                    // As its caller would, who can do nothing else.
                    None => {
                        ask.wait = wait.saturating_sub(used());
                        if place.is_none() {
                            place = Some((self.places.take(Held::Call)?, of_tenant()?));
                        }
                    }
                }
            }
        };
        let call = self.cover(Event::Acquire, &id_tenant, call);
        let ((response, receipt), told) = deadline.change(call).await?;
        // While it waited its right may have been taken away. A lease is then given back: its receipt is dropped.
        self.admission_of(&caller)?.check(Right::Render, &id_tenant)?;
        self.engine.meters().acquired(told);
        if told == Told::Granted {
            self.engine.meters().tenants.of(&id_tenant).granted();
        }
        if let Some(receipt) = receipt {
            receipt.delivered();
        }
        Ok(Response::new(response))
    }

    async fn renew_lease(
        &self,
        request: Request<v1::RenewLeaseRequest>,
    ) -> Result<Response<v1::RenewLeaseResponse>, Status> {
        use v1::renew_lease_response::Outcome;
        let _place = self.places.take(Held::RenderCall)?;
        let deadline = self.deadline(&request);
        let admission = self.admission(&request)?;
        let (lease, ttl) = parse::renew(request.into_inner(), &admission, self.engine.settings())?;
        self.shares.render_request(&lease.id.tenant)?;
        let _of_tenant = self.shares.take(&lease.id.tenant, Held::RenderCall)?;
        let now = self.engine.now().wall;
        let renewing = self.engine.renew(&lease.id, lease.token, lease.generation, ttl);
        let renewing = self.cover(Event::Renew, &lease.id.tenant, renewing);
        let renewed = deadline.change(renewing.map(|result| Ok(result?))).await?;
        self.engine.meters().renewed(&renewed);
        let outcome = match renewed {
            Renewed::Renewed(lease) => Outcome::Renewed(render::renewed(&lease, now)),
            Renewed::Lost => Outcome::Lost(v1::LeaseLost {}),
        };
        Ok(Response::new(v1::RenewLeaseResponse { outcome: Some(outcome) }))
    }

    async fn release_lease(
        &self,
        request: Request<v1::ReleaseLeaseRequest>,
    ) -> Result<Response<v1::ReleaseLeaseResponse>, Status> {
        use v1::release_lease_response::Outcome;
        let _place = self.places.take(Held::RenderCall)?;
        let deadline = self.deadline(&request);
        let admission = self.admission(&request)?;
        let (lease, release) = parse::release(request.into_inner(), &admission)?;
        self.shares.render_request(&lease.id.tenant)?;
        let _of_tenant = self.shares.take(&lease.id.tenant, Held::RenderCall)?;
        let releasing = self.engine.release(&lease.id, lease.token, lease.generation, release.clone());
        let releasing = self.cover(Event::Release, &lease.id.tenant, releasing);
        let released = deadline.change(releasing.map(|result| Ok(result?))).await?;
        self.engine.meters().released(&release, &released);
        let outcome = match released {
            ReleaseOutcome::Released => Outcome::Released(v1::LeaseReleased {}),
            ReleaseOutcome::NotHeld => Outcome::NotHeld(v1::LeaseNotHeld {}),
        };
        Ok(Response::new(v1::ReleaseLeaseResponse { outcome: Some(outcome) }))
    }

    async fn commit_pointer(
        &self,
        request: Request<v1::CommitPointerRequest>,
    ) -> Result<Response<v1::CommitPointerResponse>, Status> {
        use v1::commit_pointer_response::Outcome;
        let _place = self.places.take(Held::RenderCall)?;
        let deadline = self.deadline(&request);
        let admission = self.admission(&request)?;
        let ask = parse::commit(request.into_inner(), &admission, self.engine.settings())?;
        let tenant = ask.id.tenant.clone();
        self.shares.render_request(&tenant)?;
        let _of_tenant = self.shares.take(&tenant, Held::RenderCall)?;
        let _bytes = self.places.take_many(Held::UploadBytes, ask.inline_bytes())?;
        let _tenant_bytes = self.shares.take_many(&tenant, Held::UploadBytes, ask.inline_bytes())?;
        self.shares.bytes(&tenant, ask.inline_bytes() as u64)?;
        let arrived = self.engine.now().elapsed;
        let committing = self.cover(Event::Commit, &tenant, self.engine.commit(ask));
        let (committed, pointer) = deadline.change(committing.map(|result| Ok(result?))).await?;
        self.note_commit(&committed, &tenant, arrived);
        let etag = pointer.as_ref().map(|pointer| pointer.meta.etag.clone()).unwrap_or_default();
        let sidecar_token = pointer.as_ref().map(render::sidecar_token).unwrap_or_default();
        let (html_object_name, sidecar_object_name) = pointer
            .as_ref()
            .map(|pointer| render::given_names(&self.engine, &tenant, pointer))
            .unwrap_or_default();
        let outcome = match committed {
            Committed::Committed => Outcome::Committed(v1::CommitApplied {
                etag,
                sidecar_token,
                html_object_name,
                sidecar_object_name,
            }),
            Committed::CommittedStale(verdict) => Outcome::CommittedStale(v1::CommitAppliedStale {
                etag,
                sidecar_token,
                purged: verdict == Verdict::Purged,
                html_object_name,
                sidecar_object_name,
            }),
            Committed::Superseded { current } => {
                Outcome::Superseded(v1::CommitSuperseded { current_generation: current.0 })
            }
            Committed::Fenced { latest } => Outcome::Fenced(v1::CommitFenced {
                latest_generation: latest.map_or(0, |generation| generation.0),
            }),
        };
        Ok(Response::new(v1::CommitPointerResponse { outcome: Some(outcome) }))
    }

    async fn upload_body(
        &self,
        request: Request<Streaming<v1::UploadBodyRequest>>,
    ) -> Result<Response<v1::UploadBodyResponse>, Status> {
        use v1::upload_body_response::Outcome;
        // Not among the calls: an upload takes as long as its caller likes, and must not keep others out.
        let _place = self.places.take(Held::Upload)?;
        let deadline = self.deadline(&request);
        let uploading = async {
            let caller = self.guard.caller(request.extensions()).map_err(EdgeError::from)?;
            let admission = self.admission_of(&caller)?;
            let permissions = caller.permissions().map_err(EdgeError::from)?;
            if !permissions.allow_anywhere(Right::Render) {
                return Err(EdgeError::PermissionDenied { right: Right::Render, tenant: None }.into());
            }
            let (ask, body, _places) = self
                .read_upload(admission, permissions.only_tenant(Right::Render), request.into_inner())
                .await?;
            let tenant = ask.id.tenant.clone();
            // It takes its time, in which the right may have been taken away.
            self.admission_of(&caller)?.check(Right::Render, &tenant)?;
            let uploading = self.cover(Event::Upload, &tenant, self.engine.upload(ask, body));
            Ok::<_, Status>(uploading.await.map_err(EdgeError::from)?)
        };
        let uploaded = deadline.and_wait(UPLOAD_TIME).change(uploading.map(Ok)).await??;
        self.engine.meters().uploaded(Upload::of(&uploaded));
        let outcome = match uploaded {
            Uploaded::Stored(stored) => Outcome::Uploaded(v1::UploadedBody {
                object: stored.object.to_string(),
                digest: Bytes::copy_from_slice(&stored.digest.0),
                size_bytes: stored.size_bytes,
            }),
            Uploaded::Fenced { latest } => Outcome::Fenced(v1::CommitFenced {
                latest_generation: latest.map_or(0, |generation| generation.0),
            }),
            Uploaded::Superseded { current } => {
                Outcome::Superseded(v1::CommitSuperseded { current_generation: current.0 })
            }
        };
        Ok(Response::new(v1::UploadBodyResponse { outcome: Some(outcome) }))
    }

    async fn serve_sidecar(
        &self,
        request: Request<v1::ServeSidecarRequest>,
    ) -> Result<Response<Self::ServeSidecarStream>, Status> {
        use v1::serve_sidecar_response::Part;
        let _place = self.places.take(Held::Call)?;
        let deadline = self.deadline(&request);
        let admission = self.admission(&request)?;
        let ask = parse::serve_sidecar(request.into_inner(), &admission)?;
        self.shares.request(&ask.target.id.tenant)?;
        let _of_tenant = self.shares.take(&ask.target.id.tenant, Held::Call)?;
        let reading = self.engine.sidecar(&ask.target.id, &ask.token, ask.at_least);
        let reading = self.cover(Event::Sidecar, &ask.target.id.tenant, reading);
        let object = deadline.read(reading.map(|result| Ok(result?))).await?;
        let head =
            v1::SidecarHead { content_type: object.meta.content_type, size_bytes: object.body.len() as u64 };
        let head = v1::ServeSidecarResponse { part: Some(Part::Head(head)) };
        let chunk = |chunk| v1::ServeSidecarResponse { part: Some(Part::Chunk(chunk)) };
        self.shares.bytes(&ask.target.id.tenant, object.body.len() as u64)?;
        let answers = self.stream("ServeSidecar", &ask.target.id.tenant, head, object.body, chunk)?;
        self.engine.meters().served(Served::Sidecar);
        Ok(Response::new(answers))
    }

    async fn serve_object(
        &self,
        request: Request<v1::ServeObjectRequest>,
    ) -> Result<Response<Self::ServeObjectStream>, Status> {
        use v1::serve_object_response::Part;
        let _place = self.places.take(Held::Call)?;
        let deadline = self.deadline(&request);
        let admission = self.admission(&request)?;
        let ask = parse::serve_object(request.into_inner(), &admission)?;
        self.shares.request(&ask.tenant)?;
        let _of_tenant = self.shares.take(&ask.tenant, Held::Call)?;
        let reading = self.engine.object(&ask.tenant, &ask.name, ask.at_least);
        let reading = self.cover(Event::Object, &ask.tenant, reading);
        let ReadObject { object, kind, digest } = deadline.read(reading.map(|result| Ok(result?))).await?;
        let head = v1::ObjectHead {
            content_type: object.meta.content_type,
            size_bytes: object.body.len() as u64,
            kind: render::body_kind(kind).into(),
            digest: Bytes::copy_from_slice(&digest.0),
        };
        let head = v1::ServeObjectResponse { part: Some(Part::Head(head)) };
        let chunk = |chunk| v1::ServeObjectResponse { part: Some(Part::Chunk(chunk)) };
        self.shares.bytes(&ask.tenant, object.body.len() as u64)?;
        let answers = self.stream("ServeObject", &ask.tenant, head, object.body, chunk)?;
        self.engine.meters().served(Served::Object);
        Ok(Response::new(answers))
    }

    async fn serve_page(
        &self,
        request: Request<v1::ServePageRequest>,
    ) -> Result<Response<Self::ServePageStream>, Status> {
        use v1::serve_page_response::Part;
        let _place = self.places.take(Held::Call)?;
        let deadline = self.deadline(&request);
        let admission = self.admission(&request)?;
        let ask = parse::serve_page(request.into_inner(), &admission)?;
        self.shares.request(&ask.target.id.tenant)?;
        let _of_tenant = self.shares.take(&ask.target.id.tenant, Held::Call)?;
        let ServeAsk { target, consistency, at_least } = ask;
        let now = self.engine.now();
        let call = async {
            let looked = self.engine.lookup(&target.id, consistency, at_least, now).await?;
            // Before the body is fetched, as far as its size is known: that of another system's page is not.
            let known_bytes = looked.servable().map_or(0, |page| page.html.size_bytes);
            self.shares.bytes(&target.id.tenant, known_bytes)?;
            let (looked, object) = self.engine.page_body(looked).await?;
            let size_bytes = object.as_ref().map_or(0, |object| object.body.len() as u64);
            self.shares.bytes(&target.id.tenant, size_bytes.saturating_sub(known_bytes))?;
            Ok((looked, object))
        };
        let call = self.cover(Event::Page, &target.id.tenant, call);
        let (looked, object) = deadline.read(call).await?;
        self.engine.note_lookup(Via::Page, &looked);
        let (Some(head), Some(object)) = (render::serve_page_head(&self.engine, &looked), object) else {
            let why = match looked.freshness {
                Freshness::Missing(why) => render::missing_reason(why),
                Freshness::Fresh | Freshness::Stale(_) => v1::MissingReason::BodyGone,
            };
            let name = why.as_str_name();
            let cause = name.strip_prefix("MISSING_REASON_").unwrap_or(name);
            return Err(EdgeError::PageNotFound { cause }.into());
        };
        let head = v1::ServePageResponse { part: Some(Part::Head(head)) };
        let chunk = |chunk| v1::ServePageResponse { part: Some(Part::Chunk(chunk)) };
        let answers = self.stream("ServePage", &target.id.tenant, head, object.body, chunk)?;
        self.engine.meters().served(Served::Page);
        Ok(Response::new(answers))
    }

    async fn invalidate(
        &self,
        request: Request<v1::InvalidateRequest>,
    ) -> Result<Response<v1::InvalidateResponse>, Status> {
        let _place = self.places.take(Held::Call)?;
        let deadline = self.deadline(&request);
        let admission = self.admission(&request)?;
        let invalidation = parse::invalidate(request.into_inner(), &admission)?;
        let depth = invalidation.depth;
        let tenants: BTreeSet<TenantId> =
            invalidation.scopes.iter().filter_map(|scope| scope.tenant().cloned()).collect();
        self.shares.requests(&tenants)?;
        let _of_tenants = self.shares.take_of_each(&tenants, Held::Call)?;
        let of_tenants = self.shares.take_of_each(&tenants, Held::Invalidation)?;
        let places = (self.places.take(Held::Invalidation)?, of_tenants);
        let appending = self.engine.invalidate(invalidation, Some(places));
        let seq = deadline.change(appending.map(|result| Ok(result?))).await?;
        self.engine.meters().invalidated(depth, &tenants);
        Ok(Response::new(v1::InvalidateResponse { consistency_token: parse::write_token(seq) }))
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let place = self.places.take(Held::Watch)?;
        if self.engine.draining().is_cancelled() {
            return Err(EdgeError::from(EngineError::Draining).into());
        }
        let caller = self.guard.caller(request.extensions()).map_err(EdgeError::from)?;
        let admission = self.admission_of(&caller)?;
        let v1::WatchRequest { filters, resume_token } = request.into_inner();
        let filters = parse::filters(filters, &admission)?;
        let tenants = filters.iter().map(|filter| filter.tenant().clone()).collect();
        self.shares.requests(&tenants)?;
        let of_tenants = self.shares.take_of_each(&tenants, Held::Watch)?;
        let hub = Arc::clone(self.engine.watch_hub());
        let start = streams::start(&hub, &resume_token)?;
        let settings = self.engine.settings();
        let (progress, patience) = (settings.watch_progress_interval, self.patience("Watch"));
        let draining = self.engine.draining().clone();
        let watched = Watched { caller, filters, progress, patience, draining, places: (place, of_tenants) };
        Ok(Response::new(streams::watch(hub, start, watched)))
    }
}
