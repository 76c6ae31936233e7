//! How a handle says who it is, and whom it believes.

use crate::{Error, clock};
use futures::future::{BoxFuture, Either, FutureExt as _, MapErr, Shared, TryFutureExt as _};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;
use tonic::{
    Code, Status,
    body::Body,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, channel::ResponseFuture},
};
use tonic_types::{ErrorDetails, StatusExt as _};
use tower::Service;

/// Whatever an own source of tokens fails with.
pub type TokenError = Box<dyn std::error::Error + Send + Sync>;

/// A token that expires is asked for anew so long before its end; one that lives less than three times this, after two
/// thirds of its life.
const RENEWED_BEFORE: Duration = Duration::from_secs(60);
/// A file of a token is read anew so often.
const FILE_READ_INTERVAL: Duration = Duration::from_secs(10);
/// How long getting a token may take.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);

/// A token that says who calls.
#[derive(Clone)]
pub struct Token {
    value: String,
    expires_in: Option<Duration>,
}

impl Token {
    /// One that holds until it is refused. What goes into a header: visible ASCII.
    pub fn new(value: impl Into<String>) -> Self {
        Self { value: value.into(), expires_in: None }
    }

    /// One that is over after this, counted from now.
    pub fn expires_in(self, life: Duration) -> Self {
        Self { expires_in: Some(life), ..self }
    }
}

/// Never shows it.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

type TokenFunction = Arc<dyn Fn() -> BoxFuture<'static, Result<Token, TokenError>> + Send + Sync>;

#[derive(Clone)]
enum TokenSource {
    Fixed(String),
    File(PathBuf),
    Function(TokenFunction),
}

#[derive(Clone)]
enum Pem {
    Text(String),
    File(PathBuf),
}

impl Pem {
    fn read(&self) -> Result<String, Error> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File(path) => std::fs::read_to_string(path)
                .map_err(|error| Error::Configuration(format!("cannot read {}: {error}", path.display()))),
        }
    }
}

/// How a handle says who it is, and whom it believes. By default: nobody, and for `https` the authorities of this machine.
///
/// Certificates in files are read anew for every new channel, and a token in a file every ten seconds and whenever it
/// was refused: both may be replaced while calls go on.
#[derive(Clone, Default)]
pub struct Security {
    ca: Option<Pem>,
    identity: Option<(Pem, Pem)>,
    server_name: Option<String>,
    token: Option<TokenSource>,
}

/// Never shows a key or a token.
impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security")
            .field("ca", &self.ca.is_some())
            .field("client_certificate", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .field("token", &self.token.is_some())
            .finish()
    }
}

