//! What goes wrong between the SDK and the services, on demand.

use super::connector::{Answer, Server, operation_of};
use aws_smithy_runtime_api::{
    client::{
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use leasehold_store::decorators::faults::{
    Gate,
    script::{self, Script},
};
use std::{future::pending, io, sync::Arc, time::Duration};

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Nobody listens: it is never sent.
    Refuse,
    /// The service has no capacity left for it: without effect.
    Throttle,
    /// Another write has the item at that moment: without effect. For DynamoDB.
    Conflict,
    /// As [`Fault::Conflict`], of the first item of a transaction whose second is refused by its condition: an append from an
    /// old head, while yet another append moves it.
    ConflictAndRefusal,
    /// The caller has no right to it: without effect.
    Deny,
    /// Answered with 500, and not applied.
    FailBefore,
    /// Applied, and answered with 500.
    FailAfter,
    /// Never answered, and not applied.
    HangBefore,
    /// Applied, and never answered.
    HangAfter,
    /// Applied, and the connection breaks before the answer.
    DropAnswer,
    /// Applied, and answered with something that is no answer.
    Garble,
    /// It reaches the service after this time, on tokio's clock.
    Delay(Duration),
    /// It is done at once, and answered after this time: what is told is old by then.
    DelayAnswer(Duration),
    /// It reaches the service when the gate lets it.
    Hold(Gate),
    /// It is done at once, and answered when the gate lets it.
    HoldAnswer(Gate),
}

/// Which requests a fault happens to, by the API's name of the operation: `PutItem`, `DeleteObjects`.
pub type Rule = script::Rule<&'static str, Fault>;

/// The script. Without rules, requests go through as they are. Clones are the same script.
#[derive(Clone, Default)]
pub struct Faults {
    script: Script<&'static str, Fault>,
}

impl Faults {
    /// An empty script.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule, for requests from now on.
    pub fn add(&self, rule: Rule) {
        self.script.add(rule);
    }

    /// Holds every request of this operation, before it reaches the service, until the gate lets it through.
    pub fn hold(&self, operation: &'static str) -> Gate {
        let gate = Gate::new();
        self.add(Rule::on(operation, Fault::Hold(gate.clone())));
        gate
    }

    /// Removes all rules. Requests that are held stay so until their gate lets them through.
    pub fn clear(&self) {
        self.script.clear();
    }

    /// `server` under this script.
    pub(super) fn in_front_of(&self, server: Server) -> Server {
        let faults = self.clone();
        Arc::new(move |request| {
            let fault = faults.script.next(&operation_of(&request));
            let server = server.clone();
            Box::pin(async move {
                match fault {
                    None => server(request).await,
                    Some(fault) => suffer(fault, server, request).await,
                }
            })
        })
    }
}

async fn suffer(fault: Fault, server: Server, request: HttpRequest) -> Answer {
    let table = request.headers().get("x-amz-target").is_some();
    match fault {
        Fault::Refuse => Err(broken(io::ErrorKind::ConnectionRefused)),
        Fault::Throttle if table => Ok(dynamodb_error(400, "ThrottlingException")),
        Fault::Throttle => Ok(s3_error(503, "SlowDown")),
        Fault::Conflict => Ok(conflict(&operation_of(&request))),
        Fault::ConflictAndRefusal => Ok(cancelled(["TransactionConflict", "ConditionalCheckFailed"])),
        Fault::Deny if table => Ok(dynamodb_error(400, "AccessDeniedException")),
        Fault::Deny => Ok(s3_error(403, "AccessDenied")),
        Fault::FailBefore => Ok(internal_error(table)),
        Fault::FailAfter => {
            let _lost = server(request).await;
            Ok(internal_error(table))
        }
        Fault::HangBefore => pending().await,
        Fault::HangAfter => {
            let _lost = server(request).await;
            pending().await
        }
        Fault::DropAnswer => {
            let _lost = server(request).await;
            Err(broken(io::ErrorKind::ConnectionReset))
        }
        Fault::Garble => {
            let _lost = server(request).await;
            Ok(response(200, SdkBody::from("<html>welcome to the proxy")))
        }
        Fault::Delay(time) => {
            tokio::time::sleep(time).await;
            server(request).await
        }
        Fault::DelayAnswer(time) => {
            let answer = server(request).await;
            tokio::time::sleep(time).await;
            answer
        }
        Fault::Hold(gate) => {
            gate.pass().await;
            server(request).await
        }
        Fault::HoldAnswer(gate) => {
            let answer = server(request).await;
            gate.pass().await;
            answer
        }
    }
}

fn broken(kind: io::ErrorKind) -> ConnectorError {
    ConnectorError::io(io::Error::from(kind).into())
}

fn internal_error(table: bool) -> HttpResponse {
    if table { dynamodb_error(500, "InternalServerError") } else { s3_error(500, "InternalError") }
}

pub(super) fn dynamodb_error(status: u16, code: &str) -> HttpResponse {
    let code = format!("com.amazonaws.dynamodb.v20120810#{code}");
    response(status, SdkBody::from(serde_json::json!({ "__type": code, "message": "injected" }).to_string()))
}

fn conflict(operation: &str) -> HttpResponse {
    if operation != "TransactWriteItems" {
        return dynamodb_error(400, "TransactionConflictException");
    }
    cancelled(["TransactionConflict", "None"])
}

fn cancelled(codes: [&str; 2]) -> HttpResponse {
    let body = serde_json::json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "injected",
        "CancellationReasons": codes.map(|code| serde_json::json!({ "Code": code })),
    });
    response(400, SdkBody::from(body.to_string()))
}

fn s3_error(status: u16, code: &str) -> HttpResponse {
    response(status, SdkBody::from(format!("<Error><Code>{code}</Code><Message>injected</Message></Error>")))
}

pub(super) fn response(status: u16, body: SdkBody) -> HttpResponse {
    HttpResponse::new(StatusCode::try_from(status).expect("a status"), body)
}
