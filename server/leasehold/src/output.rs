//! What goes to stdout: aligned rows for people, one JSON object per line for programs.

use crate::exit::Failure;
use serde::Serialize;
use std::io::{self, Write as _};

/// Where a command's results go, and in which of the two forms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) as_json: bool,
}

impl Output {
    /// Writes one result, in the form that was asked for.
    pub(crate) fn result(
        self,
        shape: &impl Serialize,
        for_people: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let text = if self.as_json {
            serde_json::to_string(shape)
                .map_err(|error| Failure::local(format!("cannot write JSON: {error}"), ""))?
        } else {
            for_people()
        };
        if text.is_empty() { Ok(()) } else { write(format!("{}\n", text.trim_end()).as_bytes()) }
    }

    /// Writes a body as it is.
    pub(crate) fn bytes(self, body: &[u8]) -> Result<(), Failure> {
        write(body)
    }
}

fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        // Whoever reads has seen enough, as `head` has.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::local(format!("cannot write to stdout: {error}"), "")),
        Ok(()) => Ok(()),
    }
}

/// Labels and values, in two columns.
#[derive(Debug, Default)]
pub(crate) struct Rows(Vec<(&'static str, String)>);

impl Rows {
    /// Adds a row.
    pub(crate) fn add(&mut self, label: &'static str, value: impl Into<String>) -> &mut Self {
        self.0.push((label, value.into()));
        self
    }

    /// Adds a row where there is a value.
    pub(crate) fn add_some(&mut self, label: &'static str, value: Option<impl Into<String>>) -> &mut Self {
        if let Some(value) = value {
            self.add(label, value);
        }
        self
    }

    /// The text.
    pub(crate) fn text(&self) -> String {
        let width = self.0.iter().map(|(label, _)| label.len()).max().unwrap_or_default();
        self.0.iter().map(|(label, value)| format!("{label:width$}  {value}\n")).collect()
    }
}
