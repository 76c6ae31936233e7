//! A coordinator that does as a script says, behind connections that fail when told to.

#![allow(dead_code, unreachable_pub, reason = "every test file uses a part of it")]
#![allow(clippy::large_enum_variant, reason = "a script is short")]

mod network;

pub use network::Network;

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use leasehold_proto::v1::{self as pb, coordinator_service_server::CoordinatorService};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};

/// What the next call of a kind is answered with.
pub enum Step {
    Fail(Status),
    /// After the coordinator has waited for so long.
    FailAfter(Duration, Status),
    /// Never.
    Hang,
    Reply(Reply),
    /// After the coordinator has thought for so long.
    ReplyAfter(Duration, Reply),
    /// Of a lookup on a stream: ends the stream instead, with this.
    EndStream(Option<Status>),
    /// Of a stream: these messages, then its end with this.
    Messages(Vec<Reply>, Option<Status>),
    /// Of a stream: these messages, with so long before each but the first.
    Slowly(Duration, Vec<Reply>),
}

pub enum Reply {
    Lookup(pb::LookupResponse),
    Acquire(pb::acquire_lease_response::Outcome),
    Renew(pb::renew_lease_response::Outcome),
    Commit(pb::commit_pointer_response::Outcome),
    Upload(pb::upload_body_response::Outcome),
    Sidecar(pb::serve_sidecar_response::Part),
    Object(pb::serve_object_response::Part),
    Page(pb::serve_page_response::Part),
    Watch(pb::WatchResponse),
    /// The consistency token.
    Invalidate(&'static str),
}

/// A call that arrived.
#[derive(Clone, Debug)]
pub struct Arrived {
    pub call: &'static str,
    pub request_id: Bytes,
    pub grpc_timeout: Option<String>,
    pub at: Instant,
    pub message: Message,
}

#[derive(Clone, Debug)]
pub enum Message {
    Lookup(pb::LookupRequest),
    Acquire(pb::AcquireLeaseRequest),
    Renew(pb::RenewLeaseRequest),
    Release(pb::ReleaseLeaseRequest),
    Commit(pb::CommitPointerRequest),
    Upload(pb::UploadHead, usize),
    Invalidate(pb::InvalidateRequest),
    Watch(pb::WatchRequest),
    Sidecar(pb::ServeSidecarRequest),
    Object(pb::ServeObjectRequest),
    Other,
}

#[derive(Clone, Default)]
pub struct Mock(Arc<Inner>);

#[derive(Default)]
struct Inner {
    scripts: Mutex<HashMap<&'static str, VecDeque<Step>>>,
    arrived: Mutex<Vec<Arrived>>,
    changed: tokio::sync::Notify,
}

impl Mock {
    pub fn script(&self, call: &'static str, steps: impl IntoIterator<Item = Step>) {
        self.0.scripts.lock().entry(call).or_default().extend(steps);
    }

    pub fn arrived(&self, call: &'static str) -> Vec<Arrived> {
        self.0.arrived.lock().iter().filter(|arrived| arrived.call == call).cloned().collect()
    }

    pub fn count(&self, call: &'static str) -> usize {
        self.arrived(call).len()
    }

    /// Waits until so many calls of a kind have arrived.
    pub async fn until(&self, call: &'static str, count: usize) {
        loop {
            let changed = self.0.changed.notified();
            if self.count(call) >= count {
                return;
            }
            changed.await;
        }
    }

    fn log(&self, call: &'static str, request_id: Bytes, timeout: Option<String>, message: Message) {
        let at = now();
        self.0.arrived.lock().push(Arrived { call, request_id, grpc_timeout: timeout, at, message });
        self.0.changed.notify_waiters();
    }

    fn next(&self, call: &'static str) -> Option<Step> {
        self.0.scripts.lock().get_mut(call)?.pop_front()
    }

