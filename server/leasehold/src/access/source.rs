//! Where a text comes from: a file, which may change, or a variable, which does not.

use std::{fmt, io, path::PathBuf, sync::Arc};

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// Where a text comes from. Never shows it.
#[derive(Clone)]
pub enum Source {
    /// This file, read anew when it changes.
    File(PathBuf),
    /// This variable.
    Variable {
        /// Its name.
        name: &'static str,
        /// What it holds.
        text: Arc<str>,
    },
}

/// A text that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {place}: {source}")]
pub struct SourceError {
    place: String,
    source: io::Error,
}

impl Source {
    /// The text.
    ///
    /// # Errors
    /// [`SourceError`] for a file that cannot be read, is no text, or is over 16 MiB.
    pub fn read(&self) -> Result<String, SourceError> {
        match self {
            Self::Variable { text, .. } => Ok(text.to_string()),
            Self::File(path) => {
                let read = || {
                    if std::fs::metadata(path)?.len() > MAX_BYTES {
                        return Err(io::Error::other(format!("it is over the limit of {MAX_BYTES} bytes")));
                    }
                    std::fs::read_to_string(path)
                };
                read().map_err(|source| SourceError { place: self.to_string(), source })
            }
        }
    }

    /// Whether it may say something else later.
    pub(crate) fn may_change(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

/// The texts, in their order.
pub(super) fn read_all(sources: &[Source]) -> Result<Vec<String>, SourceError> {
    sources.iter().map(Source::read).collect()
}

/// The place, never the text.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable { name, .. } => f.write_str(name),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({self})")
    }
}
