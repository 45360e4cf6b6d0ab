//! Backup and restore: one tar file with a consistent copy of the database and every artifact it names. Artifacts in a bucket are in no
//! backup: copies of those are made by the bucket's own means.
//!
//! A backup may be made while the server runs. The database is copied first, by SQLite's own means; artifacts never change. Only one
//! that was replaced may be removed meanwhile: then the copy is out of date, and another one is taken.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use otaru_format::digest::Digest;
use otaru_release::output::sync_name;
use rusqlite::backup::StepResult;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};
use sha2::{Digest as _, Sha256};

use crate::data_dir::{
    DataDir, DataDirError, DatabaseAt, IN_POSTGRES, artifacts_in, create_private, database_at, database_in,
    make_private,
};
use crate::db::{self, DbError};

/// Key in the table `meta` of the place of artifacts, where that is not the data folder.
pub(crate) const ARTIFACTS_AT: &str = "artifacts_at";
/// The database's name in a backup.
const DATABASE: &str = "otaru.db";
/// Prefix of the artifacts' names there.
const ARTIFACTS: &str = "artifacts";
/// Pages that are copied at once, between which writers have their turn.
const PAGES: i32 = 1_024;

/// The pause between two such pieces.
const PAUSE: Duration = Duration::from_millis(5);

/// Number of times that a copy is taken again because a file was removed meanwhile.
const TRIES: usize = 3;

/// Why a backup could not be made or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is no server's data.
    #[error("{} holds no server's data; --data names the folder that `otaru serve` uses", .0.display())]
    NoData(PathBuf),
    /// The fleet is not in the folder.
    #[error(
        "the server of {} {IN_POSTGRES}, and a backup of this folder would lack it; `otaru backup --database URL -o FILE` says how it is backed up",
        .0.display()
    )]
    InPostgres(PathBuf),
    /// There is something where a backup is to be restored.
    #[error("{} holds a server's data already; a backup is restored to a folder without", .0.display())]
    NotEmpty(PathBuf),
    /// It is something else. Nothing of what is in it is told.
    #[error("{} is no backup; `otaru backup` makes one", .0.display())]
    NoBackup(PathBuf),
    /// A part of it is missing or damaged.
    #[error("the backup is not whole: {0}; take another one")]
    Damaged(String),
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// It was made by a newer version.
    #[error("the backup was made by a newer version of Otaru (schema {0}); restore it with that one")]
    Newer(i64),
    /// The backup cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// The artifacts are in a bucket.
    #[error(
        "the firmware of this server is at {0}, and no backup holds it: have the bucket keep versions, copy it by its own tools \
         (`aws s3 sync {0} FOLDER`), and back up the rest with --database-only"
    )]
    InBucket(String),
    /// The backup is of the database alone.
    #[error(
        "the backup is of the database alone, and the {missing} files of firmware that it names are {at}; restore it with --database-only, and \
         start the server with --artifacts as it was"
    )]
    DatabaseOnly {
        /// Number of artifacts that it names.
        missing: usize,
        /// Place of the artifacts.
        at: String,
    },
    /// Somebody stopped it.
    #[error("stopped before the end; nothing is left behind")]
    Stopped,
    /// A file failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The folder cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
}

/// Parts of a server's data that are backed up or restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The database and all artifacts.
    Whole,
    /// The database, whose artifacts are in a bucket, or are copied by other means.
    DatabaseOnly,
}

/// Fate of the tokens and fleet keys that a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logins {
    /// They are as good as they were then, also those that were revoked since.
    AsTheyWere,
    /// None is good any more; the next start makes an admin token.
    Ended,
}

/// Outcome of a restore, and which secrets are good again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Contents of the backup.
    pub contents: Contents,
    /// Names of the tokens that are good.
    pub tokens: Vec<String>,
    /// Names of the fleet keys that are good.
    pub fleet_keys: Vec<String>,
    /// Devices with a login of their own.
    pub devices: u64,
    /// Whether others may look into the folder.
    pub is_open: bool,
}