    async fn step(&self, call: &'static str) -> Result<Option<Reply>, Status> {
        match self.next(call) {
            None => Ok(None),
            Some(Step::Fail(status)) => Err(status),
            Some(Step::FailAfter(pause, status)) => {
                tokio::time::sleep(pause).await;
                Err(status)
            }
            Some(Step::Hang) => std::future::pending().await,
            Some(Step::Reply(reply)) => Ok(Some(reply)),
            Some(Step::ReplyAfter(pause, reply)) => {
                tokio::time::sleep(pause).await;
                Ok(Some(reply))
            }
            Some(Step::EndStream(_) | Step::Messages(..) | Step::Slowly(..)) => {
                panic!("{call} is not a stream")
            }
        }
    }

    fn messages<T: Send + 'static>(
        &self,
        call: &'static str,
        pick: impl Fn(Reply) -> T,
    ) -> Result<Response<BoxStream<'static, Result<T, Status>>>, Status> {
        match self.next(call) {
            Some(Step::Messages(replies, end)) => {
                let messages: Vec<_> =
                    replies.into_iter().map(|reply| Ok(pick(reply))).chain(end.map(Err)).collect();
                Ok(Response::new(futures::stream::iter(messages).boxed()))
            }
            Some(Step::Slowly(pause, replies)) => {
                let messages: Vec<_> = replies.into_iter().map(|reply| Ok(pick(reply))).collect();
                let slowly =
                    futures::stream::iter(messages).enumerate().then(move |(at, message)| async move {
                        tokio::time::sleep(pause * at.min(1) as u32).await;
                        message
                    });
                Ok(Response::new(slowly.boxed()))
            }
            Some(Step::Fail(status)) => Err(status),
            Some(Step::Hang) => Ok(Response::new(futures::stream::pending().boxed())),
            _ => Err(Status::internal("no script")),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "tests measure the runtime's clock, which they also pause")]
pub fn now() -> Instant {
    Instant::now()
}

/// A refusal with a reason, as the coordinator makes them.
pub fn refusal(code: Code, reason: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, "leasehold", HashMap::new());
    Status::with_error_details(code, "scripted", details)
}

/// Bad input in this field.
pub fn invalid(field: &str) -> Status {
    let mut details = ErrorDetails::with_error_info("INVALID_FIELD", "leasehold", HashMap::new());
    details.add_bad_request_violation(field, "is wrong");
    Status::with_error_details(Code::InvalidArgument, "scripted", details)
}

pub fn unavailable(reason: &str) -> Status {
    refusal(Code::Unavailable, reason)
}

pub fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

pub fn granted(generation: u64, remaining: i64) -> Reply {
    Reply::Acquire(pb::acquire_lease_response::Outcome::Granted(pb::LeaseGrant {
        generation,
        remaining: seconds(remaining),
        renewable_for: seconds(300),
        sidecar_token: "c2lkZWNhcg".into(),
        ..Default::default()
    }))
}

pub fn fresh(generation: u64) -> pb::LookupResponse {
    let page = Some(pb::Page { generation, ..Default::default() });
    pb::LookupResponse {
        outcome: Some(pb::lookup_response::Outcome::Fresh(pb::FreshPage { page, fresh_for: None })),
        ..Default::default()
    }
}

fn timeout_of<T>(request: &Request<T>) -> Option<String> {
    request.metadata().get("grpc-timeout").map(|value| value.to_str().expect("ascii").to_owned())
}

fn lease_id(lease: &Option<pb::LeaseRef>) -> Bytes {
    lease.as_ref().map(|lease| lease.request_id.clone()).unwrap_or_default()
}

#[tonic::async_trait]
impl CoordinatorService for Mock {
    async fn lookup(
        &self,
        request: Request<pb::LookupRequest>,
    ) -> Result<Response<pb::LookupResponse>, Status> {
        let timeout = timeout_of(&request);
        self.log("lookup", Bytes::new(), timeout, Message::Lookup(request.into_inner()));
        match self.step("lookup").await? {
            Some(Reply::Lookup(response)) => Ok(Response::new(response)),
            _ => Ok(Response::new(fresh(1))),
        }
    }

