//! How a run ends when it does not end well: one line on stderr, and an exit code.

use leasehold_client::{Error, Reason};
use serde::Serialize;
use std::process::ExitCode;

/// What the exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did not work.
    Failure = 1,
    /// It was not asked rightly.
    Usage = 2,
    /// The coordinator answered, but not what was wished for.
    NotReached = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// For `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failure: no coordinator, no answer in time, a file or a directory that cannot be used,
     or the coordinator refused it
  2  usage: a flag, a variable or a field with a wrong value
  3  the coordinator answered, but not what was wished for: no page, no such sidecar, the lease
     is not granted or not held any more, the commit is superseded or fenced";

/// A run that did not end well.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// What happened.
    pub(crate) message: String,
    /// What to do.
    pub(crate) advice: Option<String>,
    /// The coordinator's own word for it.
    reason: Option<String>,
    retryable: bool,
    may_have_been_applied: bool,
}

/// A [`Failure`] in JSON, on stderr.
#[derive(Serialize)]
struct FailureShape<'a> {
    error: ErrorShape<'a>,
}

#[derive(Serialize)]
struct ErrorShape<'a> {
    message: &'a str,
    advice: Option<&'a str>,
    reason: Option<&'a str>,
    retryable: bool,
    may_have_been_applied: bool,
    exit_code: u8,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>, advice: &str) -> Self {
        Self {
            exit,
            message: message.into(),
            advice: (!advice.is_empty()).then(|| advice.to_owned()),
            reason: None,
            retryable: false,
            may_have_been_applied: false,
        }
    }

    /// Something about this machine, such as a file.
    pub(crate) fn local(message: impl Into<String>, advice: &str) -> Self {
        Self::new(Exit::Failure, message, advice)
    }

    /// A call that got no outcome. `endpoint` is where it was sent; `may_change` is false where it only reads.
    pub(crate) fn of_call(error: &Error, endpoint: &str, may_change: bool) -> Self {
        let may_have_been_applied = may_change && error.may_have_been_applied();
        let reached = !never_reached(error);
        let reason = error.reason();
        let (message, advice) = if reached {
            let advice = match reason {
                // Whatever says no without its reason is none of ours, or stands between.
                Some(Reason::Unstated) => {
                    format!("see whether it is a coordinator that answers at {endpoint}")
                }
                reason => advice(error, reason, may_have_been_applied).to_owned(),
            };
            (described(error), advice)
        } else {
            let cause = root_cause(error);
            let advice = if cause.contains("certificate") {
                "name its authority with --ca or LEASEHOLD_CA; its certificate must be for the host of the endpoint"
            } else {
                "start one with `leasehold serve`, or name another with --endpoint or LEASEHOLD_ENDPOINT, https:// where it speaks TLS, else http://"
            };
            (format!("no coordinator answers at {endpoint} ({cause})"), advice.to_owned())
        };
        let exit = match reason {
            Some(Reason::InvalidField) => Exit::Usage,
            Some(Reason::SidecarNotFound | Reason::ObjectNotFound | Reason::PageNotFound) => Exit::NotReached,
            // Of what it is built from, only the endpoint is the operator's.
            _ if matches!(error, Error::Configuration(_)) => Exit::Usage,
            _ => Exit::Failure,
        };
        Self {
            reason: reason.map(|reason| reason.as_str().to_owned()),
            retryable: error.is_retryable(),
            may_have_been_applied,
            ..Self::new(exit, message, &advice)
        }
    }

    /// One line on stderr.
    pub(crate) fn report(&self, as_json: bool) -> ExitCode {
        let Self { exit, message, advice, reason, retryable, may_have_been_applied } = self;
        let advice = advice.as_deref();
        if as_json {
            let error = ErrorShape {
                message,
                advice,
                reason: reason.as_deref(),
                retryable: *retryable,
                may_have_been_applied: *may_have_been_applied,
                exit_code: *exit as u8,
            };
            eprintln!("{}", serde_json::to_string(&FailureShape { error }).unwrap_or_default());
        } else {
            let advice = advice.map(|advice| format!("; {advice}")).unwrap_or_default();
            eprintln!("leasehold: {message}{advice}");
        }
        (*exit).into()
    }
}

fn never_reached(error: &Error) -> bool {
    match error {
        Error::NotSent(_) => true,
        Error::InDoubt(last) | Error::DeadlineExceeded { last: Some(last), .. } => never_reached(last),
        _ => false,
    }
}

fn described(error: &Error) -> String {
    match error.refusal() {
        Some(refusal) if !refusal.fields.is_empty() => {
            let fields = refusal.fields.iter().map(|wrong| format!("{} {}", wrong.field, wrong.description));
            format!("the coordinator refused it: {}", fields.collect::<Vec<_>>().join(", "))
        }
        Some(refusal) => format!("the coordinator refused it: {} ({})", refusal.message, refusal.reason),
        None => error.with_cause(),
    }
}

fn root_cause(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn advice(error: &Error, reason: Option<&Reason>, may_have_been_applied: bool) -> &'static str {
    match reason {
        Some(Reason::InvalidField) => "correct it and try again",
        Some(Reason::TenantBoundary) => "declare the tenant with --tenant",
        Some(Reason::ConsistencyTokenUnknown) => "the token is of another store: leave --token out",
        Some(Reason::SidecarNotFound) => {
            "take the token from the page's URL or from `leasehold lookup`, and name its tenant and release"
        }
        Some(Reason::ObjectNotFound) => {
            "`leasehold lookup` says what the bodies of the current page are called; --tenant whose they are"
        }
        Some(Reason::PageNotFound) => "`leasehold explain` says why there is none",
        Some(Reason::LimitReached) => "try again in a moment, or raise the limit (`leasehold serve --help`)",
        Some(Reason::StoredDataCorrupt | Reason::Internal) => "see the coordinator's log",
        Some(Reason::BodyUrlUnsupported) => "ask for the body itself",
        Some(Reason::OutcomeUnknown) => "look at the entry with `leasehold explain` before you repeat it",
        Some(Reason::ObjectConflict | Reason::ObjectMissing) => {
            "commit again under a new lease, and what you name yourself under a new name"
        }
        Some(Reason::Unauthenticated) => {
            "present a token (--auth-token-file, LEASEHOLD_AUTH_TOKEN) or a certificate (--client-cert) that it knows"
        }
        Some(Reason::PermissionDenied) => {
            "ask whoever keeps the coordinator's policy, or name another --tenant"
        }
        Some(Reason::StoreUnavailable | Reason::Draining | Reason::Deadline) => "try again in a moment",
        _ if matches!(error, Error::Configuration(_)) => {
            "correct --endpoint or LEASEHOLD_ENDPOINT, and what is to go with it"
        }
        _ if may_have_been_applied => {
            "it may have been applied: see `leasehold explain` before you repeat it"
        }
        // It broke before there was an answer.
        _ if error.may_have_been_applied() => {
            "try again; where it speaks TLS, by https://, with --ca, and with --client-cert if it asks for one"
        }
        _ if error.is_retryable() => "try again, or allow more time with --timeout",
        _ => "see the coordinator's log",
    }
}
