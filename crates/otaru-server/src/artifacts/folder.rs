//! Files in a folder of this machine.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{GetOptions, GetResult, ObjectMeta, ObjectStore as _, ObjectStoreExt as _};
use otaru_format::digest::Digest;
use tempfile::TempPath;

use super::error::ArtifactError;
use super::key::{digest_of, key};
use super::staged::Staged;

/// Name of the folder, below the store's own, of files that are still being written. On the same file system, so that one can become
/// an artifact by a new name alone.
pub(super) const STAGING: &str = "incoming";

/// Age from which an unfinished file is nobody's.
const UNFINISHED: Duration = Duration::from_secs(24 * 3_600);

/// Files in a folder. Cheap to clone.
#[derive(Clone)]
pub(super) struct Folder {
    store: Arc<LocalFileSystem>,
    staging: Arc<PathBuf>,
}

impl Folder {
    /// Opens a folder, which is made if it is not there, and removes what an earlier process left unfinished.
    pub(super) fn open(folder: &Path) -> Result<Self, ArtifactError> {
        Self::open_and_clean(folder, Duration::ZERO)
    }

    /// The same of a folder that other servers use: what is younger than a day may be theirs.
    pub(super) fn open_shared(folder: &Path) -> Result<Self, ArtifactError> {
        Self::open_and_clean(folder, UNFINISHED)
    }

    fn open_and_clean(folder: &Path, oldest: Duration) -> Result<Self, ArtifactError> {
        let staging = folder.join(STAGING);
        std::fs::create_dir_all(&staging).map_err(ArtifactError::of_io)?;
        for entry in std::fs::read_dir(&staging).map_err(ArtifactError::of_io)? {
            let entry = entry.map_err(ArtifactError::of_io)?;
            let age = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .ok()
                .and_then(|at| at.elapsed().ok());
            if oldest.is_zero() || age.is_some_and(|age| age >= oldest) {
                std::fs::remove_file(entry.path()).map_err(ArtifactError::of_io)?;
            }
        }
        let store = LocalFileSystem::new_with_prefix(folder).map_err(ArtifactError::Store)?.with_fsync(true);
        Ok(Self { store: Arc::new(store), staging: Arc::new(staging) })
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
            // What is left of it under its old name goes with `file`.
            Ok(()) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
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
