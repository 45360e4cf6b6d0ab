//! Requests to a bucket: a name in it is a digest, so putting a file twice is harmless.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use axum::http::Method;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::stream::BoxStream;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::signer::Signer as _;
use object_store::{
    BackoffConfig, MultipartUpload, ObjectMeta, ObjectStore as _, ObjectStoreExt as _, PutPayload,
    RetryConfig,
};
use otaru_format::digest::Digest;
use tokio::sync::Semaphore;

use super::super::error::ArtifactError;
use super::super::key::{digest_of, key};
use super::config::{Patience, S3Config};
use super::failure::BucketError;
use super::http::Service;
use super::limits::LARGEST;

/// Bytes of a part; what is longer is put in several. Less than 5 MiB is refused by S3.
const PART: usize = 8 << 20;
/// Bytes of the pieces that a part is sent in, by which it is known to move.
const PIECE: usize = 64 << 10;
/// Files that are put at the same time: each has a part of it in memory.
const PUTS: usize = 4;
/// Time for which a signed link is good.
const LINK: Duration = Duration::from_secs(15 * 60);
/// Time for which an object that no database names is left alone: whoever put it may be about to name it.
const YOUNG: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Name of the object that says whose files these are.
const OWNER: &str = "otaru-owner";

/// A bucket.
pub(super) struct Bucket {
    store: AmazonS3,
    /// The same, asked once and in a hurry.
    look: AmazonS3,
    prefix: Key,
    puts: Semaphore,
    patience: Patience,
}

/// An object that is being read.
pub(super) struct Object {
    /// Bytes of it.
    pub(super) len: u64,
    /// Pieces of the file, in their order.
    pub(super) pieces: BoxStream<'static, object_store::Result<Bytes>>,
}

impl Bucket {
    /// Prepares requests; none is made yet.
    pub(super) fn new(config: &S3Config) -> Result<Self, ArtifactError> {
        let service = Service::new(&config.trust, config.is_plain(), config.patience.stall)?;
        let hasty = Service::new(&config.trust, config.is_plain(), config.patience.look)?;
        let Patience { retries, retry_for, look, .. } = config.patience;
        Ok(Self {
            store: client(config, service, retries, retry_for)?,
            look: client(config, hasty, 0, look)?,
            prefix: Key::from_iter(config.place.prefix.split('/').filter(|part| !part.is_empty())),
            puts: Semaphore::new(PUTS),
            patience: config.patience,
        })
    }

    fn place(&self, digest: Digest) -> Key {
        self.prefix.parts().chain(key(digest).parts()).collect()
    }

