//! A bucket, and copies of its files near at hand. Whoever wants a file gets it from its copy, which is fetched when it is not there: once, for
//! however many want it.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::Method;
use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::GetResult;
use otaru_format::digest::Digest;
use tempfile::TempPath;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::super::error::ArtifactError;
use super::super::folder::Folder;
use super::super::staged::Staged;
use super::bucket::{Bucket, Object};
use super::config::{Patience, S3Config};
use super::failure::BucketError;
use super::index::Index;
use super::limits::FETCHES;

/// Files that are being fetched, wait for that, or were not to be had just now.
const MOST: usize = 256;

/// A bucket, and copies near at hand.
pub(crate) struct Mirror {
    bucket: Bucket,
    copies: Folder,
    index: Arc<Index>,
    fetches: Mutex<HashMap<Digest, Fetch>>,
    places: Semaphore,
    patience: Patience,
    redirect: bool,
}

/// Fetch of a file, for all who want it.
#[derive(Clone)]
struct Fetch {
    outcome: Shared<BoxFuture<'static, Result<(), Arc<ArtifactError>>>>,
    /// Moment of its failure, which is told for a while without another attempt.
    failed: Option<Instant>,
}

impl Mirror {
    /// Prepares requests to a bucket, and takes over the copies that an earlier process left in a folder.
    pub(crate) async fn open(config: &S3Config, folder: &Path) -> Result<Self, ArtifactError> {
        let copies = Folder::open(folder)?;
        let index = Arc::new(Index::new(config.copies));
        let mut found = copies.list().await?;
        found.sort_by_key(|(_, object)| object.last_modified);
        for (digest, object) in found {
            match index.reserve(object.size) {
                Some((room, gone)) => {
                    room.fill(digest);
                    remove(&copies, gone).await?;
                }
                None => copies.remove(digest).await?,
            }
        }
        Ok(Self {
            bucket: Bucket::new(config)?,
            copies,
            index,
            fetches: Mutex::default(),
            places: Semaphore::new(FETCHES),
            patience: config.patience,
            redirect: config.redirect,
        })
    }

    /// Begins a file on this machine's disk.
    pub(crate) async fn stage(&self) -> Result<Staged, ArtifactError> {
        self.copies.stage().await
    }

    /// Puts a finished file into the bucket. Only then it is one; and has a copy, if there is room.
    pub(crate) async fn take(&self, digest: Digest, len: u64, file: TempPath) -> Result<(), ArtifactError> {
        let put = self.bucket.put(digest, &file).await;
        put.inspect_err(|error| tracing::warn!(%digest, %error, "a file cannot be put into the bucket"))?;
        self.forget_failure(digest);
        match self.index.reserve(len) {
            Some((room, gone)) => {
                remove(&self.copies, gone).await?;
                self.copies.take(digest, file).await?;
                room.fill(digest);
            }
            None => tracing::debug!(%digest, "no room for a copy of what was put into the bucket"),
        }
        Ok(())
    }

    /// Opens a file, or a part of it.
    pub(crate) async fn get(
        self: &Arc<Self>,
        digest: Digest,
        range: Option<Range<u64>>,
    ) -> Result<GetResult, ArtifactError> {
        self.bring(digest).await?;
        match self.copies.get(digest, range.clone()).await {
            // Somebody emptied the folder, or others needed the room just now.
            Err(ArtifactError::Missing(_)) => self.index.forget(digest),
            opened => return opened,
        }
        self.bring(digest).await?;
        match self.copies.get(digest, range).await {
            Err(ArtifactError::Missing(_)) => Err(BucketError::NoRoom.into()),
            opened => opened,
        }
    }

    /// Returns the bytes of a file.
    pub(crate) async fn len(self: &Arc<Self>, digest: Digest) -> Result<u64, ArtifactError> {
        Ok(self.get(digest, None).await?.meta.size)
    }

    /// Whether a copy is near at hand.
    pub(crate) fn has_copy(&self, digest: Digest) -> bool {
        self.index.touch(digest)
    }

    /// Lists files in the bucket that have been there for a while.
    pub(crate) async fn list(&self) -> Result<Vec<Digest>, ArtifactError> {
        Ok(self.bucket.list().await?)
    }

    /// Removes a file, unless it was kept once more since it was listed. That there is none is no error.
    pub(crate) async fn remove(&self, digest: Digest) -> Result<(), ArtifactError> {
        if !self.bucket.remove(digest).await? {
            return Ok(());
        }
        self.index.forget(digest);
        self.copies.remove(digest).await
    }

    /// Looks whether the bucket is there.
    pub(crate) async fn look(&self) -> Result<(), BucketError> {
        self.bucket.look().await
    }

