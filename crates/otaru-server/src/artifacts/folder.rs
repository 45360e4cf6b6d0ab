//! Files in a folder of this machine.

use std::fs::{File, Metadata};
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt as _;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{GetOptions, GetResult, ObjectMeta, ObjectStore as _, ObjectStoreExt as _};
use otaru_format::digest::Digest;
use tempfile::{NamedTempFile, TempPath};

use super::error::ArtifactError;
use super::key::{digest_of, key, path_of};
use super::staged::{Staged, blocking};

/// Name of the folder, below the store's own, of files that are still being written. On the same file system, so that one can become
/// an artifact by a new name alone.
pub(super) const STAGING: &str = "incoming";

/// Age from which a file in a folder that others use is nobody's, if no database names it: whoever wrote it, or is about to name it, is done.
const ABANDONED: Duration = Duration::from_secs(24 * 3_600);
/// Name of the file that says whose files these are.
pub(super) const OWNER: &str = "otaru-owner";

/// Files in a folder. Cheap to clone.
#[derive(Clone)]
pub(super) struct Folder {
    store: Arc<LocalFileSystem>,
    root: Arc<PathBuf>,
    staging: Arc<PathBuf>,
    /// Whether other servers use it.
    is_shared: bool,
}

impl Folder {
    /// Opens a folder, which is made if it is not there, and removes what an earlier process left unfinished.
    pub(super) fn open(folder: &Path) -> Result<Self, ArtifactError> {
        Self::open_and_clean(folder, false)
    }

    /// The same of a folder that other servers use: what is younger than a day may be theirs.
    pub(super) fn open_shared(folder: &Path) -> Result<Self, ArtifactError> {
        Self::open_and_clean(folder, true)
    }

    fn open_and_clean(folder: &Path, is_shared: bool) -> Result<Self, ArtifactError> {
        let staging = folder.join(STAGING);
        std::fs::create_dir_all(&staging).map_err(ArtifactError::of_io)?;
        for entry in std::fs::read_dir(&staging).map_err(ArtifactError::of_io)? {
            let entry = entry.map_err(ArtifactError::of_io)?;
            if !is_shared || entry.metadata().is_ok_and(|metadata| is_abandoned(&metadata)) {
                std::fs::remove_file(entry.path()).map_err(ArtifactError::of_io)?;
            }
        }
        let store = LocalFileSystem::new_with_prefix(folder).map_err(ArtifactError::Store)?.with_fsync(true);
        Ok(Self {
            store: Arc::new(store),
            root: Arc::new(folder.to_owned()),
            staging: Arc::new(staging),
            is_shared,
        })
    }

    /// Begins a file.
    pub(super) async fn stage(&self) -> Result<Staged, ArtifactError> {
        Staged::begin(Arc::clone(&self.staging)).await
    }

    /// Takes a finished file in. One that is there already stays as it is.
    pub(super) async fn take(&self, digest: Digest, file: TempPath) -> Result<(), ArtifactError> {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let from = Key::from_iter([STAGING, &name]);
        match self.store.rename_if_not_exists(&from, &key(digest)).await {
            Ok(()) => Ok(()),
            // What is left of it under its old name goes with `file`.
            Err(object_store::Error::AlreadyExists { .. }) if self.is_shared => self.touch(digest).await,
            Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(ArtifactError::of_store(error, digest)),
        }
    }

    /// Returns the bytes of a file.
    pub(super) async fn len(&self, digest: Digest) -> Result<u64, ArtifactError> {
        let found = self.store.head(&key(digest)).await;
        Ok(found.map_err(|error| ArtifactError::of_store(error, digest))?.size)
    }

    /// Opens a file, or a part of it. What is open can be read, also when the file is removed meanwhile.
    pub(super) async fn get(
        &self,
        digest: Digest,
        range: Option<Range<u64>>,
    ) -> Result<GetResult, ArtifactError> {
        let found = self.store.get_opts(&key(digest), GetOptions::new().with_range(range)).await;
        found.map_err(|error| ArtifactError::of_store(error, digest))
    }

    /// Has a file be young: somebody is about to refer to it, of whom a server that removes files knows nothing.
    async fn touch(&self, digest: Digest) -> Result<(), ArtifactError> {
        let path = self.root.join(path_of(digest));
        blocking(move || File::options().append(true).open(path)?.set_modified(SystemTime::now())).await
    }

    /// Lists files that a server may remove if its database does not name them: all there are, or in a folder that others use those that
    /// have been there for a day.
    pub(super) async fn removable(&self) -> Result<Vec<Digest>, ArtifactError> {
        let before = SystemTime::now() - ABANDONED;
        let may_go = |object: &ObjectMeta| !self.is_shared || SystemTime::from(object.last_modified) < before;
        Ok(self
            .list()
            .await?
            .into_iter()
            .filter(|(_, object)| may_go(object))
            .map(|(digest, _)| digest)
            .collect())
    }

    /// Removes a file that nobody refers to, if that is still so: others may have kept it once more since it was listed.
    pub(super) async fn remove_unnamed(&self, digest: Digest) -> Result<(), ArtifactError> {
        if self.is_shared {
            let path = self.root.join(path_of(digest));
            let found = blocking(move || Ok(path.metadata().ok())).await?;
            if !found.is_some_and(|metadata| is_abandoned(&metadata)) {
                return Ok(());
            }
        }
        self.remove(digest).await
    }

    /// Notes that the files here are of the database with this id, if they are nobody's yet. A folder of one server is not shared by databases.
    pub(super) async fn claim(&self, database: &str) -> Result<(), ArtifactError> {
        if !self.is_shared {
            return Ok(());
        }
        let (path, own, staging) = (self.root.join(OWNER), database.to_owned(), Arc::clone(&self.staging));
        let owner = blocking(move || {
            if !path.exists() {
                let mut file = NamedTempFile::new_in(&*staging)?;
                file.write_all(own.as_bytes())?;
                file.as_file().sync_all()?;
                match file.persist_noclobber(&path) {
                    // Another was first.
                    Err(failed) if failed.error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(failed.error);
                    }
                    _ => {}
                }
            }
            std::fs::read_to_string(&path)
        });
        match owner.await? == database {
            true => Ok(()),
            false => Err(ArtifactError::NotOurs((*self.root).clone())),
        }
    }

    /// Lists all files there are.
    pub(super) async fn list(&self) -> Result<Vec<(Digest, ObjectMeta)>, ArtifactError> {
        let found: Vec<ObjectMeta> =
            self.store.list(None).try_collect().await.map_err(ArtifactError::Store)?;
        Ok(found.into_iter().filter_map(|object| Some((digest_of(&object.location)?, object))).collect())
    }

    /// Removes a file. That there is none is no error.
    pub(super) async fn remove(&self, digest: Digest) -> Result<(), ArtifactError> {
        match self.store.delete(&key(digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(ArtifactError::of_store(error, digest)),
        }
    }
}

/// Whether a file is so old that nobody works on it any more.
fn is_abandoned(metadata: &Metadata) -> bool {
    metadata.modified().ok().and_then(|at| at.elapsed().ok()).is_some_and(|age| age >= ABANDONED)
}