impl Security {
    /// What the environment says: `LEASEHOLD_CA` (a file) or `LEASEHOLD_CA_PEM` (the text), `LEASEHOLD_CLIENT_CERT` and
    /// `LEASEHOLD_CLIENT_KEY` (files), `LEASEHOLD_SERVER_NAME`, `LEASEHOLD_AUTH_TOKEN` or `LEASEHOLD_AUTH_TOKEN_FILE`. A
    /// variable that is empty counts as none.
    ///
    /// # Errors
    /// [`Error::Configuration`] where two contradict each other, or one of a pair is missing.
    pub fn from_env() -> Result<Self, Error> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let one_of = |one: &str, other: &str| match (variable(one), variable(other)) {
            (Some(_), Some(_)) => {
                Err(Error::Configuration(format!("{one} and {other} are both set: leave out one")))
            }
            (one, other) => Ok((one, other)),
        };
        let mut security = Self::default();
        security = match one_of("LEASEHOLD_CA", "LEASEHOLD_CA_PEM")? {
            (Some(file), _) => security.ca_file(file),
            (None, Some(text)) => security.ca_pem(text),
            (None, None) => security,
        };
        security = match (variable("LEASEHOLD_CLIENT_CERT"), variable("LEASEHOLD_CLIENT_KEY")) {
            (Some(certificate), Some(key)) => security.client_certificate_files(certificate, key),
            (None, None) => security,
            (Some(_), None) | (None, Some(_)) => {
                let message = "LEASEHOLD_CLIENT_CERT and LEASEHOLD_CLIENT_KEY must be set together";
                return Err(Error::Configuration(message.to_owned()));
            }
        };
        if let Some(name) = variable("LEASEHOLD_SERVER_NAME") {
            security = security.server_name(name);
        }
        Ok(match one_of("LEASEHOLD_AUTH_TOKEN", "LEASEHOLD_AUTH_TOKEN_FILE")? {
            (Some(token), _) => security.token(token),
            (None, Some(file)) => security.token_file(file),
            (None, None) => security,
        })
    }

    /// Believes the coordinators of these authorities only: PEM.
    pub fn ca_pem(self, pem: impl Into<String>) -> Self {
        Self { ca: Some(Pem::Text(pem.into())), ..self }
    }

    /// The same, from a file.
    pub fn ca_file(self, path: impl Into<PathBuf>) -> Self {
        Self { ca: Some(Pem::File(path.into())), ..self }
    }

    /// Presents this certificate, with its chain, and has its key: PEM.
    pub fn client_certificate_pem(self, certificate: impl Into<String>, key: impl Into<String>) -> Self {
        Self { identity: Some((Pem::Text(certificate.into()), Pem::Text(key.into()))), ..self }
    }

    /// The same, from files.
    pub fn client_certificate_files(self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { identity: Some((Pem::File(certificate.into()), Pem::File(key.into()))), ..self }
    }

    /// Expects this name in the coordinator's certificate instead of the host in the endpoint.
    pub fn server_name(self, name: impl Into<String>) -> Self {
        Self { server_name: Some(name.into()), ..self }
    }

    /// Presents this token with every call.
    pub fn token(self, token: impl Into<String>) -> Self {
        Self { token: Some(TokenSource::Fixed(token.into())), ..self }
    }

    /// Presents the token in this file, without the white space around it.
    pub fn token_file(self, path: impl Into<PathBuf>) -> Self {
        Self { token: Some(TokenSource::File(path.into())), ..self }
    }

    /// Presents what this function answers, asked when there is none yet, before one expires, and after one was refused;
    /// by one call at a time, for at most 10 s.
    pub fn token_by<F>(self, function: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Token, TokenError>> + Send + 'static,
    {
        Self { token: Some(TokenSource::Function(Arc::new(move || function().boxed()))), ..self }
    }

    /// That it fits the endpoint, and can be read.
    pub(crate) fn check(&self, endpoint: &str, is_tls: bool) -> Result<(), Error> {
        let given = [
            ("the authorities", self.ca.is_some()),
            ("the client certificate", self.identity.is_some()),
            ("the server name", self.server_name.is_some()),
        ];
        if let Some((what, _)) = given.iter().find(|(_, is_given)| *is_given && !is_tls) {
            return Err(Error::Configuration(format!(
                "endpoint {endpoint:?}: {what} would have no effect without TLS; it must begin with https://"
            )));
        }
        if let Some(TokenSource::Fixed(token)) = &self.token {
            header(token)?;
        }
        if is_tls {
            self.tls()?;
        }
        Ok(())
    }

    /// TLS as the files have it now.
    pub(crate) fn tls(&self) -> Result<ClientTlsConfig, Error> {
        let mut tls = ClientTlsConfig::new();
        tls = match &self.ca {
            Some(ca) => tls.ca_certificate(Certificate::from_pem(ca.read()?)),
            None => tls.with_native_roots(),
        };
        if let Some((certificate, key)) = &self.identity {
            tls = tls.identity(Identity::from_pem(certificate.read()?, key.read()?));
        }
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name.clone());
        }
        Ok(tls)
    }

    /// The endpoint with TLS, where the files can be used.
    pub(crate) fn secure(&self, endpoint: &Endpoint) -> Result<Endpoint, Error> {
        endpoint.clone().tls_config(self.tls()?).map_err(|error| {
            let cause =
                std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            Error::Configuration(format!("certificates: {error}{cause}"))
        })
    }

    pub(crate) fn presents_certificate(&self) -> bool {
        self.identity.is_some()
    }

    pub(crate) fn credentials(&self) -> Option<Arc<Credentials>> {
        let source = self.token.clone()?;
        Some(Arc::new(Credentials { source, kept: Mutex::new(None), asking: Mutex::new(None) }))
    }
}

