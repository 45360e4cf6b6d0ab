//! A file that is still being written: a temporary one, hashed on the way.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use otaru_format::digest::Digest;
use sha2::{Digest as _, Sha256};
use tempfile::{NamedTempFile, TempPath};

use super::error::ArtifactError;

/// A file that is still being written. Dropped, it is gone.
pub struct Staged {
    /// `None` while a thread has it, and after a failure.
    parts: Option<Parts>,
    len: u64,
}

/// Parts that a thread for blocking work is lent.
struct Parts {
    file: NamedTempFile,
    hasher: Sha256,
}

impl Staged {
    pub(super) async fn begin(folder: Arc<PathBuf>) -> Result<Self, ArtifactError> {
        let file = blocking(move || NamedTempFile::new_in(&*folder)).await?;
        Ok(Self { parts: Some(Parts { file, hasher: Sha256::new() }), len: 0 })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// When the disk is full, or fails: then the file is gone.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), ArtifactError> {
        let mut parts = self.take()?;
        let len = bytes.len() as u64;
        let parts = blocking(move || {
            parts.file.write_all(&bytes)?;
            parts.hasher.update(&bytes);
            Ok(parts)
        });
        self.parts = Some(parts.await?);
        self.len += len;
        Ok(())
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// SHA-256 of the bytes so far.
    pub fn digest(&self) -> Digest {
        let hasher = self.parts.as_ref().map(|parts| parts.hasher.clone());
        Digest::from_hasher(hasher.unwrap_or_default())
    }

    /// Goes on only if the bytes are those that were announced.
    ///
    /// # Errors
    /// [`ArtifactError::WrongDigest`].
    pub fn expect(&self, expected: Digest) -> Result<(), ArtifactError> {
        let found = self.digest();
        if found == expected { Ok(()) } else { Err(ArtifactError::WrongDigest { expected, found }) }
    }

    /// Reads all of it back.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn contents(&self) -> Result<Bytes, ArtifactError> {
        let path = self.parts.as_ref().ok_or_else(gone)?.file.path().to_owned();
        Ok(Bytes::from(blocking(move || std::fs::read(path)).await?))
    }

    /// Brings it to the disk, under its temporary name.
    pub(super) async fn finish(mut self) -> Result<(Digest, TempPath), ArtifactError> {
        let digest = self.digest();
        let parts = self.take()?;
        let path = blocking(move || {
            let (file, path): (File, TempPath) = parts.file.into_parts();
            file.sync_all()?;
            Ok(path)
        });
        Ok((digest, path.await?))
    }

    fn take(&mut self) -> Result<Parts, ArtifactError> {
        self.parts.take().ok_or_else(gone)
    }

    /// Another file in its place: for disks that fail.
    #[cfg(test)]
    pub(super) fn replace(&mut self, with: File) {
        let parts = self.parts.as_mut().unwrap();
        *parts.file.as_file_mut() = with;
    }
}

/// An earlier write failed, and its error was not heeded.
fn gone() -> ArtifactError {
    ArtifactError::Io(io::Error::other("the file is gone after a failed write"))
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ArtifactError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(ArtifactError::of_io)
}
