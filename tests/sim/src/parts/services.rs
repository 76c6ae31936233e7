//! DynamoDB and S3: each a machine of its own, behind which is the double. Coordinators reach them as in production, through
//! the SDK and HTTP, so that whatever befalls the network befalls these calls too.

use crate::machine::{Address, Context, Network, Software, Stream};
use aws_smithy_async::time::SharedTimeSource;
use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn},
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, Error as ClientError},
    rt::{TokioExecutor, TokioIo},
};
use leasehold_aws::{
    Aws, AwsSettings, Service, Timeouts,
    testing::{Doubles, Fault, Rule},
};
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    sync::Arc,
    time::Duration,
};
use tokio::task::JoinError;
use tower::service_fn as tower_fn;

/// The services as all machines see them, each through faults of its own.
#[derive(Clone)]
pub struct Services {
    doubles: Doubles,
    seen_from: Arc<Mutex<BTreeMap<Address, Doubles>>>,
    duplicates: Arc<Mutex<Duplicates>>,
    troubles: Arc<Mutex<Troubles>>,
}

/// Something that a service does to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Breaks the connection as if nobody listened.
    Refuse,
    /// Has no capacity left.
    Throttle,
    /// Says that another has the item. DynamoDB only.
    Conflict,
    /// Says so of the first item of a transaction, and that the second one's condition does not hold. Appends only.
    ConflictAndRefusal,
    /// Says that there is no right to it.
    Deny,
    /// 500, without effect.
    FailBefore,
    /// 500, with effect.
    FailAfter,
    /// No answer, and no effect.
    HangBefore,
    /// No answer, but an effect.
    HangAfter,
    /// Breaks the connection after the effect.
    DropAnswer,
    /// Answers with something that is no answer, after the effect.
    Garble,
    /// Takes longer to arrive.
    Delay,
    /// Is done at once, and takes longer to be answered.
    DelayAnswer,
}

impl Kind {
    /// Every one.
    pub const ALL: [Self; 13] = [
        Self::Refuse,
        Self::Throttle,
        Self::Conflict,
        Self::ConflictAndRefusal,
        Self::Deny,
        Self::FailBefore,
        Self::FailAfter,
        Self::HangBefore,
        Self::HangAfter,
        Self::DropAnswer,
        Self::Garble,
        Self::Delay,
        Self::DelayAnswer,
    ];

    /// Whether whoever sent the request knows from then on that it had no effect.
    fn is_refusal(self) -> bool {
        matches!(self, Self::Refuse | Self::Throttle | Self::Conflict | Self::ConflictAndRefusal | Self::Deny)
    }

    fn fault(self, rng: &mut StdRng) -> Fault {
        match self {
            Self::Refuse => Fault::Refuse,
            Self::Throttle => Fault::Throttle,
            Self::Conflict => Fault::Conflict,
            Self::ConflictAndRefusal => Fault::ConflictAndRefusal,
            Self::Deny => Fault::Deny,
            Self::FailBefore => Fault::FailBefore,
            Self::FailAfter => Fault::FailAfter,
            Self::HangBefore => Fault::HangBefore,
            Self::HangAfter => Fault::HangAfter,
            Self::DropAnswer => Fault::DropAnswer,
            Self::Garble => Fault::Garble,
            Self::Delay => Fault::Delay(Duration::from_millis(rng.random_range(20..600))),
            Self::DelayAnswer => Fault::DelayAnswer(Duration::from_millis(rng.random_range(20..400))),
        }
    }
}

/// How much goes wrong at the services.
#[derive(Clone, Debug, Default)]
pub struct Trouble {
    /// Of a thousand requests, this happens to so many:
    pub per_mille: u32,
    /// one of these.
    pub kinds: BTreeSet<Kind>,
}

#[derive(Default)]
struct Troubles {
    of_all: Trouble,
    of_one: BTreeMap<Address, Trouble>,
    made: BTreeMap<(&'static str, Kind), u64>,
}

#[derive(Default)]
struct Duplicates {
    /// Of a thousand requests, so many arrive twice.
    per_mille: u32,
    /// The second time so much later, at most.
    within_ms: u64,
    made: u64,
}

impl Services {
    /// A table and a bucket that nothing goes wrong with.
    pub fn new() -> Self {
        Self {
            doubles: Doubles::new(),
            seen_from: Arc::default(),
            duplicates: Arc::default(),
            troubles: Arc::default(),
        }
    }

