//! Files by their content: what was uploaded, and what was built of it.
//!
//! | what | file |
//! | --- | --- |
//! | a file that is still being written | `staged` |
//! | whole files in memory | `cache` |
//!
//! A file's name is its SHA-256, so it is never overwritten, and whoever has it once may keep it for ever. Its bytes are hashed on
//! their way in and not again on their way out: devices check every block themselves.

mod cache;
mod error;
mod staged;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt as _};
use otaru_format::digest::Digest;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use cache::Cache;
pub use cache::{CACHED_FILE, DEFAULT_CACHE};
pub use error::ArtifactError;
pub use staged::Staged;

/// The folder, below the store's own, of files that are still being written. On the same file system, so that one can become an
/// artifact by a new name alone.
const STAGING: &str = "incoming";

/// Location of a file's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// From this server.
    Here,
    /// From elsewhere: a store that hands out its files itself.
    Redirect(String),
}

/// A file that can be read.
pub enum Content {
    /// All of it, in memory.
    Whole(Bytes),
    /// On disk, and this long: read it by [`Artifacts::read`].
    OnDisk(u64),
}

impl Content {
    /// Bytes of it.
    pub fn len(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::OnDisk(len) => *len,
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The files. Cheap to clone.
#[derive(Clone)]
pub struct Artifacts {
    store: Arc<LocalFileSystem>,
    staging: Arc<PathBuf>,
    cache: Arc<Cache>,
    removal: Arc<RwLock<()>>,
}

impl Artifacts {
    /// Opens the store in a folder, which is made if it is not there. Up to `cache` bytes of it are held in memory
    /// ([`DEFAULT_CACHE`]). What an earlier process left unfinished is removed: two may not use one folder at a time.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn open(folder: &Path, cache: u64) -> Result<Self, ArtifactError> {
        let staging = folder.join(STAGING);
        match std::fs::remove_dir_all(&staging) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        std::fs::create_dir_all(&staging).map_err(ArtifactError::of_io)?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(ArtifactError::Store)?.with_fsync(true);
        Ok(Self {
            store: Arc::new(store),
            staging: Arc::new(staging),
            cache: Arc::new(Cache::new(cache)),
            removal: Arc::default(),
        })
    }

    /// Begins a file. Dropped before [`Artifacts::keep`], it leaves nothing.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn stage(&self) -> Result<Staged, ArtifactError> {
        Staged::begin(Arc::clone(&self.staging)).await
    }

    /// Keeps a finished file; it is on disk when this returns. One that is there already stays as it is.
    ///
    /// # Errors
    /// When the disk is full, or fails.
    pub async fn keep(&self, staged: Staged) -> Result<Digest, ArtifactError> {
        let (digest, file) = staged.finish().await?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let from = Key::from_iter([STAGING, &name]);
        match self.store.rename_if_not_exists(&from, &key(digest)).await {
            // What is left of it under its old name goes with `file`.
            Ok(()) | Err(object_store::Error::AlreadyExists { .. }) => Ok(digest),
            Err(error) => Err(ArtifactError::of_store(error, digest)),
        }
    }

    /// Keeps a file that is in memory.
    ///
    /// # Errors
    /// When the disk is full, or fails.
    pub async fn put(&self, bytes: Bytes) -> Result<Digest, ArtifactError> {
        let mut staged = self.stage().await?;
        staged.write(bytes).await?;
        self.keep(staged).await
    }

    /// Bytes of a file.
    ///
    /// # Errors
    /// When there is none, or the disk fails.
    pub async fn len(&self, digest: Digest) -> Result<u64, ArtifactError> {
        match self.cache.get(digest) {
            Some(bytes) => Ok(bytes.len() as u64),
            None => {
                Ok(self.store.head(&key(digest)).await.map_err(|e| ArtifactError::of_store(e, digest))?.size)
            }
        }
    }

    /// Opens a file for somebody to download: from memory where it fits there.
    ///
    /// # Errors
    /// When there is none, or the disk fails.
    pub async fn open_file(&self, digest: Digest) -> Result<Content, ArtifactError> {
        if let Some(bytes) = self.cache.get(digest) {
            return Ok(Content::Whole(bytes));
        }
        let len = self.len(digest).await?;
        match self.cache.load(digest, len, self.read_whole(digest)).await? {
            Some(bytes) => Ok(Content::Whole(bytes)),
            None => Ok(Content::OnDisk(len)),
        }
    }

    /// A part of a file, in pieces, past the cache. It must lie within the file.
    ///
    /// # Errors
    /// When there is no such file, or the disk fails; in the stream, too.
    pub async fn read(
        &self,
        digest: Digest,
        range: Range<u64>,
    ) -> Result<impl Stream<Item = Result<Bytes, ArtifactError>> + Send + 'static, ArtifactError> {
        let options = GetOptions::new().with_range(Some(range));
        let found = self.store.get_opts(&key(digest), options).await;
        let found = found.map_err(|error| ArtifactError::of_store(error, digest))?;
        Ok(found.into_stream().map_err(move |error| ArtifactError::of_store(error, digest)))
    }

    /// All of a file, past the cache.
    ///
    /// # Errors
    /// When there is none, or the disk fails.
    pub async fn read_whole(&self, digest: Digest) -> Result<Bytes, ArtifactError> {
        let failed = |error| ArtifactError::of_store(error, digest);
        self.store.get(&key(digest)).await.map_err(failed)?.bytes().await.map_err(failed)
    }

    /// Returns the location to download a file from.
    pub fn location(&self, _digest: Digest) -> Location {
        Location::Here
    }

    /// While this is held, nothing is removed: from before a file is kept until it is referred to.
    pub async fn hold(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.removal).read_owned().await
    }

    /// While this is held, nobody is about to refer to a file: for [`Artifacts::remove`].
    pub async fn alone(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.removal).write_owned().await
    }

    /// All files there are.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn list(&self) -> Result<Vec<Digest>, ArtifactError> {
        let found: Vec<_> = self.store.list(None).try_collect().await.map_err(ArtifactError::Store)?;
        Ok(found.iter().filter_map(|object| digest_of(&object.location)).collect())
    }

    /// Removes a file that nobody refers to.
    ///
    /// # Errors
    /// When the disk fails. That there is none is no error.
    pub async fn remove(&self, digest: Digest) -> Result<(), ArtifactError> {
        self.cache.forget(digest);
        match self.store.delete(&key(digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(ArtifactError::of_store(error, digest)),
        }
    }
}

/// Returns the key of a file: `ab/cdef…`, so that no folder grows too long.
fn key(digest: Digest) -> Key {
    let hex = digest.to_string();
    let (folder, name) = hex.split_at(2);
    Key::from_iter([folder, name])
}

/// The same as a path in the store's folder.
pub(crate) fn path_of(digest: Digest) -> PathBuf {
    PathBuf::from(key(digest).as_ref())
}

fn digest_of(key: &Key) -> Option<Digest> {
    let hex: String = key.parts().map(|part| part.as_ref().to_owned()).collect();
    hex.parse().ok()
}

#[cfg(test)]
mod tests;
