//! Files by their content: what was uploaded, and what was built of it.
//!
//! | what | file |
//! | --- | --- |
//! | which store is behind the door | `store` |
//! | a folder | `folder` |
//! | a bucket, and copies of its files | `s3` |
//! | names of files in either | `key` |
//! | a file that is still being written | `staged` |
//! | whole files in memory | `cache` |
//!
//! A file's name is its SHA-256, so it is never overwritten, and whoever has it once may keep it for ever. Its bytes are hashed on
//! their way in and not again on their way out: devices check every block themselves.

mod cache;
mod error;
mod folder;
mod key;
pub mod s3;
mod staged;
mod store;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use axum::http::Method;
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use otaru_format::digest::Digest;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use cache::Cache;
pub use cache::{CACHED_FILE, DEFAULT_MEMORY};
pub use error::ArtifactError;
use folder::Folder;
pub(crate) use key::path_of;
use s3::{Mirror, S3Config};
pub use staged::Staged;
use store::Store;

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
    store: Store,
    cache: Arc<Cache>,
    removal: Arc<RwLock<()>>,
}

impl Artifacts {
    /// Opens the store in a folder, which is made if it is not there. Up to `cache` bytes of it are held in memory
    /// ([`DEFAULT_MEMORY`]). What an earlier process left unfinished is removed: two may not use one folder at a time.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn open(folder: &Path, cache: u64) -> Result<Self, ArtifactError> {
        Ok(Self::behind(Store::Folder(Folder::open(folder)?), cache))
    }

    /// Opens the store in a folder that several servers use: what is unfinished there, or named by no database, may be another's for a day.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn open_shared(folder: &Path, cache: u64) -> Result<Self, ArtifactError> {
        Ok(Self::behind(Store::Folder(Folder::open_shared(folder)?), cache))
    }

    /// Opens the store in a bucket, with copies of its files in a folder, which is made if it is not there. The bucket is not asked for
    /// anything yet. Up to `cache` bytes of files are held in memory.
    ///
    /// # Errors
    /// When the folder cannot be written to, or the settings make no sense.
    pub async fn open_bucket(config: &S3Config, copies: &Path, cache: u64) -> Result<Self, ArtifactError> {
        let mirror = Mirror::open(config, copies).await?;
        Ok(Self::behind(Store::Bucket(Arc::new(mirror)), cache))
    }

    fn behind(store: Store, cache: u64) -> Self {
        Self { store, cache: Arc::new(Cache::new(cache)), removal: Arc::default() }
    }

    /// Begins a file. Dropped before [`Artifacts::keep`], it leaves nothing.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn stage(&self) -> Result<Staged, ArtifactError> {
        self.store.stage().await
    }

    /// Keeps a finished file; it is in the store when this returns. One that is there already stays as it is.
    ///
    /// # Errors
    /// When the disk is full, or fails, or the bucket does not take it. Then nothing of it is left.
    pub async fn keep(&self, staged: Staged) -> Result<Digest, ArtifactError> {
        let len = staged.len();
        let (digest, file) = staged.finish().await?;
        self.store.take(digest, len, file).await?;
        Ok(digest)
    }

    /// Keeps a file that is in memory.
    ///
    /// # Errors
    /// When the disk is full, or fails, or the bucket does not take it.
    pub async fn put(&self, bytes: Bytes) -> Result<Digest, ArtifactError> {
        let mut staged = self.stage().await?;
        staged.write(bytes).await?;
        self.keep(staged).await
    }

    /// Bytes of a file.
    ///
    /// # Errors
    /// When there is none, or the store fails.
    pub async fn len(&self, digest: Digest) -> Result<u64, ArtifactError> {
        match self.cache.get(digest) {
            Some(bytes) => Ok(bytes.len() as u64),
            None => self.store.len(digest).await,
        }
    }

    /// Opens a file for somebody to download: from memory where it fits there.
    ///
    /// # Errors
    /// When there is none, or the store fails.
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
    /// When there is no such file, or the store fails; in the stream, too.
    pub async fn read(
        &self,
        digest: Digest,
        range: Range<u64>,
    ) -> Result<impl Stream<Item = Result<Bytes, ArtifactError>> + Send + 'static, ArtifactError> {
        let found = self.store.get(digest, Some(range)).await?;
        Ok(found.into_stream().map_err(move |error| ArtifactError::of_store(error, digest)))
    }

    /// All of a file, past the cache.
    ///
    /// # Errors
    /// When there is none, or the store fails.
    pub async fn read_whole(&self, digest: Digest) -> Result<Bytes, ArtifactError> {
        let found = self.store.get(digest, None).await?;
        found.bytes().await.map_err(|error| ArtifactError::of_store(error, digest))
    }

    /// Returns the location to download a file from, with this method.
    ///
    /// # Errors
    /// When no link can be signed.
    pub async fn location(&self, digest: Digest, method: &Method) -> Result<Location, ArtifactError> {
        match self.store.link(digest, method.clone()).await? {
            Some(link) => Ok(Location::Redirect(link)),
            None => Ok(Location::Here),
        }
    }

    /// Whether asking for a file costs nothing outside of this machine, if there is none.
    pub fn is_near(&self, digest: Digest) -> bool {
        self.store.is_near(digest)
    }

    /// Counts the files that are fetched, or wait for it.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        match &self.store {
            Store::Folder(_) => 0,
            Store::Bucket(mirror) => mirror.waiting(),
        }
    }

    /// Looks whether the store outside of this machine is there, if there is one.
    ///
    /// # Errors
    /// When it is away, or refuses.
    pub async fn look(&self) -> Result<(), ArtifactError> {
        self.store.look().await
    }

    /// Notes that the files in a store that others may use are of the database with this id: for [`Artifacts::remove`].
    ///
    /// # Errors
    /// When they are of another, or the store fails.
    pub async fn claim(&self, database: &str) -> Result<(), ArtifactError> {
        self.store.claim(database).await
    }

    /// While this is held, nothing is removed: from before a file is kept until it is referred to.
    pub async fn hold(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.removal).read_owned().await
    }

    /// While this is held, nobody is about to refer to a file: for [`Artifacts::remove`].
    pub async fn alone(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.removal).write_owned().await
    }

    /// Files that may be removed where no database names them: all there are; in a folder that servers share those that have been there for a
    /// day, in a bucket for a week.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self) -> Result<Vec<Digest>, ArtifactError> {
        self.store.list().await
    }

    /// Removes a file that nobody refers to; in a folder or a bucket that servers share, unless somebody has kept it once more.
    ///
    /// # Errors
    /// When the store fails. That there is none is no error.
    pub async fn remove(&self, digest: Digest) -> Result<(), ArtifactError> {
        self.cache.forget(digest);
        self.store.remove(digest).await
    }
}

#[cfg(test)]
mod tests;