    /// What is kept, and no faults.
    pub fn doubles(&self) -> &Doubles {
        &self.doubles
    }

    /// The services as this machine sees them: what goes wrong for it alone.
    pub fn seen_from(&self, at: Address) -> Doubles {
        self.seen_from.lock().entry(at).or_insert_with(|| self.doubles.beside()).clone()
    }

    /// From now on, so many of a thousand requests arrive a second time, up to so much later.
    pub fn duplicate(&self, per_mille: u32, within_ms: u64) {
        let mut duplicates = self.duplicates.lock();
        (duplicates.per_mille, duplicates.within_ms) = (per_mille, within_ms);
    }

    /// From now on, this goes wrong for one machine, or for all.
    pub fn trouble(&self, only: Option<Address>, trouble: Trouble) {
        let mut troubles = self.troubles.lock();
        match only {
            Some(at) => drop(troubles.of_one.insert(at, trouble)),
            None => troubles.of_all = trouble,
        }
    }

    /// Nothing goes wrong from now on.
    pub fn recover(&self) {
        let mut troubles = self.troubles.lock();
        troubles.of_all = Trouble::default();
        troubles.of_one.clear();
        self.duplicate(0, 0);
    }

    /// What went wrong so far, by service and kind.
    pub fn troubles_made(&self) -> BTreeMap<(&'static str, Kind), u64> {
        self.troubles.lock().made.clone()
    }

    /// How many requests arrived a second time.
    pub fn duplicates_made(&self) -> u64 {
        self.duplicates.lock().made
    }

    /// The software of the machine of one of them.
    pub fn software(&self, which: Service) -> Software {
        let services = self.clone();
        Box::new(move |context| Box::pin(services.clone().serve(which, context)))
    }

    async fn serve(self, which: Service, context: Context) {
        let mut listener = context.network.listen(context.address);
        let rng = Arc::new(Mutex::new(StdRng::seed_from_u64(context.seed)));
        loop {
            let (stream, from) = listener.accept().await;
            let (services, rng) = (self.clone(), rng.clone());
            let service = service_fn(move |request| {
                // What has arrived is done, whether or not anybody still waits for it: a write that was given up may be
                // applied long after.
                let answering = tokio::spawn(services.clone().answer(which, from, rng.clone(), request));
                async move {
                    let died = |error: JoinError| Err(ConnectorError::other(error.into(), None));
                    answering.await.unwrap_or_else(died)
                }
            });
            let connection =
                http1::Builder::new().auto_date_header(false).serve_connection(TokioIo::new(stream), service);
            // A broken connection is what the other side is told of.
            tokio::spawn(async { drop(connection.await) });
        }
    }

    async fn answer(
        self,
        which: Service,
        from: Address,
        rng: Arc<Mutex<StdRng>>,
        request: http::Request<Incoming>,
    ) -> Result<http::Response<SdkBody>, ConnectorError> {
        let (mut head, body) = request.into_parts();
        let body = body.collect().await.map_err(|error| ConnectorError::io(error.into()))?.to_bytes();
        let host = head.headers.get(http::header::HOST).map_or(&b""[..], |host| host.as_bytes());
        let path = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        head.uri = http::Uri::builder()
            .scheme("http")
            .authority(host)
            .path_and_query(path)
            .build()
            .map_err(|error| ConnectorError::user(error.into()))?;
        let request = http::Request::from_parts(head, body);
        let seen = self.seen_from(from);
        let second = self.second_arrival(&rng);
        // As the API names it; S3's requests have no such header.
        let target = request.headers().get("x-amz-target");
        let is_append = target.is_some_and(|target| target.as_bytes().ends_with(b".TransactWriteItems"));
        let trouble = self.next_trouble((which, is_append), from, &rng);
        // What a service has refused for good, it does not do after all: nobody could ever be told so else.
        let is_refused = trouble.as_ref().is_some_and(|(kind, _)| kind.is_refusal());
        if let Some(later) = second.filter(|_| !is_refused) {
            self.duplicates.lock().made += 1;
            let (services, again) = (self.clone(), received(&request)?);
            tokio::spawn(async move {
                tokio::time::sleep(later).await;
                // Nobody hears the answer.
                let _unheard = services.doubles.answer(which, again).await;
            });
        }
        let request = received(&request)?;
        if let Some((_, fault)) = trouble {
            seen.faults.add(Rule::on_any(fault).times(1));
        }
        let answer = seen.answer(which, request).await?;
        answer.try_into_http1x().map_err(|error| ConnectorError::other(error.into(), None))
    }

