//! A bucket on good days and on bad ones, and what is left of both on disk.

mod bad_days;
mod copies;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use otaru_format::digest::Digest;

use super::stand_in::StandIn;
use super::{BucketError, S3Config};
use crate::artifacts::{ArtifactError, Artifacts};

/// A store with its copies, and nothing in memory.
struct Near {
    artifacts: Artifacts,
    copies: tempfile::TempDir,
}

impl Near {
    async fn open(config: &S3Config) -> Self {
        let copies = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open_bucket(config, copies.path(), 0).await.unwrap();
        Self { artifacts, copies }
    }

    /// Files of this machine: copies, and what is staged.
    fn files(&self) -> Vec<PathBuf> {
        files(self.copies.path())
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn bytes(seed: u8, len: usize) -> Bytes {
    (0..len).map(|n| (n as u8).wrapping_mul(seed | 1) ^ seed).collect()
}

/// The reason at the bottom of an error.
fn reason(error: &ArtifactError) -> &ArtifactError {
    match error {
        ArtifactError::Fetch(error) => reason(error),
        error => error,
    }
}

fn is_away(error: &ArtifactError) -> bool {
    matches!(reason(error), ArtifactError::Bucket(BucketError::Away(_)))
}

/// A bucket with a file that another server put there, and a server without a copy of it.
async fn with_a_file(len: usize) -> (StandIn, Near, Digest) {
    with_a_file_and(len, |_| {}).await
}

async fn with_a_file_and(len: usize, change: impl FnOnce(&mut S3Config)) -> (StandIn, Near, Digest) {
    let bucket = StandIn::start().await;
    let mut config = bucket.config();
    change(&mut config);
    let other = Near::open(&config).await;
    let digest = other.artifacts.put(bytes(1, len)).await.unwrap();
    (bucket, Near::open(&config).await, digest)
}