/// Contents of a backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contents {
    /// Artifacts.
    pub artifacts: u64,
    /// Bytes of them and of the database.
    pub bytes: u64,
}

/// Writes a backup of the data folder to `out`, which is there whole or not at all. `progress` hears of every artifact:
/// how many are done, of how many. Ends soon when `stop` is set.
///
/// # Errors
/// When there is nothing to back up, or something cannot be read or written, or it is to stop.
pub fn backup(
    data: &Path,
    out: &Path,
    scope: Scope,
    stop: &AtomicBool,
    mut progress: impl FnMut(u64, u64),
) -> Result<Contents, BackupError> {
    match database_at(data) {
        DatabaseAt::File => {}
        DatabaseAt::Postgres => return Err(BackupError::InPostgres(data.to_owned())),
        DatabaseAt::Nowhere => return Err(BackupError::NoData(data.to_owned())),
    }
    for _ in 1..TRIES {
        match attempt(data, out, scope, stop, &mut progress) {
            Err(BackupError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
    }
    attempt(data, out, scope, stop, &mut progress)
}

fn unless_stopped(stop: &AtomicBool) -> Result<(), BackupError> {
    if stop.load(Ordering::Relaxed) { Err(BackupError::Stopped) } else { Ok(()) }
}

fn attempt(
    data: &Path,
    out: &Path,
    scope: Scope,
    stop: &AtomicBool,
    progress: &mut impl FnMut(u64, u64),
) -> Result<Contents, BackupError> {
    let database = database_in(data);
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let copy = tempfile::NamedTempFile::new_in(folder)?;
    copy_database(&database, copy.path(), stop)?;
    let artifacts = match place_in(copy.path())? {
        Some(place) if scope == Scope::Whole && place.starts_with("s3://") => {
            return Err(BackupError::InBucket(place));
        }
        place => place.map_or_else(|| artifacts_in(data), PathBuf::from),
    };
    let named = match scope {
        Scope::Whole => artifacts_named_in(copy.path())?,
        Scope::DatabaseOnly => BTreeMap::new(),
    };
    // Its permissions are the owner's only: a backup holds what the data folder holds.
    let mut archive = tar::Builder::new(BufWriter::new(tempfile::NamedTempFile::new_in(folder)?));
    let mut contents = Contents { artifacts: 0, bytes: copy.path().metadata()?.len() };
    archive.append_path_with_name(copy.path(), DATABASE)?;
    for (name, size) in &named {
        unless_stopped(stop)?;
        archive.append_path_with_name(artifacts.join(name), Path::new(ARTIFACTS).join(name))?;
        contents.artifacts += 1;
        contents.bytes += size;
        progress(contents.artifacts, named.len() as u64);
    }
    unless_stopped(stop)?;
    let file = archive.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.as_file().sync_all()?;
    file.persist(out).map_err(|error| error.error)?;
    sync_name(out)?;
    Ok(contents)
}

/// Restores a backup to a data folder that holds nothing yet.
///
/// # Errors
/// When the folder is in use or not empty, the backup is not whole, or it is to stop. What was restored by then is taken away again.
pub fn restore(
    from: &Path,
    data: &Path,
    logins: Logins,
    scope: Scope,
    stop: &AtomicBool,
    progress: impl FnMut(u64, u64),
) -> Result<Restored, BackupError> {
    // No folder is made for a name that is misspelt.
    let file = File::open(from);
    let file = file.map_err(|error| BackupError::Unreadable { path: from.to_owned(), error })?;
    let target = DataDir::open(data)?;
    if target.database().exists() || target.artifacts().exists() {
        return Err(BackupError::NotEmpty(data.to_owned()));
    }
    let restored = unpack(file, data, scope, stop, progress);
    let restored = restored.and_then(|contents| settle(&target, contents, logins, scope));
    let restored = restored.map_err(|error| without_contents(from, error));
    if restored.is_err() {
        // The reason is the first error; what cannot be removed is seen by the next attempt.
        let _ = std::fs::remove_file(target.database());
        let _ = std::fs::remove_dir_all(target.artifacts());
    }
    restored
}

/// Words for what cannot be read as a backup. The reader's own tell what it read, and that may be anybody's secret.
fn without_contents(from: &Path, error: BackupError) -> BackupError {
    match error {
        BackupError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            BackupError::Damaged("it ends early".into())
        }
        // What the system says has a number; what the reader of the file says has none.
        BackupError::Io(error) if error.raw_os_error().is_none() => BackupError::NoBackup(from.to_owned()),
        other => other,
    }
}

/// Marks a restored database as one, and looks which secrets are good again. Nobody is logged in to the dashboard any more.
fn settle(
    target: &DataDir,
    contents: Contents,
    logins: Logins,
    scope: Scope,
) -> Result<Restored, BackupError> {
    let connection = Connection::open(target.database())?;
    db::is_not_newer(&connection).map_err(|error| match error {
        DbError::Newer(schema) => BackupError::Newer(schema),
        other => BackupError::Damaged(other.to_string()),
    })?;
    if scope == Scope::Whole {
        // Wherever its artifacts were, they are in the data folder now.
        connection.execute("DELETE FROM meta WHERE key = ?1", [ARTIFACTS_AT])?;
    }
    let now = crate::clock::Clock::system().now().0.cast_signed();
    if logins == Logins::Ended {
        for table in ["tokens", "fleet_keys"] {
            let sql = format!("UPDATE {table} SET revoked_at = ? WHERE revoked_at IS NULL");
            connection.execute(&sql, [now])?;
        }
    }
    // Databases of the first version have none; they are migrated when a server starts.
    let sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'sessions'";
    if connection.prepare(sql)?.exists([])? {
        connection.execute("DELETE FROM sessions", [])?;
    }
    let sql = "INSERT INTO meta (key, value) VALUES ('restored_at', ?1) ON CONFLICT DO UPDATE SET value = ?1";
    connection.execute(sql, [now.to_string()])?;
    let names = |sql: &str| -> Result<Vec<String>, rusqlite::Error> {
        connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
    };
    let good = format!("revoked_at IS NULL AND (expires_at IS NULL OR expires_at > {now})");
    let tokens = names(&format!("SELECT name FROM tokens WHERE {good} ORDER BY name"))?;
    let fleet_keys = names("SELECT name FROM fleet_keys WHERE revoked_at IS NULL ORDER BY name")?;
    let sql = "SELECT count(*) FROM devices WHERE secret IS NOT NULL AND retired_at IS NULL";
    let devices: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    drop(connection);
    let is_open = target.make_private()?;
    Ok(Restored { contents, tokens, fleet_keys, devices: devices.unsigned_abs(), is_open })
}

fn copy_database(from: &Path, to: &Path, stop: &AtomicBool) -> Result<(), BackupError> {
    let source = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let mut target = Connection::open(to)?;
    let copy = rusqlite::backup::Backup::new(&source, &mut target)?;
    while copy.step(PAGES)? != StepResult::Done {
        unless_stopped(stop)?;
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Returns where a database's artifacts are, unless that is the data folder.
fn place_in(database: &Path) -> Result<Option<String>, BackupError> {
    let connection = Connection::open(database)?;
    let sql = "SELECT value FROM meta WHERE key = ?1";
    Ok(connection.query_row(sql, [ARTIFACTS_AT], |row| row.get(0)).optional()?)
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

fn unpack(
    file: File,
    data: &Path,
    scope: Scope,
    stop: &AtomicBool,
    mut progress: impl FnMut(u64, u64),
) -> Result<Contents, BackupError> {
    let mut archive = tar::Archive::new(BufReader::new(file));
    let mut named = BTreeMap::new();
    let mut contents = Contents::default();
    let mut total = 0;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        if !entry.header().entry_type().is_file() {
            return Err(BackupError::Damaged("there is something in it that is no regular file".into()));
        }
        if name == Path::new(DATABASE) {
            contents.bytes += entry.size();
            copy(&mut entry, &database_in(data), stop)?;
            named = artifacts_named_in(&database_in(data))?;
            total = named.len() as u64;
            continue;
        }
        // Only what the database names, and only where that belongs.
        let Some(artifact) = name.strip_prefix(ARTIFACTS).ok().filter(|path| is_plain(path)) else {
            return Err(BackupError::Damaged("there is a file in it that does not belong into one".into()));
        };
        if named.remove(artifact).is_none() {
            return Err(BackupError::Damaged("there is a file in it that its database does not name".into()));
        }
        unpack_artifact(&mut entry, &artifacts_in(data).join(artifact), artifact, stop)?;
        contents.artifacts += 1;
        contents.bytes += entry.size();
        progress(contents.artifacts, total);
    }
    if !database_in(data).is_file() {
        return Err(BackupError::Damaged("there is no database in it".into()));
    }
    match named.keys().next() {
        Some(_) if contents.artifacts == 0 && scope == Scope::DatabaseOnly => Ok(contents),
        Some(_) if contents.artifacts == 0 => {
            let elsewhere = || "elsewhere".to_owned();
            let at = place_in(&database_in(data))?.map_or_else(elsewhere, |place| format!("at {place}"));
            Err(BackupError::DatabaseOnly { missing: named.len(), at })
        }
        Some(missing) => Err(BackupError::Damaged(format!("{} is missing", missing.display()))),
        None => Ok(contents),
    }
}

fn is_plain(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_)))
}

