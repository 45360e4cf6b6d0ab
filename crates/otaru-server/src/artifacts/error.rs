//! Errors of the store for files.

use std::path::PathBuf;
use std::sync::Arc;

use axum::http::StatusCode;
use otaru_format::digest::Digest;
use otaru_tls::TrustError;

use super::s3::BucketError;
use crate::problem::Problem;

/// Seconds after which to ask again for what is away.
const AGAIN: u32 = 10;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The disk is full.
    #[error("the disk is full; make room and try again, nothing was kept of this file")]
    Full,
    /// There is no such file.
    #[error("there is no file {0}")]
    Missing(Digest),
    /// Other bytes came than were announced.
    #[error("the file arrived as {found}, not as {expected}; send it again")]
    WrongDigest {
        /// As announced.
        expected: Digest,
        /// Of what came.
        found: Digest,
    },
    /// The database knows a file that the store has no longer.
    #[error(
        "the store has lost the file {0}, which the server knows: upload its firmware again, or restore it in the store"
    )]
    Lost(Digest),
    /// The store has other bytes than the name says.
    #[error("the store has other bytes under the name of {digest}, of {found}; upload its firmware again")]
    Damaged {
        /// As the name says.
        digest: Digest,
        /// Of what is there.
        found: Digest,
    },
    /// The files are another database's.
    #[error(
        "another database keeps its firmware in {}; give this server a folder of its own (--artifacts), or it would remove the other's files; \
         if that database is gone for good, remove the file `otaru-owner` there", .0.display()
    )]
    NotOurs(PathBuf),
    /// The bucket did not do what was asked.
    #[error("{0}")]
    Bucket(#[from] BucketError),
    /// A fetch failed that several waited for.
    #[error(transparent)]
    Fetch(Arc<Self>),
    /// The bucket cannot be spoken to over TLS.
    #[error("the bucket: {0}")]
    Trust(#[from] TrustError),
    /// The disk's reason.
    #[error("the artifact store: {0}")]
    Io(#[from] std::io::Error),
    /// The store's reason.
    #[error("the artifact store: {0}")]
    Store(object_store::Error),
}

impl ArtifactError {
    /// Names the failures that somebody can do something about.
    pub(super) fn of_store(error: object_store::Error, digest: Digest) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::Missing(digest),
            error if is_full(&error) => Self::Full,
            error => Self::Store(error),
        }
    }

    /// Whether the store has no such file, known or not.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Missing(_) | Self::Lost(_) => true,
            Self::Fetch(error) => error.is_missing(),
            _ => false,
        }
    }

    pub(super) fn of_io(error: std::io::Error) -> Self {
        if is_full(&error) { Self::Full } else { Self::Io(error) }
    }
}

/// Whether a full disk, or a quota, is at the bottom of it.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{QuotaExceeded, StorageFull};
            if matches!(io.kind(), StorageFull | QuotaExceeded) {
                return true;
            }
        }
        next = error.source();
    }
    false
}

impl From<ArtifactError> for Problem {
    fn from(error: ArtifactError) -> Self {
        Self::from(&error)
    }
}

impl From<&ArtifactError> for Problem {
    fn from(error: &ArtifactError) -> Self {
        match error {
            ArtifactError::Full => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk-full", error.to_string())
            }
            ArtifactError::Missing(_) => Self::new(StatusCode::NOT_FOUND, "not-found", error.to_string()),
            ArtifactError::Lost(_) => Self::new(StatusCode::NOT_FOUND, "file-lost", error.to_string()),
            ArtifactError::WrongDigest { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "digest-mismatch", error.to_string())
            }
            ArtifactError::Bucket(_) => away(),
            ArtifactError::Damaged { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "file-damaged", error.to_string())
                    .retry_after(AGAIN)
            }
            ArtifactError::Fetch(error) => match &**error {
                // What is full is not the one who asks.
                ArtifactError::Full | ArtifactError::Io(_) => away(),
                error => Self::from(error),
            },
            other => Self::internal(other),
        }
    }
}

/// Says that the store is away. Why is in the log: it is told to operators, and not to whoever downloads.
fn away() -> Problem {
    let detail = "the store of firmware is away, or too busy, and nothing was changed; try again later";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "store-away", detail).retry_after(AGAIN)
}
