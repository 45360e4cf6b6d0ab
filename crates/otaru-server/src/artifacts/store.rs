//! The store behind the door: a folder, or a bucket with copies near at hand.

use std::ops::Range;
use std::sync::Arc;

use axum::http::Method;
use object_store::GetResult;
use otaru_format::digest::Digest;
use tempfile::TempPath;

use super::error::ArtifactError;
use super::folder::Folder;
use super::s3::Mirror;
use super::staged::Staged;

/// A store. Cheap to clone.
#[derive(Clone)]
pub(super) enum Store {
    /// A folder of this machine.
    Folder(Folder),
    /// A bucket.
    Bucket(Arc<Mirror>),
}

impl Store {
    /// Begins a file.
    pub(super) async fn stage(&self) -> Result<Staged, ArtifactError> {
        match self {
            Self::Folder(folder) => folder.stage().await,
            Self::Bucket(mirror) => mirror.stage().await,
        }
    }

    /// Takes a finished file in.
    pub(super) async fn take(&self, digest: Digest, len: u64, file: TempPath) -> Result<(), ArtifactError> {
        match self {
            Self::Folder(folder) => folder.take(digest, file).await,
            Self::Bucket(mirror) => mirror.take(digest, len, file).await,
        }
    }

    /// Returns the bytes of a file.
    pub(super) async fn len(&self, digest: Digest) -> Result<u64, ArtifactError> {
        match self {
            Self::Folder(folder) => folder.len(digest).await,
            Self::Bucket(mirror) => mirror.len(digest).await,
        }
    }

    /// Opens a file, or a part of it.
    pub(super) async fn get(
        &self,
        digest: Digest,
        range: Option<Range<u64>>,
    ) -> Result<GetResult, ArtifactError> {
        match self {
            Self::Folder(folder) => folder.get(digest, range).await,
            Self::Bucket(mirror) => mirror.get(digest, range).await,
        }
    }

    /// Whether finding out that there is no such file costs little.
    pub(super) fn is_near(&self, digest: Digest) -> bool {
        match self {
            Self::Folder(_) => true,
            Self::Bucket(mirror) => mirror.has_copy(digest),
        }
    }

    /// Lists files that may be removed if the database does not name them.
    pub(super) async fn list(&self) -> Result<Vec<Digest>, ArtifactError> {
        match self {
            Self::Folder(folder) => folder.removable().await,
            Self::Bucket(mirror) => mirror.list().await,
        }
    }

    /// Removes a file, unless somebody has kept it once more where others keep files, too.
    pub(super) async fn remove(&self, digest: Digest) -> Result<(), ArtifactError> {
        match self {
            Self::Folder(folder) => folder.remove_unnamed(digest).await,
            Self::Bucket(mirror) => mirror.remove(digest).await,
        }
    }

    /// Looks whether it is there.
    pub(super) async fn look(&self) -> Result<(), ArtifactError> {
        match self {
            Self::Folder(_) => Ok(()),
            Self::Bucket(mirror) => Ok(mirror.look().await?),
        }
    }

    /// Notes that its files are of the database with this id.
    pub(super) async fn claim(&self, database: &str) -> Result<(), ArtifactError> {
        match self {
            Self::Folder(folder) => folder.claim(database).await,
            Self::Bucket(mirror) => Ok(mirror.claim(database).await?),
        }
    }

    /// Returns a link for whoever downloads; `None` where files come from this server.
    pub(super) async fn link(&self, digest: Digest, method: Method) -> Result<Option<String>, ArtifactError> {
        match self {
            Self::Folder(_) => Ok(None),
            Self::Bucket(mirror) => Ok(mirror.link(digest, method).await?),
        }
    }
}
