//! Every call, in every mode, by everybody.

use super::{authority::Authority, jwt, tokens, *};
use leasehold_proto::v1::{self, coordinator_service_client::CoordinatorServiceClient};
use std::{collections::BTreeMap, error::Error as _};
use tonic::{
    Code, Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use v1::invalidation_scope::Scope;

/// In every mode callers have these names, by tokens or by certificates.
const RULES: &str = r#"
[[rule]]
principal = "all-but-admin.shop"
tenants = ["acme"]
rights = ["read", "render", "invalidate"]

[[rule]]
principal = "lacks-read.shop"
tenants = ["acme"]
rights = ["render", "invalidate"]

[[rule]]
principal = "lacks-render.shop"
tenants = ["acme"]
rights = ["read", "invalidate"]

[[rule]]
principal = "lacks-invalidate.shop"
tenants = ["acme"]
rights = ["read", "render"]

[[rule]]
principal = "of-another-tenant.shop"
tenants = ["globex"]
rights = ["admin"]

[[rule]]
principal = "admin.shop"
tenants = ["*"]
rights = ["admin"]
"#;

const STRANGER: &str = "without-a-rule.shop";

const KNOWN: [&str; 7] = [
    "all-but-admin.shop",
    "lacks-read.shop",
    "lacks-render.shop",
    "lacks-invalidate.shop",
    "of-another-tenant.shop",
    "admin.shop",
    STRANGER,
];

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

    /// The name of whoever lacks nothing but what it takes.
    fn lacking(self) -> &'static str {
        match self {
            Self::Lookup | Self::LookupStream | Self::Sidecar | Self::Object | Self::Page | Self::Watch => {
                "lacks-read.shop"
            }
            Self::Acquire | Self::Renew | Self::Release | Self::Commit | Self::Upload => "lacks-render.shop",
            Self::Invalidate => "lacks-invalidate.shop",
            Self::InvalidateEverything => "all-but-admin.shop",
        }
    }

    /// Makes it, about a page of acme. What it answers first, a stream too, does not matter here.
    async fn make(self, mut client: Client) -> Result<(), Status> {
        let entry = || {
            Some(v1::EntryRef {
                tenant: "acme".to_owned(),
                name: Some(v1::entry_ref::Name::Key("page".to_owned())),
                ..Default::default()
            })
        };
        let request_id = || bytes::Bytes::from_static(b"a request's name");
        let lease = || Some(v1::LeaseRef { request_id: request_id(), generation: 1 });
        let html = || {
            let bytes = bytes::Bytes::from_static(b"planted");
            Some(v1::BodySource {
                source: Some(v1::body_source::Source::Inline(bytes)),
                ..Default::default()
            })
        };
        let invalidation = |tenant: &str, scope| v1::InvalidateRequest {
            scopes: vec![v1::InvalidationScope { tenant: tenant.to_owned(), scope: Some(scope) }],
            request_id: request_id(),
            ..Default::default()
        };
        let lookup = v1::LookupRequest { entry: entry(), ..Default::default() };
        match self {
            Self::Lookup => client.lookup(lookup).await.map(drop),
            Self::LookupStream => {
                let asked = v1::LookupStreamRequest { id: 1, lookup: Some(lookup), timeout: None };
                let answer = client.lookup_stream(tokio_stream::once(asked)).await?;
                match answer.into_inner().message().await?.and_then(|answer| answer.result) {
                    Some(v1::lookup_stream_response::Result::Error(error)) => {
                        Err(Status::new(Code::from(error.code), error.message))
                    }
                    _ => Ok(()),
                }
            }
            Self::Acquire => {
                let asked = v1::AcquireLeaseRequest {
                    entry: entry(),
                    request_id: request_id(),
                    owner: "worker".to_owned(),
                    ..Default::default()
                };
                client.acquire_lease(asked).await.map(drop)
            }
            Self::Renew => {
                let asked = v1::RenewLeaseRequest { entry: entry(), lease: lease(), ..Default::default() };
                client.renew_lease(asked).await.map(drop)
            }
            Self::Release => {
                let asked = v1::ReleaseLeaseRequest { entry: entry(), lease: lease(), ..Default::default() };
                client.release_lease(asked).await.map(drop)
            }
            Self::Commit => {
                let asked = v1::CommitPointerRequest {
                    entry: entry(),
                    lease: lease(),
                    html: html(),
                    metadata: Some(v1::PageMetadata::default()),
                    ..Default::default()
                };
                client.commit_pointer(asked).await.map(drop)
            }
            Self::Upload => {
                use v1::upload_body_request::Part;
                let head = v1::UploadHead {
                    entry: entry(),
                    lease: lease(),
                    kind: v1::BodyKind::Html.into(),
                    ..Default::default()
                };
                let parts = [Part::Head(head), Part::Chunk(bytes::Bytes::from_static(b"planted"))];
                let parts = parts.map(|part| v1::UploadBodyRequest { part: Some(part) });
                client.upload_body(tokio_stream::iter(parts)).await.map(drop)
            }
            Self::Sidecar => {
                let asked = v1::ServeSidecarRequest {
                    entry: entry(),
                    sidecar_token: "0123456789abcdef0123456789abcdef".to_owned(),
                    ..Default::default()
                };
                client.serve_sidecar(asked).await?.into_inner().message().await.map(drop)
            }
            Self::Object => {
                let asked = v1::ServeObjectRequest {
                    tenant: "acme".to_owned(),
                    object_name: "isr/0123456789abcdef01234567/1-a.html".to_owned(),
                    ..Default::default()
                };
                client.serve_object(asked).await?.into_inner().message().await.map(drop)
            }
            Self::Page => {
                let asked = v1::ServePageRequest { entry: entry(), ..Default::default() };
                client.serve_page(asked).await?.into_inner().message().await.map(drop)
            }
            Self::Invalidate => {
                let scope = Scope::Tag("news".to_owned());
                client.invalidate(invalidation("acme", scope)).await.map(drop)
            }
            Self::InvalidateEverything => {
                client.invalidate(invalidation("", Scope::Everything(v1::Everything {}))).await.map(drop)
            }
            Self::Watch => {
                let filter = v1::watch_filter::Filter::WholeTenant(v1::WholeTenant {});
                let filters = vec![v1::WatchFilter { tenant: "acme".to_owned(), filter: Some(filter) }];
                let asked = v1::WatchRequest { filters, resume_token: String::new() };
                client.watch(asked).await?.into_inner().message().await.map(drop)
            }
        }
    }
}

