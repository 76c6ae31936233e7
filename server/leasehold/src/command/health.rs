//! `leasehold healthcheck`: for those who watch over the process.

use super::{ClientFlags, Ending, Session};
use crate::{exit::Failure, quantity::exact};
use clap::Args;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, Uri, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use leasehold_client::Health;
use serde::Serialize;
use std::error::Error;
use tokio::net::TcpStream;

pub(crate) const JSON: &str = "\
Quiet when it serves, one line on stderr when it does not.
JSON: {health: serving|not_serving|unknown|unreachable, error: text|null}
Exits with 0 when it serves, else with 1.";

/// The most that is read of what an admin port says.
const ANSWER_BYTES: usize = 1024;

#[derive(Args, Clone, Debug)]
pub(crate) struct HealthFlags {
    /// Ask this admin port instead (--admin-listen of the coordinator): for containers, whose check then is none
    /// of the service's calls
    #[arg(long, env = "LEASEHOLD_ADMIN", value_name = "URL", value_parser = admin)]
    admin: Option<Uri>,
    #[command(flatten)]
    pub(super) client: ClientFlags,
}

#[derive(Debug, Serialize)]
struct HealthShape {
    health: &'static str,
    error: Option<String>,
}

impl HealthFlags {
    pub(super) async fn run(self, session: &Session) -> Result<Ending, Failure> {
        let (health, error) = match &self.admin {
            Some(admin) => self.ask(admin).await,
            None => match session.coordinator.health().await {
                Ok(Health::Serving) => ("serving", None),
                Ok(Health::NotServing) => {
                    ("not_serving", Some("the coordinator is going down or cut off".to_owned()))
                }
                Ok(Health::Unknown) => ("unknown", Some("the coordinator does not say".to_owned())),
                Err(error) => ("unreachable", Some(session.failed(&error).message)),
            },
        };
        let shape = HealthShape { health, error };
        session.output.result(&shape, String::new)?;
        if let (Some(error), false) = (&shape.error, session.output.as_json) {
            eprintln!("leasehold: {error}");
        }
        Ok(if shape.error.is_none() { Ending::Done } else { Ending::Unhealthy })
    }
    /// Whether the coordinator of an admin port serves.
    async fn ask(&self, admin: &Uri) -> (&'static str, Option<String>) {
        let asking = tokio::time::timeout(self.client.timeout, readiness(admin));
        let nobody = |why: String| ("unreachable", Some(format!("no admin port answers at {admin} ({why})")));
        match asking.await {
            Ok(Ok((StatusCode::OK, _))) => ("serving", None),
            Ok(Ok((StatusCode::SERVICE_UNAVAILABLE, says))) => {
                ("not_serving", Some(format!("the coordinator is {}", says.trim())))
            }
            Ok(Ok((status, _))) => {
                ("unknown", Some(format!("{admin} is no coordinator's admin port: it answers with {status}")))
            }
            Ok(Err(error)) => nobody(error.to_string()),
            Err(_) => nobody(format!("nothing within {}", exact(self.client.timeout))),
        }
    }
}

/// What the admin port says to `/readyz`.
async fn readiness(admin: &Uri) -> Result<(StatusCode, String), Box<dyn Error + Send + Sync>> {
    let authority = admin.authority().map_or("", |authority| authority.as_str());
    let address = if admin.port().is_some() { authority.to_owned() } else { format!("{authority}:80") };
    let connection = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(connection)).await?;
    // It hands over what it reads, and ends with the process.
    tokio::spawn(connection);
    let request = Request::get("/readyz").header(header::HOST, authority).body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let says = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&says).into_owned()))
}

fn admin(text: &str) -> Result<Uri, String> {
    let refused =
        || "is no URL of an admin port; allowed: http://HOST:PORT, such as http://127.0.0.1:7421".to_owned();
    let uri: Uri = text.parse().map_err(|_| refused())?;
    let is_bare = uri.path() == "/" && uri.query().is_none();
    let names_a_host = uri.host().is_some_and(|host| !host.is_empty());
    if uri.scheme_str() == Some("http") && names_a_host && is_bare { Ok(uri) } else { Err(refused()) }
}
