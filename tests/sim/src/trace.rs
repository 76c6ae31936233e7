//! What happened, in order, as one digest: two runs of a seed are the same run where their traces are.

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use std::{
    fmt::{self, Write as _},
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
    sync::Arc,
};

/// Every packet and every step of an operation, line by line. Clones are the same one.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<Lines>>);

struct Lines {
    digest: Sha256,
    count: u64,
    line: String,
    file: Option<BufWriter<File>>,
}

impl Trace {
    /// Kept as a digest only, or in a file as well.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn new(file: Option<&Path>) -> std::io::Result<Self> {
        let file = file.map(File::create).transpose()?.map(BufWriter::new);
        let lines = Lines { digest: Sha256::new(), count: 0, line: String::new(), file };
        Ok(Self(Arc::new(Mutex::new(lines))))
    }

    /// Adds a line.
    pub fn add(&self, line: fmt::Arguments<'_>) {
        let mut lines = self.0.lock();
        let Lines { digest, count, line: text, file } = &mut *lines;
        text.clear();
        // Writing to memory does not fail.
        let _ = writeln!(text, "{line}");
        digest.update(text.as_bytes());
        *count += 1;
        if let Some(file) = file {
            // The trace in the digest is whole, whatever becomes of the copy.
            let _ = file.write_all(text.as_bytes());
        }
    }

    /// The number of lines, and the digest of all of them, in hex.
    pub fn finish(&self) -> (u64, String) {
        let mut lines = self.0.lock();
        if let Some(file) = &mut lines.file {
            let _ = file.flush();
        }
        (lines.count, hex::encode(lines.digest.clone().finalize()))
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trace")
    }
}