    fn next_trouble(
        &self,
        (which, is_append): (Service, bool),
        from: Address,
        rng: &Mutex<StdRng>,
    ) -> Option<(Kind, Fault)> {
        let mut troubles = self.troubles.lock();
        let mut rng = rng.lock();
        let trouble = troubles.of_one.get(&from).unwrap_or(&troubles.of_all);
        let is_table = which == Service::DynamoDb;
        let can_be = |kind: &Kind| match kind {
            Kind::Conflict => is_table,
            Kind::ConflictAndRefusal => is_append,
            _ => true,
        };
        let kinds: Vec<_> = trouble.kinds.iter().copied().filter(can_be).collect();
        if rng.random_range(0..1000) >= trouble.per_mille {
            return None;
        }
        let kind = *kinds.choose(&mut *rng)?;
        *troubles.made.entry((if is_table { "DynamoDB" } else { "S3" }, kind)).or_default() += 1;
        Some((kind, kind.fault(&mut rng)))
    }

    fn second_arrival(&self, rng: &Mutex<StdRng>) -> Option<Duration> {
        let duplicates = self.duplicates.lock();
        let mut rng = rng.lock();
        let later = rng.random_range(1..=duplicates.within_ms.max(1));
        let twice = rng.random_range(0..1000) < duplicates.per_mille;
        twice.then(|| Duration::from_millis(later))
    }
}

impl Default for Services {
    fn default() -> Self {
        Self::new()
    }
}

/// As the SDK hands a request to a connector: the URI is a whole one, and the body is in memory.
fn received(request: &http::Request<Bytes>) -> Result<HttpRequest, ConnectorError> {
    let (head, body) = request.clone().into_parts();
    HttpRequest::try_from(http::Request::from_parts(head, SdkBody::from(body)))
        .map_err(|error| ConnectorError::user(error.into()))
}

/// Where the services are.
#[derive(Clone, Copy, Debug)]
pub struct Whereabouts {
    /// DynamoDB.
    pub dynamodb: Address,
    /// S3.
    pub s3: Address,
}

/// How long a coordinator waits for them.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_millis(100),
    table: Duration::from_millis(300),
    objects: Duration::from_millis(500),
};

/// A coordinator's way to table and bucket.
pub fn connect(context: &Context, services: Whereabouts) -> Aws {
    let settings = AwsSettings {
        dynamodb_endpoint: Some("http://dynamodb".into()),
        s3_endpoint: Some("http://s3".into()),
        timeouts: TIMEOUTS,
        report_capacity: false,
        ..Doubles::settings()
    };
    let client = |to| http_client(context.network.clone(), context.address, to);
    let clients = [client(services.dynamodb), client(services.s3)];
    Doubles::connect_through(settings, clients, SharedTimeSource::new(context.clock.clone()))
}

/// The HTTP client that production has under the SDK, on connections of the simulated network.
fn http_client(network: Network, from: Address, to: Address) -> SharedHttpClient {
    let connect = tower_fn(move |_: http::Uri| {
        let network = network.clone();
        Box::pin(async move {
            let connected = tokio::time::timeout(TIMEOUTS.connect, network.connect(from, to));
            let stream: io::Result<Stream> = connected.await.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
            stream.map(TokioIo::new)
        })
    });
    let client = Client::builder(TokioExecutor::new()).pool_idle_timeout(None).build(connect);
    let connector =
        SharedHttpConnector::new(Connector(Arc::new(move |request| Box::pin(client.request(request)))));
    http_client_fn(move |_, _| connector.clone())
}

type Answer = Result<http::Response<Incoming>, ClientError>;
type Ask = dyn Fn(http::Request<SdkBody>) -> futures::future::BoxFuture<'static, Answer> + Send + Sync;

struct Connector(Arc<Ask>);

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let ask = self.0.clone();
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let answer = ask(request).await.map_err(|error| ConnectorError::io(error.into()))?;
            HttpResponse::try_from(answer.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}