    /// Notes that the files in the bucket are of the database with this id.
    pub(crate) async fn claim(&self, database: &str) -> Result<(), BucketError> {
        self.bucket.claim(database).await
    }

    /// Returns a signed link, where whoever downloads is to be sent to the bucket.
    pub(crate) async fn link(&self, digest: Digest, method: Method) -> Result<Option<String>, BucketError> {
        match self.redirect {
            true => self.bucket.link(digest, method).await.map(Some),
            false => Ok(None),
        }
    }

    /// Counts the files that are fetched, wait for it, or were not to be had just now.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.fetches.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits for a copy, for a while; whoever asks first has it fetched.
    async fn bring(self: &Arc<Self>, digest: Digest) -> Result<(), ArtifactError> {
        if self.has_copy(digest) {
            return Ok(());
        }
        let fetch = self.fetch(digest)?;
        match timeout(self.patience.wait, fetch).await {
            Ok(outcome) => outcome.map_err(ArtifactError::Fetch),
            Err(_) => Err(BucketError::Slow.into()),
        }
    }

    /// Returns the fetch that is under way, or has just failed, or else a new one.
    fn fetch(
        self: &Arc<Self>,
        digest: Digest,
    ) -> Result<impl Future<Output = Result<(), Arc<ArtifactError>>> + use<>, BucketError> {
        let mut fetches = self.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, remembered) = (Instant::now(), self.patience.remembered);
        fetches.retain(|_, fetch| fetch.failed.is_none_or(|failed| now < failed + remembered));
        if let Some(fetch) = fetches.get(&digest) {
            return Ok(fetch.outcome.clone());
        }
        if fetches.len() >= MOST {
            return Err(BucketError::Slow);
        }
        // It goes on when nobody waits for it any more: the next one who asks finds a copy.
        let mirror = Arc::clone(self);
        let task = tokio::spawn(async move {
            let outcome = mirror.copy(digest).await;
            mirror.note(digest, outcome.as_ref().err());
            outcome.map_err(Arc::new)
        });
        let ended = |error| Err(Arc::new(ArtifactError::Io(std::io::Error::other(error))));
        let outcome = task.map(move |outcome| outcome.unwrap_or_else(ended)).boxed().shared();
        fetches.insert(digest, Fetch { outcome: outcome.clone(), failed: None });
        Ok(outcome)
    }

    /// Notes how a fetch ended.
    fn note(&self, digest: Digest, failure: Option<&ArtifactError>) {
        let mut fetches = self.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        match failure {
            None => drop(fetches.remove(&digest)),
            Some(error) => {
                tracing::warn!(%digest, %error, "a file cannot be fetched from the bucket");
                if let Some(fetch) = fetches.get_mut(&digest) {
                    fetch.failed = Some(Instant::now());
                }
            }
        }
    }

    fn forget_failure(&self, digest: Digest) {
        let mut fetches = self.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        if fetches.get(&digest).is_some_and(|fetch| fetch.failed.is_some()) {
            fetches.remove(&digest);
        }
    }

    /// Fetches a file, and keeps it if its bytes are those that its name says.
    async fn copy(&self, digest: Digest) -> Result<(), ArtifactError> {
        let fetched = timeout(self.patience.fetch, async {
            // Closed, it never is.
            let _place = self.places.acquire().await;
            let object = self.bucket.get(digest).await.map_err(|error| lost(error, digest))?;
            let (room, gone) = self.index.reserve(object.len).ok_or(BucketError::NoRoom)?;
            remove(&self.copies, gone).await?;
            let staged = receive(self.copies.stage().await?, object).await?;
            let found = staged.digest();
            if found != digest {
                return Err(ArtifactError::Damaged { digest, found });
            }
            let (_, file) = staged.finish().await?;
            self.copies.take(digest, file).await?;
            room.fill(digest);
            Ok(())
        });
        fetched.await.unwrap_or(Err(BucketError::Slow.into()))
    }
}

/// A file that is asked for is one that the database has.
fn lost(error: BucketError, digest: Digest) -> ArtifactError {
    match error {
        BucketError::Missing => ArtifactError::Lost(digest),
        error => error.into(),
    }
}

async fn receive(mut staged: Staged, object: Object) -> Result<Staged, ArtifactError> {
    let Object { len, mut pieces } = object;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| BucketError::of(&error))?;
        if staged.len() + piece.len() as u64 > len {
            return Err(BucketError::Away("more bytes came than were announced".into()).into());
        }
        staged.write(piece).await?;
    }
    match staged.len() == len {
        true => Ok(staged),
        false => Err(BucketError::Away("an object ended early".into()).into()),
    }
}

async fn remove(copies: &Folder, gone: Vec<Digest>) -> Result<(), ArtifactError> {
    futures_util::stream::iter(gone.into_iter().map(Ok)).try_for_each(|digest| copies.remove(digest)).await
}
