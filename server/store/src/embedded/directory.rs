//! The directory of a store, and the lock that keeps a second process out of it.

use super::OpenError;
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

/// The file whose lock says that the directory is in use. It stays when the store is closed: a lock file that comes and
/// goes can be locked by two, one of them holding a file that has no name any more.
const LOCK_FILE: &str = "leasehold.lock";
const DATABASE_FILE: &str = "leasehold.db";

/// A directory that nobody else has open. The lock ends with the value, and with the process, however it ends.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Held for its lock alone.
    _lock: File,
}

impl Directory {
    /// Creates the directory where it is missing, and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Directory { dir: path.to_owned(), source };
        create_durably(path).map_err(failed)?;
        let lock_path = path.join(LOCK_FILE);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(lock_path)
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::InUse { dir: path.to_owned(), holder: holder(&mut lock) });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // For people only: what a refused process tells its operator. The lock itself is what counts.
        write_holder(&mut lock).map_err(failed)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE_FILE)
    }

    /// Makes the names of files that were created in it survive a crash of the machine.
    pub(super) fn sync(&self) -> Result<(), OpenError> {
        sync_directory(&self.path).map_err(|source| OpenError::Directory { dir: self.path.clone(), source })
    }
}

fn holder(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    Read::take(&mut *lock, 32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_holder(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

/// Creates a directory and those above it. Without the sync of each parent, a crash of the machine could lose the
/// directory, and with it everything that was acknowledged.
fn create_durably(path: &Path) -> io::Result<()> {
    // That of a bare name is empty: the working directory is there.
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists()) {
        create_durably(parent)?;
    }
    match fs::create_dir(path) {
        Ok(()) => sync_directory(&path.join("..")),
        // Whoever created it, perhaps a moment ago.
        Err(_) if path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Elsewhere a directory cannot be opened as a file; names are made durable by the file system.
#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}
