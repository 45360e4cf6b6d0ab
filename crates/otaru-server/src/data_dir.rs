//! The folder that a server keeps everything in, and the lock that keeps a second server out.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Why a folder cannot be a server's.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It cannot be made or opened.
    #[error("cannot use the folder {}: {error}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// Another server has it.
    #[error(
        "another server uses {}; stop it first, or give this one another folder with --data",
        .0.display()
    )]
    InUse(PathBuf),
}

/// A folder that is ours while this lives, whatever way the process ends: the system gives the lock back.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the folder if it is not there, readable for its owner only, and locks it.
    ///
    /// # Errors
    /// When it cannot be made, or another server has it.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let failed = |error| DataDirError::Io { path: path.to_owned(), error };
        make_private(path).map_err(failed)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join("lock"))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// The database's file.
    pub fn database(&self) -> PathBuf {
        database_in(&self.path)
    }

    /// The folder of artifacts.
    pub fn artifacts(&self) -> PathBuf {
        artifacts_in(&self.path)
    }
}

/// The database's file in a data folder.
pub(crate) fn database_in(data: &Path) -> PathBuf {
    data.join("otaru.db")
}

/// The folder of artifacts in a data folder.
pub(crate) fn artifacts_in(data: &Path) -> PathBuf {
    data.join("artifacts")
}

fn make_private(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.recursive(true).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let first = DataDir::open(&path).unwrap();
        assert!(matches!(DataDir::open(&path), Err(DataDirError::InUse(_))));
        drop(first);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_file_is_no_folder() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = DataDir::open(file.path()).unwrap_err();
        assert!(error.to_string().starts_with("cannot use the folder"), "{error}");
    }
}
