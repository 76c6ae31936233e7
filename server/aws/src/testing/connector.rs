//! The seam: what the SDK sends, handed to a server in the process.

use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn},
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
};
use futures::future::BoxFuture;
use std::{fmt, sync::Arc};

/// What answers requests: a server, or something in front of one.
pub(super) type Server = Arc<dyn Fn(HttpRequest) -> BoxFuture<'static, Answer> + Send + Sync>;

/// An answer, or what went wrong on the way.
pub(super) type Answer = Result<HttpResponse, ConnectorError>;

/// A client of the SDK that asks `server`.
pub(super) fn client(server: Server) -> SharedHttpClient {
    let connector = SharedHttpConnector::new(Connector(server));
    http_client_fn(move |_, _| connector.clone())
}

struct Connector(Server);

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.0(request))
    }
}

/// The API's name of what is asked for.
pub(super) fn operation_of(request: &HttpRequest) -> String {
    if let Some(target) = request.headers().get("x-amz-target") {
        return target.rsplit('.').next().unwrap_or_default().into();
    }
    let path =
        request.uri().split("://").nth(1).and_then(|rest| rest.split_once('/')).map_or("", |(_, path)| path);
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let object = path.trim_end_matches('/').contains('/');
    match (request.method(), object) {
        ("PUT", true) => "PutObject",
        ("GET", true) => "GetObject",
        ("HEAD", true) => "HeadObject",
        ("DELETE", true) => "DeleteObject",
        ("POST", false) if query.split('&').any(|part| part == "delete" || part == "delete=") => {
            "DeleteObjects"
        }
        ("GET", false) if query.split('&').any(|part| part == "list-type=2") => "ListObjectsV2",
        ("PUT", false) => "CreateBucket",
        ("HEAD", false) => "HeadBucket",
        _ => "another",
    }
    .into()
}
