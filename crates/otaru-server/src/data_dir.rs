//! The folder that a server keeps everything in, and the lock that keeps a second server out.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use otaru_release::output::sync_name;

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

    /// Lets nobody but its owner read what is in it, whatever the folder itself allows: one that was there before keeps its mode. Says
    /// whether others may look into the folder.
    ///
    /// # Errors
    /// When the permissions cannot be set.
    pub fn make_private(&self) -> Result<bool, DataDirError> {
        private_contents(&self.path).map_err(|error| DataDirError::Io { path: self.path.clone(), error })
    }

    /// Makes the database's file, if it is not there, for its owner only: SQLite gives the files beside it the same permissions.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make_database(&self) -> Result<(), DataDirError> {
        let path = self.database();
        match create_private(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(DataDirError::Io { path, error })
            }
            _ => Ok(()),
        }
    }

    /// The folder of TLS keys that the server made itself.
    pub fn tls(&self) -> PathBuf {
        self.path.join("tls")
    }

    /// The database's file.
    pub fn database(&self) -> PathBuf {
        database_in(&self.path)
    }

    /// Returns the id under which the last server of this folder was known to others of its database, if there was one.
    pub fn last_server(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.path.join(SERVER)).ok()?;
        Some(text.trim().to_owned()).filter(|id| !id.is_empty() && id.len() <= 64)
    }

    /// Notes under which id the server of this folder is known to others from now on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note_server(&self, id: &str) -> Result<(), DataDirError> {
        let path = self.path.join(SERVER);
        write_private(&path, id.as_bytes()).map_err(|error| DataDirError::Io { path, error })
    }

    /// The folder of copies of artifacts that are in a bucket.
    pub fn copies(&self) -> PathBuf {
        self.path.join("copies")
    }

    /// The folder of artifacts.
    pub fn artifacts(&self) -> PathBuf {
        artifacts_in(&self.path)
    }
}

/// Words of errors about a folder whose server uses PostgreSQL.
pub(crate) const IN_POSTGRES: &str =
    "keeps its fleet in PostgreSQL (if it has gone back to the file, remove `server-id` there)";

/// Place of the database of a data folder's server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DatabaseAt {
    /// A file in the folder.
    File,
    /// PostgreSQL. A file may be there, too, of the time before.
    Postgres,
    /// No server has used the folder.
    Nowhere,
}

/// Tells where the database of a folder's server is. A file that is empty has no fleet: servers over PostgreSQL used to make one.
pub(crate) fn database_at(data: &Path) -> DatabaseAt {
    let len = database_in(data).metadata().map_or(None, |file| file.is_file().then_some(file.len()));
    match (len, data.join(SERVER).exists()) {
        (_, true) | (Some(0), false) => DatabaseAt::Postgres,
        (Some(_), false) => DatabaseAt::File,
        (None, false) => DatabaseAt::Nowhere,
    }
}

/// File with the id of the server, where several share a database.
const SERVER: &str = "server-id";

/// The database's file in a data folder.
pub(crate) fn database_in(data: &Path) -> PathBuf {
    data.join("otaru.db")
}

/// The folder of artifacts in a data folder.
pub(crate) fn artifacts_in(data: &Path) -> PathBuf {
    data.join("artifacts")
}

/// Makes a file that is not there yet, for its owner only.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Writes a file for its owner only, whole or not at all; it is there after a loss of power, once this has returned.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let next = path.with_extension("new");
    match std::fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = create_private(&next)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&next, path)?;
    sync_name(path)
}

fn private_contents(data: &Path) -> io::Result<bool> {
    make_private(&artifacts_in(data))?;
    for name in ["otaru.db", "otaru.db-wal", "otaru.db-shm", "lock"] {
        restrict(&data.join(name), 0o600)?;
    }
    restrict(&artifacts_in(data), 0o700)?;
    is_open_to_others(data)
}

#[cfg(unix)]
fn restrict(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    match std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn is_open_to_others(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(path.metadata()?.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn restrict(_: &Path, _: u32) -> io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
fn is_open_to_others(_: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Makes a folder for its owner only, and those above it that are not there; they are there after a loss of power, once this has returned.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    let new: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.recursive(true).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => new.into_iter().try_for_each(sync_name),
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

    #[cfg(unix)]
    #[test]
    fn what_is_in_a_folder_that_is_open_is_not() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let (open, own) = (dir.path().join("open"), dir.path().join("own"));
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(open.join("otaru.db"), "").unwrap();
        std::fs::set_permissions(open.join("otaru.db"), std::fs::Permissions::from_mode(0o644)).unwrap();
        for (path, is_open) in [(&open, true), (&own, false)] {
            let data = DataDir::open(path).unwrap();
            data.make_database().unwrap();
            assert_eq!(data.make_private().unwrap(), is_open);
            let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&data.database()), 0o600);
            assert_eq!(mode(&data.artifacts()), 0o700);
            assert_eq!(mode(&path.join("lock")), 0o600);
        }
    }

    #[test]
    fn a_file_is_no_folder() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = DataDir::open(file.path()).unwrap_err();
        assert!(error.to_string().starts_with("cannot use the folder"), "{error}");
    }
}