fn unpack_artifact(
    entry: &mut impl io::Read,
    to: &Path,
    name: &Path,
    stop: &AtomicBool,
) -> Result<(), BackupError> {
    if let Some(folder) = to.parent() {
        make_private(folder)?;
    }
    let digest = copy(entry, to, stop)?;
    if crate::artifacts::path_of(digest) != name {
        return Err(BackupError::Damaged(format!(
            "{} has other contents than its name says",
            name.display()
        )));
    }
    Ok(())
}

/// Writes a file that is not there yet; gives back the digest of what it holds.
fn copy(entry: &mut impl io::Read, to: &Path, stop: &AtomicBool) -> Result<Digest, BackupError> {
    let mut file = BufWriter::new(create_private(to)?);
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        unless_stopped(stop)?;
        let len = match entry.read(&mut buffer)? {
            0 => break,
            len => len,
        };
        hasher.update(&buffer[..len]);
        io::Write::write_all(&mut file, &buffer[..len])?;
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    sync_name(to)?;
    Ok(Digest::from_hasher(hasher))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Db;

    static GO_ON: AtomicBool = AtomicBool::new(false);

    #[test]
    fn one_that_is_stopped_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let file = backup_of_a_server(dir.path());
        let names = || {
            let entries = std::fs::read_dir(dir.path()).unwrap().flatten();
            entries.map(|entry| entry.file_name()).collect::<std::collections::BTreeSet<_>>()
        };
        let (before, stop) = (names(), AtomicBool::new(true));
        let again = dir.path().join("again.tar");
        // A small database is copied at once; what comes of it is not.
        let stopped = backup(&dir.path().join("old"), &again, Scope::Whole, &stop, |_, _| {});
        assert!(matches!(stopped, Err(BackupError::Stopped)), "{stopped:?}");
        assert_eq!(names(), before);
        let new = dir.path().join("new");
        let stopped = restore(&file, &new, Logins::AsTheyWere, Scope::Whole, &stop, |_, _| {});
        assert!(matches!(stopped, Err(BackupError::Stopped)), "{stopped:?}");
        assert!(!database_in(&new).exists() && !artifacts_in(&new).exists());
        restore(&file, &new, Logins::AsTheyWere, Scope::Whole, &GO_ON, |_, _| {}).unwrap();
    }

    #[test]
    fn a_backup_that_is_not_there_is_named_and_nothing_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let (file, new) = (dir.path().join("nowhere.tar"), dir.path().join("new"));
        let error = restore(&file, &new, Logins::AsTheyWere, Scope::Whole, &GO_ON, |_, _| {})
            .unwrap_err()
            .to_string();
        assert!(error.contains("nowhere.tar") && !new.exists(), "{error}");
    }

    #[test]
    fn a_folder_whose_fleet_is_in_postgresql_gives_no_backup_without_it() {
        let dir = tempfile::tempdir().unwrap();
        let (data, file) = (dir.path().join("data"), dir.path().join("b.tar"));
        let folder = DataDir::open(&data).unwrap();
        folder.make_database().unwrap();
        let refused = || {
            let made = backup(&data, &file, Scope::DatabaseOnly, &GO_ON, |_, _| {});
            matches!(made, Err(BackupError::InPostgres(_))) && !file.exists()
        };
        assert!(refused(), "a file without a fleet");
        drop(Db::open(&folder.database()).unwrap());
        folder.note_server("id").unwrap();
        assert!(refused(), "a file of the time before");
        std::fs::remove_file(data.join("server-id")).unwrap();
        backup(&data, &file, Scope::DatabaseOnly, &GO_ON, |_, _| {}).unwrap();
    }

    /// A backup of a server with a token, a revoked token and a fleet key.
    fn backup_of_a_server(dir: &Path) -> PathBuf {
        let data = DataDir::open(&dir.join("old")).unwrap();
        drop(Db::open(&data.database()).unwrap());
        let connection = Connection::open(data.database()).unwrap();
        connection
            .execute_batch(
                "INSERT INTO tokens (id, name, role, hash, created_at, created_by, revoked_at) VALUES
                   ('1', 'mine', 'admin', zeroblob(32), 1, 'x', NULL), ('2', 'lost', 'admin', zeroblob(32), 1, 'x', 2);
                 INSERT INTO sessions (hash, token, created_at, used_at) VALUES (zeroblob(32), '1', 1, 1);
                 INSERT INTO fleet_keys (id, name, hash, created_at, created_by) VALUES ('1', 'line', zeroblob(32), 1, 'x');",
            )
            .unwrap();
        let file = dir.join("backup.tar");
        backup(&dir.join("old"), &file, Scope::Whole, &GO_ON, |_, _| {}).unwrap();
        file
    }

    #[test]
    fn what_comes_alive_again_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = backup_of_a_server(dir.path());
        let new = dir.path().join("new");
        let restored = restore(&file, &new, Logins::AsTheyWere, Scope::Whole, &GO_ON, |_, _| {}).unwrap();
        assert_eq!(
            (restored.tokens, restored.fleet_keys),
            (vec!["mine".to_owned()], vec!["line".to_owned()])
        );
        assert!(!restored.is_open);
        let connection = Connection::open(database_in(&new)).unwrap();
        let sessions: i64 =
            connection.query_row("SELECT count(*) FROM sessions", [], |row| row.get(0)).unwrap();
        assert_eq!(sessions, 0);
    }

    #[test]
    fn firmware_in_a_bucket_is_left_out_only_where_somebody_says_so() {
        let dir = tempfile::tempdir().unwrap();
        backup_of_a_server(dir.path());
        let (old, new, file) = (dir.path().join("old"), dir.path().join("new"), dir.path().join("b.tar"));
        let connection = Connection::open(database_in(&old)).unwrap();
        let sql = "INSERT INTO artifacts (digest, size, used_at) VALUES (zeroblob(32), 1, 1);
                   INSERT INTO meta (key, value) VALUES ('artifacts_at', 's3://firmware/eu');";
        connection.execute_batch(sql).unwrap();
        let whole = backup(&old, &file, Scope::Whole, &GO_ON, |_, _| {});
        assert!(matches!(whole, Err(BackupError::InBucket(at)) if at == "s3://firmware/eu"));
        assert!(!file.exists());
        let contents = backup(&old, &file, Scope::DatabaseOnly, &GO_ON, |_, _| {}).unwrap();
        assert_eq!(contents.artifacts, 0);
        let whole = restore(&file, &new, Logins::AsTheyWere, Scope::Whole, &GO_ON, |_, _| {}).unwrap_err();
        assert!(
            whole.to_string().contains("1 files of firmware that it names are at s3://firmware/eu"),
            "{whole}"
        );
        assert!(!database_in(&new).exists());
        restore(&file, &new, Logins::AsTheyWere, Scope::DatabaseOnly, &GO_ON, |_, _| {}).unwrap();
        assert_eq!(place_in(&database_in(&new)).unwrap().as_deref(), Some("s3://firmware/eu"));
    }

    #[test]
    fn all_logins_can_be_ended() {
        let dir = tempfile::tempdir().unwrap();
        let file = backup_of_a_server(dir.path());
        let restored =
            restore(&file, &dir.path().join("new"), Logins::Ended, Scope::Whole, &GO_ON, |_, _| {}).unwrap();
        assert_eq!((restored.tokens.len(), restored.fleet_keys.len()), (0, 0));
    }

    #[test]
    fn what_a_newer_version_made_is_not_restored() {
        let dir = tempfile::tempdir().unwrap();
        backup_of_a_server(dir.path());
        let (old, new, file) = (dir.path().join("old"), dir.path().join("new"), dir.path().join("newer.tar"));
        let connection = Connection::open(database_in(&old)).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        drop(connection);
        backup(&old, &file, Scope::Whole, &GO_ON, |_, _| {}).unwrap();
        let error = restore(&file, &new, Logins::AsTheyWere, Scope::Whole, &GO_ON, |_, _| {}).unwrap_err();
        assert!(matches!(error, BackupError::Newer(99)), "{error}");
        assert!(!database_in(&new).exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_restored_database_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = backup_of_a_server(dir.path());
        let new = dir.path().join("new");
        std::fs::create_dir(&new).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(restore(&file, &new, Logins::AsTheyWere, Scope::Whole, &GO_ON, |_, _| {}).unwrap().is_open);
        let mode = database_in(&new).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    /// A tar file with one entry of this kind.
    fn tar_with(dir: &Path, name: &str, kind: tar::EntryType) -> PathBuf {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o644);
        match kind.is_symlink() || kind.is_hard_link() {
            true => archive.append_link(&mut header, name, dir.join("target")).unwrap(),
            false => archive.append_data(&mut header, name, io::empty()).unwrap(),
        }
        let file = dir.join("x.tar");
        std::fs::write(&file, archive.into_inner().unwrap()).unwrap();
        file
    }

    #[test]
    fn only_regular_files_are_restored() {
        use tar::EntryType;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("target"), "").unwrap();
        let digest = "artifacts/e3/b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for kind in
            [EntryType::Symlink, EntryType::Link, EntryType::Directory, EntryType::Fifo, EntryType::Char]
        {
            for name in [DATABASE, digest] {
                let file = tar_with(dir.path(), name, kind);
                let new = dir.path().join("new");
                let error =
                    restore(&file, &new, Logins::AsTheyWere, Scope::Whole, &GO_ON, |_, _| {}).unwrap_err();
                assert!(error.to_string().contains("no regular file"), "{kind:?} {name}: {error}");
                assert!(std::fs::symlink_metadata(database_in(&new)).is_err());
            }
        }
    }
}
