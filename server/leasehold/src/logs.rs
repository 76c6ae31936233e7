//! Logs: on stderr, so that stdout stays for what was asked.

use std::{fmt, io::IsTerminal as _};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// What is logged where nobody says.
pub(crate) const DEFAULT: &str = "info";

/// What is logged, as `tracing` writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter(String);

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub(crate) struct Logging {
    pub(crate) filter: Filter,
    pub(crate) format: LogFormat,
}

impl Filter {
    /// A level, or directives such as `info,leasehold_service=debug`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let is_level = |part: &str| part.trim().parse::<LevelFilter>().is_ok();
        // A misspelt level would be taken for the name of a target, and silence everything else.
        let known =
            text.split(',').all(|part| !part.trim().is_empty() && (part.contains('=') || is_level(part)));
        if !known || EnvFilter::try_new(text).is_err() {
            let allowed = "error, warn, info, debug, trace or off, or a level per target, as in info,h2=off";
            return Err(format!("is no filter; allowed: {allowed}"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Logging {
    /// From here on, for the whole process. The first one stays.
    pub(crate) fn install(&self) {
        // Where none is named, the SDK's own warnings of what it has not found are pages long, and are said again in a line.
        let quiet = if self.filter.0 == DEFAULT { ",aws_config=error" } else { "" };
        let filter = EnvFilter::new(format!("{}{quiet}", self.filter));
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        let installed = match self.format {
            LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
            LogFormat::Json => builder.json().flatten_event(true).try_init(),
        };
        if installed.is_err() {
            tracing::debug!("logs go where they went before");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_levels_are_refused_rather_than_taken_for_targets() {
        for good in ["info", "DEBUG", "off", "warn,leasehold_service=debug", "leasehold=trace,h2=off"] {
            assert!(Filter::parse(good).is_ok(), "{good}");
        }
        for bad in ["verbose", "infos", "", "info,debgu", "leasehold=loud"] {
            assert!(Filter::parse(bad).is_err_and(|why| why.contains("allowed: error, warn")), "{bad}");
        }
    }
}
