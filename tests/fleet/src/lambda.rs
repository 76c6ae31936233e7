//! The HTTP interface by which AWS runs a Lambda, as its documentation has it: the function asks for the next invocation, and
//! posts its response.

use crate::{Process, binaries, until};
use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc, oneshot},
    task::JoinHandle,
};

/// A Lambda that runs, and what invokes it: one invocation at a time, as AWS has it.
#[derive(Debug)]
pub struct LambdaProcess {
    process: Process,
    api: Arc<Api>,
    server: JoinHandle<()>,
}

/// What a function URL would answer.
#[derive(Clone, Debug)]
pub struct LambdaAnswer {
    /// The HTTP status.
    pub status: u64,
    /// Its headers, names in lower case.
    pub headers: HashMap<String, String>,
    /// The body.
    pub body: String,
}

#[derive(Debug)]
struct Api {
    numbers: AtomicU64,
    invoke: mpsc::Sender<Invocation>,
    next: Mutex<mpsc::Receiver<Invocation>>,
    running: Mutex<HashMap<String, oneshot::Sender<Result<Value, String>>>>,
}

#[derive(Debug)]
struct Invocation {
    event: Value,
    answer: oneshot::Sender<Result<Value, String>>,
}

/// How long an invocation may take.
const LIMIT: Duration = Duration::from_secs(60);

impl LambdaProcess {
    /// The example, which asks this coordinator.
    pub async fn start(coordinator: &str) -> Self {
        let (invoke, next) = mpsc::channel(1);
        let api = Arc::new(Api {
            numbers: AtomicU64::new(1),
            invoke,
            next: Mutex::new(next),
            running: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.unwrap_or_else(|error| panic!("a socket on loopback: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("its address: {error}"));
        let routes = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next_invocation))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(failure))
            .route("/2018-06-01/runtime/init/error", post(init_failure))
            .with_state(api.clone());
        let server = tokio::spawn(async move {
            axum::serve(listener, routes).await.unwrap_or_else(|error| panic!("the runtime API: {error}"));
        });
        let mut command = Command::new(binaries::lambda());
        command.env("AWS_LAMBDA_RUNTIME_API", address.to_string()).env("LEASEHOLD_ENDPOINT", coordinator);
        for (name, value) in [
            ("AWS_LAMBDA_FUNCTION_NAME", "render"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/render"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "2026/01/01/[$LATEST]0"),
        ] {
            command.env(name, value);
        }
        Self { process: Process::start("lambda", &mut command), api, server }
    }

    /// Its process, to be frozen and thawed.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Whether it waits for its next invocation: AWS freezes it then, and not before.
    pub async fn is_idle(&self) {
        // Only who waits for an invocation holds the receiver.
        until("the function asks for work", LIMIT, async || self.api.next.try_lock().is_err().then_some(()))
            .await;
    }

    /// Asks for a path with its query, as a function URL passes it on.
    ///
    /// # Panics
    /// When the function fails, or does not answer in time.
    pub async fn get(&self, path: &str) -> LambdaAnswer {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let event = json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": path,
            "rawQueryString": query,
            "headers": { "host": "example.lambda-url.eu-central-1.on.aws", "user-agent": "a browser" },
            "requestContext": {
                "accountId": "anonymous",
                "apiId": "example",
                "domainName": "example.lambda-url.eu-central-1.on.aws",
                "domainPrefix": "example",
                "http": {
                    "method": "GET",
                    "path": path,
                    "protocol": "HTTP/1.1",
                    "sourceIp": "192.0.2.1",
                    "userAgent": "a browser",
                },
                "requestId": "00000000-0000-0000-0000-000000000000",
                "routeKey": "$default",
                "stage": "$default",
                "time": "01/Jan/2026:00:00:00 +0000",
                "timeEpoch": 1_767_225_600_000_u64,
            },
            "isBase64Encoded": false,
        });
        let (answer, answered) = oneshot::channel();
        let invoked = self.api.invoke.send(Invocation { event, answer }).await;
        assert!(invoked.is_ok(), "the runtime API is gone");
        let answer = tokio::time::timeout(LIMIT, answered).await;
        let answer = answer.unwrap_or_else(|_| panic!("{path}: no answer within {LIMIT:?}"));
        let answer = answer.unwrap_or_else(|_| panic!("{path}: the function went away"));
        let answer = answer.unwrap_or_else(|error| panic!("{path}: the function failed: {error}"));
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let headers = answer["headers"].as_object().into_iter().flatten();
        LambdaAnswer {
            status: answer["statusCode"].as_u64().unwrap_or_default(),
            headers: headers.filter_map(|(name, value)| Some((name.to_lowercase(), text(value)?))).collect(),
            body: text(&answer["body"]).unwrap_or_default(),
        }
    }
}

impl Drop for LambdaProcess {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl LambdaAnswer {
    /// How the page came about.
    pub fn state(&self) -> &str {
        self.headers.get("x-isr-state").map_or("", String::as_str)
    }
}

async fn next_invocation(State(api): State<Arc<Api>>) -> Response {
    let Some(Invocation { event, answer }) = api.next.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let id = format!("00000000-0000-0000-0000-{:012}", api.numbers.fetch_add(1, Ordering::Relaxed));
    api.running.lock().await.insert(id.clone(), answer);
    let headers = [
        ("lambda-runtime-aws-request-id", id),
        ("lambda-runtime-deadline-ms", deadline_ms().to_string()),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:eu-central-1:123456789012:function:render".to_owned(),
        ),
        ("lambda-runtime-trace-id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700".to_owned()),
        ("content-type", "application/json".to_owned()),
    ];
    (headers, event.to_string()).into_response()
}

/// A Lambda is told by the clock of the wall when its time is over.
#[expect(clippy::disallowed_methods, reason = "the function has no other clock in common with this process")]
fn deadline_ms() -> u128 {
    (SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + LIMIT).as_millis()
}

async fn response(State(api): State<Arc<Api>>, Path(id): Path<String>, body: Bytes) -> StatusCode {
    let answer = serde_json::from_slice(&body).map_err(|error| format!("{error}: {body:?}"));
    api.ended(&id, answer).await
}

async fn failure(State(api): State<Arc<Api>>, Path(id): Path<String>, body: String) -> StatusCode {
    api.ended(&id, Err(body)).await
}

async fn init_failure(body: String) -> StatusCode {
    eprintln!("the function did not start: {body}");
    StatusCode::ACCEPTED
}

impl Api {
    async fn ended(&self, id: &str, answer: Result<Value, String>) -> StatusCode {
        match self.running.lock().await.remove(id) {
            Some(waiting) => {
                // A test that has ended waits no more.
                drop(waiting.send(answer));
                StatusCode::ACCEPTED
            }
            None => StatusCode::NOT_FOUND,
        }
    }
}
