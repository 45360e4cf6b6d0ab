//! Errors of the store for files.

use axum::http::StatusCode;
use otaru_format::digest::Digest;

use crate::problem::Problem;

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
        match &error {
            ArtifactError::Full => {
                Problem::new(StatusCode::INSUFFICIENT_STORAGE, "disk-full", error.to_string())
            }
            ArtifactError::Missing(_) => Problem::new(StatusCode::NOT_FOUND, "not-found", error.to_string()),
            ArtifactError::WrongDigest { .. } => {
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "digest-mismatch", error.to_string())
            }
            other => Problem::internal(other),
        }
    }
}
