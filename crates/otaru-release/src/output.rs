//! Files that are there whole or not at all, also after a loss of power: written beside their place, then renamed.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::path::Path;

/// Access to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Whoever may read the user's other files.
    Usual,
    /// The user alone.
    Private,
}

/// Treatment of a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Leave it, and fail with [`io::ErrorKind::AlreadyExists`].
    Keep,
    /// Put the new one in its place.
    Replace,
}

/// Writes a file. Whatever fails, and whenever, `path` has either its old contents or all of the new ones; these once this has returned.
///
/// # Errors
/// Returns an error if the folder cannot be written to, and [`io::ErrorKind::AlreadyExists`] if the file exists and is to be kept.
pub fn write(path: &Path, contents: &[u8], access: Access, existing: Existing) -> io::Result<()> {
    let folder = folder_of(path);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".otaru-");
    let permissions = permissions(access);
    if let Some(permissions) = permissions {
        builder.permissions(permissions);
    }
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(contents)?;
    file.as_file().sync_all()?;
    match existing {
        Existing::Keep => file.persist_noclobber(path)?,
        Existing::Replace => file.persist(path)?,
    };
    sync_name(path)
}

/// Brings the name of a file to the disk: without that, a loss of power may undo that it was renamed.
///
/// # Errors
/// When the disk fails. A folder whose file system cannot do that, or that may not be read, is left alone.
pub fn sync_name(path: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(folder_of(path)).and_then(|folder| folder.sync_all()) {
        Err(error) if is_never_done(error.kind()) => Ok(()),
        outcome => outcome,
    }
}

fn is_never_done(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(unix)]
fn permissions(access: Access) -> Option<Permissions> {
    use std::os::unix::fs::PermissionsExt as _;
    // What the user's umask takes away is taken away from this, too.
    let mode = match access {
        Access::Usual => 0o666,
        Access::Private => 0o600,
    };
    Some(Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn permissions(_: Access) -> Option<Permissions> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_behind_and_nothing_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write(&path, b"one", Access::Usual, Existing::Keep).unwrap();
        let error = write(&path, b"two", Access::Usual, Existing::Keep).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        write(&path, b"two", Access::Usual, Existing::Replace).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn private_files_are_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write(&path, b"secret", Access::Private, Existing::Keep).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