/// Presents a token with every call, where there is one.
#[derive(Clone)]
struct Presenting(Option<String>);

impl Interceptor for Presenting {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        Ok(request)
    }
}

type Client = CoordinatorServiceClient<InterceptedService<Channel, Presenting>>;

/// What somebody shows of himself.
#[derive(Clone, Default)]
struct Shown {
    token: Option<String>,
    tls: Option<ClientTlsConfig>,
}

impl Shown {
    fn token(token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..Self::default() }
    }

    /// Connects when it is used.
    fn to(self, world: &World) -> Client {
        let mut endpoint = Endpoint::from_shared(world.endpoint()).unwrap().timeout(PATIENCE);
        if let Some(tls) = self.tls {
            endpoint = endpoint.tls_config(tls).unwrap();
        }
        CoordinatorServiceClient::with_interceptor(endpoint.connect_lazy(), Presenting(self.token))
    }
}

/// What the store was asked so far for callers, by the coordinator's own count.
async fn asked_of_the_store(world: &World) -> BTreeMap<String, String> {
    let admin = world.running.as_ref().unwrap().started.admin.unwrap();
    let text = reqwest::get(format!("http://{admin}/metrics")).await.unwrap().text().await.unwrap();
    assert!(text.contains("leasehold_store_requests_total"), "{text}");
    let requests = text.lines().filter(|line| line.starts_with("leasehold_store_requests_total{"));
    let of_callers = requests.filter(|line| !line.contains("event=\"tail\""));
    of_callers
        .map(|line| line.split_once(' ').map(|(name, count)| (name.to_owned(), count.to_owned())).unwrap())
        .collect()
}

/// Flags for whatever mode: the table must find alike what others did before.
const FLAGS: &str = "--policy @/policy.toml --admin-listen 127.0.0.1:0";

