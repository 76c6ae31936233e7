//! Who may do what: every call by everybody, what ends with a right, and attempts to reach another tenant.

use crate::harness::*;
use futures::{
    FutureExt as _,
    future::{BoxFuture, ready},
};
use leasehold_core::{
    access::{Pattern, Policy, Reach, Right, Rule, TenantRef},
    identity::{Principal, TenantId},
    time::Timestamp,
};
use leasehold_proto::v1::coordinator_service_client::CoordinatorServiceClient;
use leasehold_service::access::{Authenticator, Credentials, Guard, Identity, Unauthenticated};
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc};
use tokio_stream::StreamExt as _;
use tonic::{
    metadata::MetadataMap,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use v1::{invalidation_scope::Scope, watch_filter::Filter};

mod crossings;
mod lasting;
mod table;

/// Knows callers by names that they present as tokens, each until it is forgotten or over.
#[derive(Debug, Default)]
struct Names(Mutex<HashMap<String, Option<Timestamp>>>);

impl Names {
    fn knowing(names: &[&str]) -> Arc<Self> {
        Arc::new(Self(Mutex::new(names.iter().map(|name| ((*name).to_owned(), None)).collect())))
    }
}

impl Authenticator for Names {
    fn authenticate(&self, credentials: &Credentials, now: Timestamp) -> Result<Identity, Unauthenticated> {
        let name = credentials.bearer.as_deref().ok_or(Unauthenticated::because("no token"))?;
        match self.0.lock().get(name) {
            Some(until) if until.is_none_or(|until| until > now) => {
                Ok(Identity { principal: Principal::parse(name).expect("a name"), until: *until })
            }
            _ => Err(Unauthenticated::because("unknown")),
        }
    }

    fn learn(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}

fn rule(principal: &str, own: Option<TenantRef>, tenants: Reach, rights: &[Right]) -> Rule {
    Rule { principal: Pattern::parse(principal).expect("a pattern"), own, tenants, rights: rights.into() }
}

fn over(tenant: &str) -> Reach {
    Reach::Some(vec![TenantRef::Named(TenantId::parse(tenant).expect("a tenant"))])
}

fn policy(rules: Vec<Rule>) -> Policy {
    Policy::new(rules).expect("a policy")
}

/// Lets nobody in.
pub(crate) fn closed(world: &World) -> Guard {
    let anybody = rule("*", None, over("acme"), &[Right::Read]);
    Guard::new(Names::knowing(&[]), policy(vec![anybody]), Arc::<TestClock>::clone(&world.clock))
}

/// Presents something with every call.
#[derive(Clone)]
struct Presenting(MetadataMap);

impl Interceptor for Presenting {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for pair in self.0.iter() {
            if let tonic::metadata::KeyAndValueRef::Ascii(key, value) = pair {
                request.metadata_mut().append(key, value.clone());
            }
        }
        Ok(request)
    }
}

type Client = CoordinatorServiceClient<InterceptedService<Channel, Presenting>>;

fn presenting(node: &Coordinator, headers: &[(&'static str, &str)]) -> Client {
    let mut metadata = MetadataMap::new();
    for (name, value) in headers {
        metadata.append(*name, value.parse().expect("a value"));
    }
    CoordinatorServiceClient::with_interceptor(node.channel(), Presenting(metadata))
}

fn client_as(node: &Coordinator, name: &str) -> Client {
    presenting(node, &[("authorization", &format!("Bearer {name}"))])
}

/// The calls of the service, and of invalidations, which differ by their scope, two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Lookup,
    LookupStream,
    Acquire,
    Renew,
    Release,
    Commit,
    Upload,
    Sidecar,
    Object,
    Page,
    Invalidate,
    InvalidateEverything,
    Watch,
}

impl Call {
    const ALL: [Self; 13] = [
        Self::Lookup,
        Self::LookupStream,
        Self::Acquire,
        Self::Renew,
        Self::Release,
        Self::Commit,
        Self::Upload,
        Self::Sidecar,
        Self::Object,
        Self::Page,
        Self::Invalidate,
        Self::InvalidateEverything,
        Self::Watch,
    ];

    /// What it takes.
    fn right(self) -> Right {
        match self {
            Self::Lookup | Self::LookupStream | Self::Sidecar | Self::Object | Self::Page | Self::Watch => {
                Right::Read
            }
            Self::Acquire | Self::Renew | Self::Release | Self::Commit | Self::Upload => Right::Render,
            Self::Invalidate => Right::Invalidate,
            Self::InvalidateEverything => Right::Admin,
        }
    }

    /// Makes it, about this page, or whatever of its tenant the call is about. All of the answer, as text.
    async fn make(self, mut client: Client, about: &About) -> Result<String, Status> {
        fn told<T: std::fmt::Debug>(answer: tonic::Response<T>) -> String {
            format!("{:?}", answer.into_inner())
        }
        async fn first<T: std::fmt::Debug>(
            answer: tonic::Response<tonic::Streaming<T>>,
        ) -> Result<String, Status> {
            let mut stream = answer.into_inner();
            let mut told = format!("{:?}", soon(stream.next()).await.transpose()?);
            // The body follows the head at once; a watch goes on for good.
            while let Ok(Some(more)) = tokio::time::timeout(ms(20), stream.next()).await {
                told.push_str(&format!("{:?}", more?));
            }
            Ok(told)
        }
        let About { entry, tenant, sidecar, object } = about;
        let render = Render {
            entry: entry.clone(),
            lease: v1::LeaseRef { request_id: request_id(), generation: 1 },
            grant: v1::LeaseGrant::default(),
        };
        let lookup = lookup_with_body(entry);
        let scope = |scope| v1::InvalidationScope { tenant: tenant.clone(), scope: Some(scope) };
        match self {
            Self::Lookup => soon(client.lookup(lookup)).await.map(told),
            Self::LookupStream => {
                let asked = v1::LookupStreamRequest { id: 1, lookup: Some(lookup), timeout: None };
                let answer = soon(client.lookup_stream(tokio_stream::once(asked))).await?;
                let answer = soon(answer.into_inner().message()).await?.and_then(|answer| answer.result);
                match answer.expect("an answer") {
                    v1::lookup_stream_response::Result::Response(response) => Ok(format!("{response:?}")),
                    v1::lookup_stream_response::Result::Error(error) => {
                        Err(Status::with_details(Code::from(error.code), error.message, error.status_details))
                    }
                }
            }
            Self::Acquire => {
                let asked =
                    v1::AcquireLeaseRequest { body: v1::BodyDelivery::Inline.into(), ..acquire(entry) };
                soon(client.acquire_lease(asked)).await.map(told)
            }
            Self::Renew => soon(client.renew_lease(render.renewal(secs(10)))).await.map(told),
            Self::Release => soon(client.release_lease(render.release())).await.map(told),
            Self::Commit => soon(client.commit_pointer(render.page("planted"))).await.map(told),
            Self::Upload => {
                let parts = upload_parts(&render, v1::BodyKind::Html, b"planted");
                soon(client.upload_body(tokio_stream::iter(parts))).await.map(told)
            }
            Self::Sidecar => first(soon(client.serve_sidecar(serve_sidecar(entry, sidecar))).await?).await,
            Self::Object => first(soon(client.serve_object(serve_object(tenant, object))).await?).await,
            Self::Page => first(soon(client.serve_page(serve(entry))).await?).await,
            Self::Invalidate => {
                soon(client.invalidate(purge([scope(Scope::WholeTenant(v1::WholeTenant {}))])))
                    .await
                    .map(told)
            }
            Self::InvalidateEverything => {
                let everything = v1::InvalidationScope {
                    tenant: String::new(),
                    scope: Some(Scope::Everything(v1::Everything {})),
                };
                soon(client.invalidate(invalidation([everything]))).await.map(told)
            }
            Self::Watch => {
                let filter = Filter::WholeTenant(v1::WholeTenant {});
                let filters = vec![v1::WatchFilter { tenant: tenant.clone(), filter: Some(filter) }];
                first(soon(client.watch(v1::WatchRequest { filters, resume_token: String::new() })).await?)
                    .await
            }
        }
    }
}

/// What a call is about.
#[derive(Clone, Debug)]
struct About {
    entry: v1::EntryRef,
    tenant: String,
    sidecar: String,
    object: String,
}

/// Somebody's page with a sidecar, both under names of their worker's.
async fn publish(node: &Coordinator, name: &str, tenant: &str, secret: &str) -> About {
    let mut client = client_as(node, name);
    let entry = entry_of(tenant, "", "page");
    let asked = acquire(&entry);
    let grant =
        match soon(client.acquire_lease(asked.clone())).await.expect("an acquire").into_inner().outcome {
            Some(v1::acquire_lease_response::Outcome::Granted(grant)) => grant,
            other => panic!("not granted: {other:?}"),
        };
    let object = format!("isr/0123456789abcdef01234567/1792405870490-{tenant}.html");
    let render = Render::of(&asked, grant);
    let named = v1::BodySource { object_name: object.clone(), ..inline(secret.to_owned()).expect("a body") };
    let commit = v1::CommitPointerRequest {
        html: Some(named),
        sidecar: inline(format!("{{\"{secret}\":1}}")),
        ..render.page_with(secret, tagged(&["news"]))
    };
    let committed = soon(client.commit_pointer(commit)).await.expect("a commit").into_inner().outcome;
    let Some(v1::commit_pointer_response::Outcome::Committed(applied)) = committed else {
        panic!("not committed: {committed:?}")
    };
    About { entry, tenant: tenant.to_owned(), sidecar: applied.sidecar_token, object }
}