fn header(token: &str) -> Result<http::HeaderValue, Error> {
    let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
    let value = is_token.then(|| http::HeaderValue::try_from(format!("Bearer {token}")).ok()).flatten();
    let mut value = value.ok_or_else(|| {
        Error::Configuration("the token is empty, or has characters that a header must not have".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The token in use, for all connections of a handle.
pub(crate) struct Credentials {
    source: TokenSource,
    kept: Mutex<Option<Kept>>,
    /// The question to the source that is under way.
    asking: Mutex<Option<Asking>>,
}

/// One question, for all calls that wait for its answer: one that is given up takes nothing with it.
type Asking = Shared<BoxFuture<'static, Result<http::HeaderValue, Arc<str>>>>;

#[derive(Clone)]
struct Kept {
    header: http::HeaderValue,
    /// When another one is asked for.
    renewed_at: Option<Instant>,
    /// When it is over, where that is known before it is refused.
    until: Option<Instant>,
}

impl Credentials {
    /// Whether another try may present another token.
    pub(crate) fn may_renew(&self) -> bool {
        !matches!(self.source, TokenSource::Fixed(_))
    }

    /// Forgets the token in use: it was refused, or what it had opened was ended for it.
    pub(crate) fn forget(&self) {
        if self.may_renew() {
            *self.kept.lock() = None;
        }
    }

    fn at_hand(&self) -> Option<http::HeaderValue> {
        let kept = self.kept.lock();
        let is_due = |kept: &&Kept| kept.renewed_at.is_none_or(|at| clock::now() < at);
        kept.as_ref().filter(is_due).map(|kept| kept.header.clone())
    }

    /// One that is due to be renewed, and not over yet.
    fn not_over(&self) -> Option<http::HeaderValue> {
        let kept = self.kept.lock();
        let lives = |kept: &&Kept| kept.until.is_none_or(|until| clock::now() < until);
        kept.as_ref().filter(lives).map(|kept| kept.header.clone())
    }

    /// Forgets the token that was refused, unless another one has taken its place.
    fn refused(&self, header: &http::HeaderValue) {
        if self.may_renew() {
            let mut kept = self.kept.lock();
            if kept.as_ref().is_some_and(|kept| kept.header == header) {
                *kept = None;
            }
        }
    }

    async fn get(self: &Arc<Self>) -> Result<http::HeaderValue, Status> {
        let asking = {
            let mut asking = self.asking.lock();
            // Whoever asked before has got one.
            if let Some(header) = self.at_hand() {
                return Ok(header);
            }
            let begun = asking.take().unwrap_or_else(|| {
                let credentials = Arc::clone(self);
                let task = tokio::spawn(async move { credentials.renew().await });
                task.map(|ended| ended.unwrap_or_else(|_| Err("asking for it died".into()))).boxed().shared()
            });
            asking.insert(begun).clone()
        };
        match (asking.await, self.not_over()) {
            (Ok(header), _) => Ok(header),
            (Err(why), Some(header)) => {
                tracing::warn!(%why, "a token could not be renewed; going on with the one of before");
                Ok(header)
            }
            (Err(why), None) => Err(no_token(&why)),
        }
    }

    /// Asks the source, and keeps what it answers.
    async fn renew(&self) -> Result<http::HeaderValue, Arc<str>> {
        let asked = clock::now();
        let answer = tokio::time::timeout(TOKEN_TIMEOUT, self.ask()).await;
        let answer =
            answer.unwrap_or_else(|_| Err(format!("its source did not answer within {TOKEN_TIMEOUT:?}")));
        let kept = answer.and_then(|token| {
            let header = header(&token.value).map_err(|error| error.to_string())?;
            let life = token.expires_in;
            let renewed_in = match (&self.source, life) {
                (TokenSource::File(_), _) => Some(FILE_READ_INTERVAL),
                (_, life) => {
                    life.map(|life| life.saturating_sub(RENEWED_BEFORE).max(life.mul_f64(2.0 / 3.0)))
                }
            };
            let later = |after: Duration| clock::later(asked, after);
            Ok(Kept { header, renewed_at: renewed_in.map(later), until: life.map(later) })
        });
        let mut asking = self.asking.lock();
        *asking = None;
        match kept {
            Ok(kept) => {
                let header = kept.header.clone();
                *self.kept.lock() = Some(kept);
                Ok(header)
            }
            Err(why) => Err(why.into()),
        }
    }

    async fn ask(&self) -> Result<Token, String> {
        match &self.source {
            TokenSource::Fixed(token) => Ok(Token::new(token)),
            TokenSource::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || {
                    std::fs::read_to_string(&path)
                        .map_err(|error| format!("cannot read {}: {error}", path.display()))
                });
                let text = read.await.unwrap_or_else(|_| Err("reading it died".to_owned()));
                Ok(Token::new(text?.trim()))
            }
            TokenSource::Function(function) => {
                function().await.map_err(|error| format!("its source failed: {error}"))
            }
        }
    }
}

/// The call was not sent: as from the coordinator, so that whoever branches on reasons needs to know one only.
fn no_token(why: &str) -> Status {
    let details = ErrorDetails::with_error_info(
        "UNAUTHENTICATED",
        leasehold_proto::ERROR_DOMAIN,
        HashMap::from([("source".to_owned(), "client".to_owned())]),
    );
    Status::with_error_details(Code::Unauthenticated, format!("there is no token to present: {why}"), details)
}

/// A channel that presents a token with every call.
#[derive(Clone)]
pub(crate) struct Authorized {
    channel: Channel,
    credentials: Option<Arc<Credentials>>,
}

impl Authorized {
    pub(crate) fn new(channel: Channel, credentials: Option<Arc<Credentials>>) -> Self {
        Self { channel, credentials }
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Answer = Result<http::Response<Body>, BoxError>;

impl Service<http::Request<Body>> for Authorized {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future =
        Either<MapErr<ResponseFuture, fn(tonic::transport::Error) -> BoxError>, BoxFuture<'static, Answer>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.channel.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let Some(credentials) = &self.credentials else {
            return Either::Left(self.channel.call(request).map_err(Into::into as fn(_) -> _));
        };
        let credentials = Arc::clone(credentials);
        let unready = self.channel.clone();
        let mut channel = std::mem::replace(&mut self.channel, unready);
        let call = async move {
            let header = match credentials.at_hand() {
                Some(header) => header,
                None => credentials.get().await?,
            };
            request.headers_mut().insert(http::header::AUTHORIZATION, header.clone());
            let answer = channel.call(request).await?;
            // A refusal has no body: its status is among the headers.
            if Status::from_header_map(answer.headers())
                .is_some_and(|status| status.code() == Code::Unauthenticated)
            {
                credentials.refused(&header);
            }
            Ok(answer)
        };
        Either::Right(call.boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<Security, Error> {
        Security::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_says_who_and_whom() {
        let security = from(&[
            ("LEASEHOLD_CA_PEM", "pem"),
            ("LEASEHOLD_CLIENT_CERT", "c"),
            ("LEASEHOLD_CLIENT_KEY", "k"),
            ("LEASEHOLD_AUTH_TOKEN_FILE", "t"),
            ("LEASEHOLD_AUTH_TOKEN", ""),
        ])
        .unwrap();
        assert!(matches!(security.ca, Some(Pem::Text(text)) if text == "pem"));
        assert!(matches!(security.token, Some(TokenSource::File(path)) if path.ends_with("t")));
        assert!(security.identity.is_some());
        let table: [(&[(&str, &str)], &str); 3] = [
            (&[("LEASEHOLD_CA", "a"), ("LEASEHOLD_CA_PEM", "b")], "LEASEHOLD_CA_PEM"),
            (
                &[("LEASEHOLD_AUTH_TOKEN", "a"), ("LEASEHOLD_AUTH_TOKEN_FILE", "b")],
                "LEASEHOLD_AUTH_TOKEN_FILE",
            ),
            (&[("LEASEHOLD_CLIENT_CERT", "a")], "LEASEHOLD_CLIENT_KEY"),
        ];
        for (variables, named) in table {
            let error = from(variables).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn nothing_that_is_secret_shows() {
        let security = Security::default().token("xyzzy").client_certificate_pem("xyzzy", "xyzzy");
        assert!(!format!("{security:?} {:?}", Token::new("xyzzy")).contains("xyzzy"));
        assert!(!format!("{:?}", header("xyzzy").unwrap()).contains("xyzzy"));
    }

    #[test]
    fn what_would_have_no_effect_is_refused() {
        for security in [
            Security::default().ca_pem("x"),
            Security::default().client_certificate_pem("x", "y"),
            Security::default().server_name("x"),
        ] {
            assert!(matches!(security.check("http://a", false), Err(Error::Configuration(_))));
        }
        for token in ["", "a b", "a\nb", "a,b", "é"] {
            assert!(matches!(
                Security::default().token(token).check("http://a", false),
                Err(Error::Configuration(_))
            ));
        }
    }
}