/// Nobodies are told `unknown`, or they get no connection at all.
async fn table(
    world: &World,
    unknown: Option<Code>,
    nobodies: &[(&str, Shown)],
    named: impl Fn(&str) -> Shown,
) {
    for call in Call::ALL {
        let others = ["of-another-tenant.shop", STRANGER, call.lacking()];
        let refused = nobodies.iter().map(|(which, shown)| (*which, shown.clone(), unknown));
        let denied = others.map(|name| (name, named(name), Some(Code::PermissionDenied)));
        for (who, shown, expected) in refused.chain(denied) {
            let before = asked_of_the_store(world).await;
            let status = call.make(shown.to(world)).await.expect_err(who);
            // What the coordinator says has no cause on this side.
            let told = status.source().is_none().then_some(status.code());
            assert_eq!(told, expected, "{call:?} by {who}: {status:?}");
            assert_eq!(asked_of_the_store(world).await, before, "{call:?} by {who}: the store was asked");
        }
        let permitted = match call {
            Call::InvalidateEverything => vec!["admin.shop"],
            _ => vec!["all-but-admin.shop", "admin.shop"],
        };
        for who in permitted {
            permitted_to(call, who, named(who).to(world)).await;
        }
    }
}

/// What else may be wrong with a call is told to those who may make it: there is no such lease, nor such a sidecar.
async fn permitted_to(call: Call, who: &str, client: Client) {
    let status = call.make(client).await.err().unwrap_or_else(|| Status::ok(""));
    let is_permitted = matches!(status.code(), Code::Ok | Code::NotFound | Code::FailedPrecondition);
    assert!(is_permitted, "{call:?} by {who}: {status:?}");
}

#[tokio::test]
async fn static_tokens() {
    let mut world = World::new();
    world.write("policy.toml", RULES);
    let secret = |name: &str| format!("the-secret-token-of-{name}");
    let secrets: Vec<_> = KNOWN.iter().map(|name| (*name, secret(name))).collect();
    let pairs: Vec<_> = secrets.iter().map(|(name, secret)| (*name, &**secret)).collect();
    world.write("tokens.toml", &tokens::tokens(&pairs));
    world.start(&format!("--auth token --tokens @/tokens.toml {FLAGS}")).await;
    let nobodies = [("none", Shown::default()), ("unknown", Shown::token(secret("nobody")))];
    table(&world, Some(Code::Unauthenticated), &nobodies, |name| Shown::token(secret(name))).await;
    world.stop().await;
}

#[tokio::test]
async fn signed_tokens() {
    let (signer, foreign) = (jwt::Signer::new("one"), jwt::Signer::new("one"));
    let mut world = World::new();
    world.write("policy.toml", RULES);
    world.write("keys.json", &jwt::set(&[&signer]));
    world.start(&format!("{} --jwt-keys @/keys.json --admin-listen 127.0.0.1:0", jwt::FLAGS)).await;
    let of = |signer: &jwt::Signer, name: &str| signer.sign(&jwt::with("sub", name.into()));
    let nobodies =
        [("none", Shown::default()), ("by another's key", Shown::token(of(&foreign, "admin.shop")))];
    table(&world, Some(Code::Unauthenticated), &nobodies, |name| Shown::token(of(&signer, name))).await;
    world.stop().await;
}

#[tokio::test]
async fn certificates() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let mut world = World::new();
    world.write("policy.toml", RULES);
    mtls::install(&world, &authority);
    world
        .start(&format!(
            "--auth mtls --tls-cert @/cert.pem --tls-key @/key.pem --tls-client-ca @/ca.pem {FLAGS}"
        ))
        .await;
    let plain = || ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&authority.pem));
    let by = |signer: &Authority, name: &str| {
        let client = signer.client(name);
        let tls = plain().identity(Identity::from_pem(client.certificate, client.key));
        Shown { tls: Some(tls), ..Shown::default() }
    };
    let nobodies = [
        ("none", Shown { tls: Some(plain()), ..Shown::default() }),
        ("of another authority", by(&foreign, "admin.shop")),
    ];
    table(&world, None, &nobodies, |name| by(&authority, name)).await;
    world.stop().await;
}

#[tokio::test]
async fn nobody_is_asked_who_he_is() {
    let mut world = World::new();
    world.start("--auth none").await;
    for call in Call::ALL {
        for (who, shown) in
            [("none", Shown::default()), ("with a token", Shown::token("of-another-tenant.shop"))]
        {
            permitted_to(call, who, shown.to(&world)).await;
        }
    }
    world.stop().await;
}
