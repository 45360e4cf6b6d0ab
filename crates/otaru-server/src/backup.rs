//! Backup and restore: one tar file with a consistent copy of the database and every artifact it names.
//!
//! A backup may be made while the server runs. The database is copied first, by SQLite's own means; artifacts never change. Only one
//! that was replaced may be removed meanwhile: then the copy is out of date, and another one is taken.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::{Component, Path, PathBuf};

use otaru_format::digest::Digest;
use rusqlite::{Connection, OpenFlags};
use sha2::{Digest as _, Sha256};

use crate::data_dir::{DataDir, DataDirError, artifacts_in, database_in};

/// The database's name in a backup.
const DATABASE: &str = "otaru.db";
/// How artifacts' names begin there.
const ARTIFACTS: &str = "artifacts";
/// Pages that are copied at once, between which writers have their turn.
const PAGES: i32 = 1_024;

/// How often a copy is taken anew because a file was removed meanwhile.
const TRIES: usize = 3;

/// Why a backup could not be made or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is no server's data.
    #[error("{} holds no server's data; --data names the folder that `otaru serve` uses", .0.display())]
    NoData(PathBuf),
    /// There is something where a backup is to be restored.
    #[error("{} holds a server's data already; a backup is restored to a folder without", .0.display())]
    NotEmpty(PathBuf),
    /// It is not a backup, or a part of it is missing or damaged.
    #[error("the backup is not whole: {0}; take another one")]
    Damaged(String),
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// A file failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The folder cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
}

/// What is in a backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contents {
    /// Artifacts.
    pub artifacts: u64,
    /// Bytes of them and of the database.
    pub bytes: u64,
}

/// Writes a backup of the data folder to `out`, which is there whole or not at all. `progress` hears of every artifact:
/// how many are done, of how many.
///
/// # Errors
/// When there is nothing to back up, or something cannot be read or written.
pub fn backup(data: &Path, out: &Path, mut progress: impl FnMut(u64, u64)) -> Result<Contents, BackupError> {
    let database = database_in(data);
    if !database.is_file() {
        return Err(BackupError::NoData(data.to_owned()));
    }
    for _ in 1..TRIES {
        match attempt(data, out, &mut progress) {
            Err(BackupError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
    }
    attempt(data, out, &mut progress)
}

fn attempt(data: &Path, out: &Path, progress: &mut impl FnMut(u64, u64)) -> Result<Contents, BackupError> {
    let database = database_in(data);
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let copy = tempfile::NamedTempFile::new_in(folder)?;
    copy_database(&database, copy.path())?;
    let named = artifacts_named_in(copy.path())?;
    // Its permissions are the owner's only: a backup holds what the data folder holds.
    let mut archive = tar::Builder::new(BufWriter::new(tempfile::NamedTempFile::new_in(folder)?));
    let mut contents = Contents { artifacts: 0, bytes: copy.path().metadata()?.len() };
    archive.append_path_with_name(copy.path(), DATABASE)?;
    for (name, size) in &named {
        archive.append_path_with_name(artifacts_in(data).join(name), Path::new(ARTIFACTS).join(name))?;
        contents.artifacts += 1;
        contents.bytes += size;
        progress(contents.artifacts, named.len() as u64);
    }
    let file = archive.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.as_file().sync_all()?;
    file.persist(out).map_err(|error| error.error)?;
    Ok(contents)
}

/// Restores a backup to a data folder that holds nothing yet.
///
/// # Errors
/// When the folder is in use or not empty, or the backup is not whole. What was restored by then is taken away again.
pub fn restore(from: &Path, data: &Path, progress: impl FnMut(u64, u64)) -> Result<Contents, BackupError> {
    let target = DataDir::open(data)?;
    if target.database().exists() || target.artifacts().exists() {
        return Err(BackupError::NotEmpty(data.to_owned()));
    }
    let restored = unpack(from, data, progress);
    if restored.is_err() {
        // The reason is the first error; what cannot be removed is seen by the next attempt.
        let _ = std::fs::remove_file(target.database());
        let _ = std::fs::remove_dir_all(target.artifacts());
    }
    restored
}

fn copy_database(from: &Path, to: &Path) -> Result<(), rusqlite::Error> {
    let source = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let mut target = Connection::open(to)?;
    let copy = rusqlite::backup::Backup::new(&source, &mut target)?;
    copy.run_to_completion(PAGES, std::time::Duration::from_millis(5), None)
}

/// The artifacts a database names: path in the folder, and size.
fn artifacts_named_in(database: &Path) -> Result<BTreeMap<PathBuf, u64>, BackupError> {
    let connection = Connection::open(database)?;
    let mut rows = connection.prepare("SELECT digest, size FROM artifacts")?;
    let named = rows.query_map([], |row| {
        let digest = Digest(row.get(0)?);
        Ok((crate::artifacts::path_of(digest), row.get::<_, i64>(1)?))
    })?;
    named
        .map(|row| row.map(|(path, size)| (path, size.unsigned_abs())))
        .collect::<Result<_, _>>()
        .map_err(Into::into)
}

fn unpack(from: &Path, data: &Path, mut progress: impl FnMut(u64, u64)) -> Result<Contents, BackupError> {
    let mut archive = tar::Archive::new(BufReader::new(File::open(from)?));
    let mut named = BTreeMap::new();
    let mut contents = Contents::default();
    let mut total = 0;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        if name == Path::new(DATABASE) {
            contents.bytes += entry.size();
            entry.unpack(database_in(data))?;
            named = artifacts_named_in(&database_in(data))?;
            total = named.len() as u64;
            continue;
        }
        // Only what the database names, and only where that belongs.
        let Some(artifact) = name.strip_prefix(ARTIFACTS).ok().filter(|path| is_plain(path)) else {
            return Err(BackupError::Damaged(format!("{} does not belong into one", name.display())));
        };
        if named.remove(artifact).is_none() {
            return Err(BackupError::Damaged(format!("{} is not named in its database", name.display())));
        }
        unpack_artifact(&mut entry, &artifacts_in(data).join(artifact), artifact)?;
        contents.artifacts += 1;
        contents.bytes += entry.size();
        progress(contents.artifacts, total);
    }
    if !database_in(data).is_file() {
        return Err(BackupError::Damaged("there is no database in it".into()));
    }
    match named.keys().next() {
        Some(missing) => Err(BackupError::Damaged(format!("{} is missing", missing.display()))),
        None => Ok(contents),
    }
}

fn is_plain(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_)))
}

fn unpack_artifact(entry: &mut impl io::Read, to: &Path, name: &Path) -> Result<(), BackupError> {
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = BufWriter::new(File::create_new(to)?);
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let len = match entry.read(&mut buffer)? {
            0 => break,
            len => len,
        };
        hasher.update(&buffer[..len]);
        io::Write::write_all(&mut file, &buffer[..len])?;
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    if crate::artifacts::path_of(Digest::from_hasher(hasher)) != name {
        return Err(BackupError::Damaged(format!(
            "{} has other contents than its name says",
            name.display()
        )));
    }
    Ok(())
}
