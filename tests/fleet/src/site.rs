//! Workers of the example site, and what they answer over HTTP.

use crate::{CoordinatorProcess, Process, binaries, now, until};
use std::{process::Command, time::Duration};
use tokio::time::Instant;

/// How a worker is to behave.
#[derive(Clone, Debug)]
pub struct SiteOptions {
    /// Its name, which its pages hold.
    pub worker: &'static str,
    /// Whose pages it renders; `None`: nobody's in particular.
    pub tenant: Option<&'static str>,
    /// Makes every render take so much longer.
    pub render_delay: Duration,
    /// How long its leases last without renewal.
    pub lease_ttl: Duration,
    /// How long its pages stay fresh.
    pub revalidate: Duration,
}

impl Default for SiteOptions {
    fn default() -> Self {
        Self {
            worker: "site",
            tenant: None,
            render_delay: Duration::ZERO,
            lease_ttl: Duration::from_secs(10),
            revalidate: Duration::from_secs(3600),
        }
    }
}

/// A worker.
#[derive(Debug)]
pub struct SiteProcess {
    process: Process,
    visitor: Visitor,
}

/// Somebody who asks a worker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Visitor {
    address: String,
    http: reqwest::Client,
}

/// What a worker answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// How the page came about: `x-isr-state`. Empty where the answer is no page.
    pub state: String,
    /// Of which generation it is, where it is kept.
    pub generation: Option<u64>,
    /// The body.
    pub body: String,
    /// When all of it was there.
    pub at: Instant,
}

impl SiteProcess {
    /// A worker that asks this coordinator.
    pub async fn start(coordinator: &CoordinatorProcess, options: SiteOptions) -> Self {
        Self::start_at(&coordinator.endpoint(), options).await
    }

    /// A worker that asks whoever is there.
    pub async fn start_at(endpoint: &str, options: SiteOptions) -> Self {
        let SiteOptions { worker, tenant, render_delay, lease_ttl, revalidate } = options;
        let ms = |span: Duration| format!("{}ms", span.as_millis());
        let mut command = Command::new(binaries::site());
        command.args(["--listen", "127.0.0.1:0", "--worker", worker]);
        command.args(["--coordinator", endpoint]);
        command.args(["--render-delay", &ms(render_delay), "--lease-ttl", &ms(lease_ttl)]);
        command.args(["--revalidate", &ms(revalidate)]);
        command.args(tenant.into_iter().flat_map(|tenant| ["--tenant", tenant]));
        let mut process = Process::start(format!("site {worker}"), &mut command);
        let address = process
            .announced(|line| Some(line.strip_prefix("site listening on ")?.trim_end().to_owned()))
            .await;
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build();
        let http = http.unwrap_or_else(|error| panic!("an HTTP client: {error}"));
        Self { process, visitor: Visitor { address, http } }
    }

    /// Its process, to be ended, frozen, or listened to.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// A visitor, who may go on asking while something happens to the process.
    pub fn visitor(&self) -> Visitor {
        self.visitor.clone()
    }

    /// As [`Visitor::get`].
    pub async fn get(&self, path: &str) -> Answer {
        self.visitor.get(path).await
    }

    /// How many pages it has rendered.
    pub async fn renders(&self) -> u64 {
        let body = self.get("/_site/renders").await.body;
        let total = body.split_once("\"total\":").map(|(_, rest)| rest);
        let digits = total.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
        digits.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("no total in {body}"))
    }

    /// Waits until it has begun so many renders.
    pub async fn has_begun(&self, renders: u64) {
        let what = format!("{renders} renders begin");
        until(&what, Duration::from_secs(20), async || (self.renders().await >= renders).then_some(())).await;
    }
}

impl Visitor {
    /// Asks for a path with its query.
    ///
    /// # Errors
    /// When no whole answer came: the worker is gone.
    pub async fn try_get(&self, path: &str) -> Result<Answer, reqwest::Error> {
        self.get_with(path, &[]).await
    }

    /// Asks for a path with its query.
    ///
    /// # Panics
    /// When no whole answer came.
    pub async fn get(&self, path: &str) -> Answer {
        self.try_get(path).await.unwrap_or_else(|error| panic!("{path}: {error:?}"))
    }

    /// Asks for a path with these headers.
    ///
    /// # Errors
    /// As [`try_get`](Self::try_get).
    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Result<Answer, reqwest::Error> {
        let mut request = self.http.get(format!("{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await?;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let state = header("x-isr-state").unwrap_or_default().to_owned();
        let generation = header("x-isr-generation").and_then(|text| text.parse().ok());
        let status = response.status().as_u16();
        let body = response.text().await?;
        Ok(Answer { status, state, generation, body, at: now() })
    }
}
