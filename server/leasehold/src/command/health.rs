//! `leasehold healthcheck`: for those who watch over the process.

use super::{ClientFlags, Ending, Session};
use crate::exit::Failure;
use clap::Args;
use leasehold_client::Health;
use serde::Serialize;

pub(crate) const JSON: &str = "\
Quiet when it serves, one line on stderr when it does not.
JSON: {health: serving|not_serving|unknown|unreachable, error: text|null}
Exits with 0 when it serves, else with 1.";

#[derive(Args, Clone, Debug)]
pub(crate) struct HealthFlags {
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
        let (health, error) = match session.coordinator.health().await {
            Ok(Health::Serving) => ("serving", None),
            Ok(Health::NotServing) => {
                ("not_serving", Some("the coordinator is going down or cut off".to_owned()))
            }
            Ok(Health::Unknown) => ("unknown", Some("the coordinator does not say".to_owned())),
            Err(error) => ("unreachable", Some(session.failed(&error).message)),
        };
        let shape = HealthShape { health, error };
        session.output.result(&shape, String::new)?;
        if let (Some(error), false) = (&shape.error, session.output.as_json) {
            eprintln!("leasehold: {error}");
        }
        Ok(if shape.error.is_none() { Ending::Done } else { Ending::Unhealthy })
    }
}