    type LookupStreamStream = BoxStream<'static, Result<pb::LookupStreamResponse, Status>>;

    async fn lookup_stream(
        &self,
        request: Request<Streaming<pb::LookupStreamRequest>>,
    ) -> Result<Response<Self::LookupStreamStream>, Status> {
        use pb::lookup_stream_response::Result as Answer;
        self.log("lookup_stream", Bytes::new(), timeout_of(&request), Message::Other);
        self.step("lookup_stream").await?;
        let (sender, receiver) = mpsc::channel(1024);
        let (mock, mut requests) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(pb::LookupStreamRequest { id, lookup, .. })) = requests.message().await {
                let message = Message::Lookup(lookup.unwrap_or_default());
                mock.log("streamed", Bytes::new(), None, message);
                let result = match mock.next("streamed") {
                    None => Answer::Response(fresh(2)),
                    Some(Step::Reply(Reply::Lookup(response))) => Answer::Response(response),
                    Some(Step::Fail(status)) => Answer::Error(pb::LookupError {
                        code: status.code().into(),
                        message: status.message().to_owned(),
                        status_details: Bytes::copy_from_slice(status.details()),
                    }),
                    Some(Step::Hang) => continue,
                    Some(Step::EndStream(Some(status))) => {
                        sender.send(Err(status)).await.ok();
                        return;
                    }
                    Some(Step::EndStream(None)) => return,
                    Some(_) => panic!("not a step of a lookup on a stream"),
                };
                sender.send(Ok(pb::LookupStreamResponse { id, result: Some(result) })).await.ok();
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver).boxed()))
    }

    async fn acquire_lease(
        &self,
        request: Request<pb::AcquireLeaseRequest>,
    ) -> Result<Response<pb::AcquireLeaseResponse>, Status> {
        let timeout = timeout_of(&request);
        let message = request.into_inner();
        self.log("acquire", message.request_id.clone(), timeout, Message::Acquire(message));
        let Some(Reply::Acquire(outcome)) = self.step("acquire").await?.or(Some(granted(7, 10))) else {
            return Err(Status::internal("script"));
        };
        Ok(Response::new(pb::AcquireLeaseResponse { outcome: Some(outcome) }))
    }

    async fn renew_lease(
        &self,
        request: Request<pb::RenewLeaseRequest>,
    ) -> Result<Response<pb::RenewLeaseResponse>, Status> {
        let timeout = timeout_of(&request);
        let message = request.into_inner();
        self.log("renew", lease_id(&message.lease), timeout, Message::Renew(message));
        let outcome = match self.step("renew").await? {
            Some(Reply::Renew(outcome)) => outcome,
            _ => pb::renew_lease_response::Outcome::Renewed(pb::LeaseRenewed {
                remaining: seconds(10),
                renewable_for: seconds(200),
            }),
        };
        Ok(Response::new(pb::RenewLeaseResponse { outcome: Some(outcome) }))
    }

    async fn release_lease(
        &self,
        request: Request<pb::ReleaseLeaseRequest>,
    ) -> Result<Response<pb::ReleaseLeaseResponse>, Status> {
        let timeout = timeout_of(&request);
        let message = request.into_inner();
        self.log("release", lease_id(&message.lease), timeout, Message::Release(message));
        self.step("release").await?;
        let outcome = pb::release_lease_response::Outcome::Released(pb::LeaseReleased {});
        Ok(Response::new(pb::ReleaseLeaseResponse { outcome: Some(outcome) }))
    }

    async fn commit_pointer(
        &self,
        request: Request<pb::CommitPointerRequest>,
    ) -> Result<Response<pb::CommitPointerResponse>, Status> {
        let timeout = timeout_of(&request);
        let message = request.into_inner();
        self.log("commit", lease_id(&message.lease), timeout, Message::Commit(message));
        let outcome = match self.step("commit").await? {
            Some(Reply::Commit(outcome)) => outcome,
            _ => pb::commit_pointer_response::Outcome::Committed(pb::CommitApplied {
                etag: "\"e\"".into(),
                ..Default::default()
            }),
        };
        Ok(Response::new(pb::CommitPointerResponse { outcome: Some(outcome) }))
    }

    async fn upload_body(
        &self,
        request: Request<Streaming<pb::UploadBodyRequest>>,
    ) -> Result<Response<pb::UploadBodyResponse>, Status> {
        use pb::upload_body_request::Part;
        let timeout = timeout_of(&request);
        let mut parts = request.into_inner();
        let Some(Part::Head(head)) = parts.message().await?.and_then(|message| message.part) else {
            return Err(Status::invalid_argument("no head"));
        };
        let mut size = 0;
        while let Some(message) = parts.message().await? {
            let Some(Part::Chunk(chunk)) = message.part else { return Err(Status::invalid_argument("head")) };
            size += chunk.len();
        }
        self.log("upload", lease_id(&head.lease), timeout, Message::Upload(head, size));
        let outcome = match self.step("upload").await? {
            Some(Reply::Upload(outcome)) => outcome,
            _ => pb::upload_body_response::Outcome::Uploaded(pb::UploadedBody {
                object: "o".into(),
                digest: Bytes::from_static(&[3; 32]),
                size_bytes: size as u64,
            }),
        };
        Ok(Response::new(pb::UploadBodyResponse { outcome: Some(outcome) }))
    }

    type ServeSidecarStream = BoxStream<'static, Result<pb::ServeSidecarResponse, Status>>;

    async fn serve_sidecar(
        &self,
        request: Request<pb::ServeSidecarRequest>,
    ) -> Result<Response<Self::ServeSidecarStream>, Status> {
        let timeout = timeout_of(&request);
        self.log("serve_sidecar", Bytes::new(), timeout, Message::Sidecar(request.into_inner()));
        self.messages("serve_sidecar", |reply| match reply {
            Reply::Sidecar(part) => pb::ServeSidecarResponse { part: Some(part) },
            _ => panic!("not a part of a sidecar"),
        })
    }

    type ServeObjectStream = BoxStream<'static, Result<pb::ServeObjectResponse, Status>>;

    async fn serve_object(
        &self,
        request: Request<pb::ServeObjectRequest>,
    ) -> Result<Response<Self::ServeObjectStream>, Status> {
        let timeout = timeout_of(&request);
        self.log("serve_object", Bytes::new(), timeout, Message::Object(request.into_inner()));
        self.messages("serve_object", |reply| match reply {
            Reply::Object(part) => pb::ServeObjectResponse { part: Some(part) },
            _ => panic!("not a part of an object"),
        })
    }

    type ServePageStream = BoxStream<'static, Result<pb::ServePageResponse, Status>>;

    async fn serve_page(
        &self,
        request: Request<pb::ServePageRequest>,
    ) -> Result<Response<Self::ServePageStream>, Status> {
        self.log("serve_page", Bytes::new(), timeout_of(&request), Message::Other);
        self.messages("serve_page", |reply| match reply {
            Reply::Page(part) => pb::ServePageResponse { part: Some(part) },
            _ => panic!("not a part of a page"),
        })
    }

    async fn invalidate(
        &self,
        request: Request<pb::InvalidateRequest>,
    ) -> Result<Response<pb::InvalidateResponse>, Status> {
        let timeout = timeout_of(&request);
        let message = request.into_inner();
        self.log("invalidate", message.request_id.clone(), timeout, Message::Invalidate(message));
        let consistency_token = match self.step("invalidate").await? {
            Some(Reply::Invalidate(token)) => token.into(),
            _ => "at-42".into(),
        };
        Ok(Response::new(pb::InvalidateResponse { consistency_token }))
    }

    type WatchStream = BoxStream<'static, Result<pb::WatchResponse, Status>>;

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let timeout = timeout_of(&request);
        self.log("watch", Bytes::new(), timeout, Message::Watch(request.into_inner()));
        self.messages("watch", |reply| match reply {
            Reply::Watch(message) => message,
            _ => panic!("not a message of a watch"),
        })
    }
}