    /// Looks whether the bucket is there and lets itself be read: asks for an object that is not there.
    pub(super) async fn look(&self) -> Result<(), BucketError> {
        let nothing = self.place(Digest::ZERO);
        let asked = tokio::time::timeout(self.patience.look, self.look.get(&nothing)).await;
        let late = || BucketError::Away(format!("no answer in {} s", self.patience.look.as_secs_f32()));
        match asked.map_err(|_| late())?.map_err(|error| BucketError::of(&error)) {
            Ok(_) | Err(BucketError::Missing) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Puts a file of this machine there. When this returns without an error, it is there whole.
    pub(super) async fn put(&self, digest: Digest, file: &Path) -> Result<(), ArtifactError> {
        // Closed, it never is.
        let _turn = self.puts.acquire().await;
        let mut parts = Parts::open(file.to_owned()).await?;
        let (at, first) = (self.place(digest), parts.next().await?.unwrap_or_default());
        let Some(second) = parts.next().await? else {
            let put = self.store.put(&at, payload(first)).await;
            return put.map(drop).map_err(|error| BucketError::of(&error).into());
        };
        let upload = self.store.put_multipart(&at).await;
        let mut upload = upload.map_err(|error| BucketError::of(&error))?;
        let put = put_parts(&mut *upload, [first, second], parts).await;
        if put.is_err() {
            // Parts that stay behind cost money; a rule of the bucket removes what this does not.
            if let Err(error) = upload.abort().await {
                let error = BucketError::of(&error);
                tracing::warn!(%digest, %error, "parts of a file that was not put whole stay in the bucket");
            }
        }
        put
    }

    /// Begins to read an object.
    pub(super) async fn get(&self, digest: Digest) -> Result<Object, BucketError> {
        let found = self.store.get(&self.place(digest)).await.map_err(|error| BucketError::of(&error))?;
        match found.meta.size {
            len if len > LARGEST => Err(BucketError::TooLarge(len)),
            len => Ok(Object { len, pieces: found.into_stream() }),
        }
    }

    /// Removes an object that has been there for a while. Returns whether it is gone: one that was put once more since it was listed stays.
    pub(super) async fn remove(&self, digest: Digest) -> Result<bool, BucketError> {
        let at = self.place(digest);
        let removed = async {
            let is_old = is_old(&self.store.head(&at).await?);
            if is_old {
                self.store.delete(&at).await?;
            }
            Ok::<_, object_store::Error>(is_old)
        };
        match removed.await.map_err(|error| BucketError::of(&error)) {
            Err(BucketError::Missing) => Ok(true),
            done => done,
        }
    }

    /// Lists files that have been there for a while.
    pub(super) async fn list(&self) -> Result<Vec<Digest>, BucketError> {
        let found = self.store.list(Some(&self.prefix)).try_filter_map(|object| {
            let name: Option<Key> = object.location.prefix_match(&self.prefix).map(Iterator::collect);
            std::future::ready(Ok(name.filter(|_| is_old(&object)).and_then(|name| digest_of(&name))))
        });
        found.try_collect().await.map_err(|error| BucketError::of(&error))
    }

    /// Notes that the files here are of the database with this id, if they are nobody's yet.
    pub(super) async fn claim(&self, database: &str) -> Result<(), BucketError> {
        let at: Key = self.prefix.parts().chain(Key::from(OWNER).parts()).collect();
        let found = match self.store.get(&at).await {
            Ok(found) => found.bytes().await,
            Err(error) => Err(error),
        };
        match found.map_err(|error| BucketError::of(&error)) {
            Ok(owner) if owner == database.as_bytes() => Ok(()),
            Ok(_) => Err(BucketError::NotOurs),
            Err(BucketError::Missing) => {
                let put = self.store.put(&at, Bytes::copy_from_slice(database.as_bytes()).into()).await;
                put.map(drop).map_err(|error| BucketError::of(&error))
            }
            Err(error) => Err(error),
        }
    }

    /// Signs a link to an object, which is good for a short while.
    pub(super) async fn link(&self, digest: Digest, method: Method) -> Result<String, BucketError> {
        let signed = self.store.signed_url(method, &self.place(digest), LINK).await;
        Ok(signed.map_err(|error| BucketError::of(&error))?.into())
    }
}

/// Whether nobody can be about to name an object.
fn is_old(object: &ObjectMeta) -> bool {
    SystemTime::from(object.last_modified) < SystemTime::now() - YOUNG
}

fn client(
    config: &S3Config,
    service: Service,
    retries: usize,
    retry_for: Duration,
) -> Result<AmazonS3, ArtifactError> {
    let credentials = &config.credentials;
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(200),
        max_backoff: Duration::from_secs(5),
        base: 2.0,
    };
    let mut builder = AmazonS3Builder::new()
        .with_http_connector(service)
        .with_bucket_name(&config.place.bucket)
        .with_region(&config.region)
        .with_virtual_hosted_style_request(!config.path_style)
        .with_allow_http(config.is_plain())
        .with_access_key_id(&credentials.key_id)
        .with_secret_access_key(credentials.secret.expose())
        // Not every service knows how to delete several at once.
        .with_disable_bulk_delete(true)
        .with_retry(RetryConfig { backoff, max_retries: retries, retry_timeout: retry_for });
    if let Some(token) = &credentials.token {
        builder = builder.with_token(token.expose());
    }
    if let Some(endpoint) = config.endpoint() {
        builder = builder.with_endpoint(endpoint);
    }
    builder.build().map_err(ArtifactError::Store)
}

/// A part in pieces.
fn payload(part: Bytes) -> PutPayload {
    let piece = |at: usize| part.slice(at..part.len().min(at + PIECE));
    (0..part.len()).step_by(PIECE).map(piece).collect()
}

async fn put_parts(
    upload: &mut dyn MultipartUpload,
    begun: [Bytes; 2],
    mut rest: Parts,
) -> Result<(), ArtifactError> {
    for part in begun {
        upload.put_part(payload(part)).await.map_err(|error| BucketError::of(&error))?;
    }
    while let Some(part) = rest.next().await? {
        upload.put_part(payload(part)).await.map_err(|error| BucketError::of(&error))?;
    }
    upload.complete().await.map(drop).map_err(|error| BucketError::of(&error).into())
}

/// A file of this machine, read part by part.
struct Parts {
    /// `None` at its end.
    file: Option<File>,
}

impl Parts {
    async fn open(path: PathBuf) -> Result<Self, ArtifactError> {
        let file = tokio::task::spawn_blocking(move || File::open(path)).await;
        Ok(Self { file: Some(file.map_err(std::io::Error::other)??) })
    }

    /// Returns the next part; the last is shorter than the others.
    async fn next(&mut self) -> Result<Option<Bytes>, ArtifactError> {
        let Some(file) = self.file.take() else { return Ok(None) };
        let read = tokio::task::spawn_blocking(move || {
            let mut part = Vec::new();
            let mut limited = file.take(PART as u64);
            limited.read_to_end(&mut part)?;
            Ok::<_, std::io::Error>((limited.into_inner(), part))
        });
        let (file, part) = read.await.map_err(std::io::Error::other)??;
        self.file = (part.len() == PART).then_some(file);
        Ok((!part.is_empty()).then(|| part.into()))
    }
}
