//! Takes a request's body to a file: as long as it may be, as fast as it must be, and as it was announced.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use otaru_format::digest::Digest;
use sfv::{BareItem, Dictionary, Item, ListEntry, Parser};
use sha2::{Digest as _, Sha512};

use crate::app::App;
use crate::artifacts::{ArtifactError, Artifacts, Staged};
use crate::problem::Problem;
use crate::releases::UploadLimits;

/// Reasons for which an upload is not taken.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// It is too large.
    #[error("the file is larger than the {0} bytes that this server takes")]
    TooLarge(u64),
    /// Nothing came for too long.
    #[error("nothing came for {} seconds; try again over a better connection", .0.as_secs())]
    Stalled(Duration),
    /// It took too long.
    #[error("the upload was not complete after {} seconds; try again over a faster connection", .0.as_secs())]
    TooSlow(Duration),
    /// The connection broke off.
    #[error("the upload was cut off: {0}; send it again")]
    CutOff(String),
    /// A digest was announced that cannot be read.
    #[error("the {0} is no digest: {1}")]
    Unreadable(&'static str, &'static str),
    /// Another digest than SHA-256 was announced, and it is wrong.
    #[error("the file did not arrive as its SHA-512 says; send it again")]
    WrongSha512,
    /// It cannot be kept, or is not what was announced.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        let (status, kind) = match error {
            UploadError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
            UploadError::Stalled(_) | UploadError::TooSlow(_) => (StatusCode::REQUEST_TIMEOUT, "timeout"),
            UploadError::CutOff(_) => (StatusCode::BAD_REQUEST, "cut-off"),
            UploadError::Unreadable(..) => (StatusCode::BAD_REQUEST, "bad-digest"),
            UploadError::WrongSha512 => (StatusCode::UNPROCESSABLE_ENTITY, "digest-mismatch"),
            UploadError::Artifact(error) => return error.into(),
        };
        Self::new(status, kind, error.to_string())
    }
}

/// Digests that a file was announced with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Announced {
    sha256: Vec<Digest>,
    sha512: Vec<[u8; 64]>,
}

impl Announced {
    /// From the headers `Content-Digest` and `Repr-Digest` (RFC 9530; without a content coding they are of the same
    /// bytes), and from a query's `sha256`. Algorithms that are not known here do not count.
    ///
    /// # Errors
    /// [`UploadError::Unreadable`].
    pub fn read(headers: &HeaderMap, sha256: Option<&str>) -> Result<Self, UploadError> {
        let mut announced = Self::default();
        if let Some(hex) = sha256 {
            let digest = hex.parse();
            let digest =
                digest.map_err(|_| UploadError::Unreadable("sha256", "64 hexadecimal digits are needed"))?;
            announced.sha256.push(digest);
        }
        for name in ["content-digest", "repr-digest"] {
            for value in headers.get_all(name) {
                announced.add(name, value.as_bytes())?;
            }
        }
        Ok(announced)
    }

    fn add(&mut self, name: &'static str, value: &[u8]) -> Result<(), UploadError> {
        let unreadable = || UploadError::Unreadable(name, "it must look like `sha-256=:BASE64:` (RFC 9530)");
        let digests: Dictionary = Parser::new(value).parse().map_err(|_| unreadable())?;
        for (algorithm, entry) in &digests {
            let ListEntry::Item(Item { bare_item: BareItem::ByteSequence(bytes), .. }) = entry else {
                return Err(unreadable());
            };
            match algorithm.as_str() {
                "sha-256" => self.sha256.push(Digest(bytes[..].try_into().map_err(|_| unreadable())?)),
                "sha-512" => self.sha512.push(bytes[..].try_into().map_err(|_| unreadable())?),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Receives a file. `len` is its announced length. Whatever goes wrong, nothing of it is left.
///
/// # Errors
/// When it is too large, too slow, cut off or not what was announced, or the disk is full.
pub async fn receive(
    artifacts: &Artifacts,
    limits: UploadLimits,
    announced: &Announced,
    len: Option<u64>,
    body: Body,
) -> Result<Staged, UploadError> {
    if len.is_some_and(|len| len > limits.bytes) {
        return Err(UploadError::TooLarge(limits.bytes));
    }
    let received = tokio::time::timeout(limits.total, take(artifacts, limits, announced, body)).await;
    received.unwrap_or(Err(UploadError::TooSlow(limits.total)))
}

/// Receives a file that is to become a release, within the limits of this server.
///
/// # Errors
/// When it is too large, too slow, or not what was announced.
pub(crate) async fn receive_upload(
    app: &App,
    announced: &Announced,
    len: Option<u64>,
    body: Body,
) -> Result<Staged, Problem> {
    Ok(receive(&app.artifacts, app.config.upload_limits, announced, len, body).await?)
}

async fn take(
    artifacts: &Artifacts,
    limits: UploadLimits,
    announced: &Announced,
    mut body: Body,
) -> Result<Staged, UploadError> {
    let mut staged = artifacts.stage().await?;
    let mut sha512 = (!announced.sha512.is_empty()).then(Sha512::new);
    loop {
        let frame = tokio::time::timeout(limits.stall, body.frame()).await;
        let Some(frame) = frame.map_err(|_| UploadError::Stalled(limits.stall))? else { break };
        let frame = frame.map_err(|error| UploadError::CutOff(error.to_string()))?;
        // Trailers are of no interest.
        let Ok(bytes) = frame.into_data() else { continue };
        if staged.len() + bytes.len() as u64 > limits.bytes {
            return Err(UploadError::TooLarge(limits.bytes));
        }
        if let Some(hasher) = &mut sha512 {
            hasher.update(&bytes);
        }
        staged.write(bytes).await?;
    }
    for digest in &announced.sha256 {
        staged.expect(*digest)?;
    }
    let found: Option<[u8; 64]> = sha512.map(|hasher| hasher.finalize().into());
    if announced.sha512.iter().any(|digest| Some(*digest) != found) {
        return Err(UploadError::WrongSha512);
    }
    Ok(staged)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use bytes::Bytes;
    use futures_util::{StreamExt as _, stream};

    use super::*;

    /// SHA-256 of `hello`, by `printf hello | openssl dgst -sha256 -binary | base64`.
    const HELLO: &str = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";
    const HELLO_512: &str =
        "sha-512=:m3HSJL1i83hdltRq0+o9czGb+8KJDKra4t/3JRlnPKcjI8PZm6XBHXx6zG4UuMXaDEZjR1wuXDre9G9zvN7AQw==:";

    fn announced(headers: &[(&'static str, &str)], sha256: Option<&str>) -> Result<Announced, UploadError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        Announced::read(&map, sha256)
    }

    fn limits() -> UploadLimits {
        UploadLimits { bytes: 100, ..UploadLimits::default() }
    }

    struct Store {
        folder: tempfile::TempDir,
        artifacts: Artifacts,
    }

    impl Store {
        fn open() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let artifacts = Artifacts::open(folder.path(), 0).unwrap();
            Self { folder, artifacts }
        }

        async fn receive(&self, announced: &Announced, body: Body) -> Result<Digest, UploadError> {
            let staged = receive(&self.artifacts, limits(), announced, None, body).await?;
            Ok(staged.digest())
        }

        /// Returns the end of a failed upload, after which nothing may be left.
        async fn failed(&self, announced: &Announced, body: Body) -> UploadError {
            let error = self.receive(announced, body).await.unwrap_err();
            let left = std::fs::read_dir(self.folder.path().join("incoming")).unwrap().count();
            assert_eq!(left, 0, "{error}");
            error
        }
    }

    /// A body in pieces, which then never ends.
    fn endless(pieces: &'static [&'static str], pause: Duration) -> Body {
        let pieces = stream::iter(pieces).then(move |piece| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, std::io::Error>(Bytes::from_static(piece.as_bytes()))
        });
        Body::from_stream(pieces.chain(stream::pending()))
    }

    #[test]
    fn digests_are_read_as_the_rfc_says() {
        let plain = announced(&[], Some(&Digest::of(b"hello").to_string())).unwrap();
        for headers in [
            &[("repr-digest", HELLO)][..],
            &[("content-digest", HELLO)],
            &[("content-digest", &*format!("md5=:AAAA:, {HELLO}"))],
        ] {
            assert_eq!(announced(headers, None).unwrap(), plain, "{headers:?}");
        }
        assert_eq!(announced(&[("digest", "x")], None).unwrap(), Announced::default());
        for bad in [
            "sha-256",
            "sha-256=abc",
            "sha-256=:AAAA:",
            "sha-256=(:AAAA:)",
            "sha-256=:%:",
            "=",
            "sha-512=:AA==:",
        ] {
            let error = announced(&[("repr-digest", bad)], None).unwrap_err();
            assert_eq!(Problem::from(error).status, 400, "{bad}");
        }
        assert!(announced(&[], Some("../x")).is_err());
    }

    #[tokio::test]
    async fn what_was_announced_must_come() {
        let store = Store::open();
        for good in [&[("repr-digest", HELLO)][..], &[("repr-digest", HELLO_512)], &[]] {
            let digest = store.receive(&announced(good, None).unwrap(), Body::from("hello")).await.unwrap();
            assert_eq!(digest, Digest::of(b"hello"));
        }
        for headers in [&[("repr-digest", HELLO)][..], &[("content-digest", HELLO_512)]] {
            let error = store.failed(&announced(headers, None).unwrap(), Body::from("hallo")).await;
            assert_eq!(Problem::from(error).status, 422, "{headers:?}");
        }
        // One of two is wrong.
        let two = announced(&[("repr-digest", HELLO)], Some(&Digest::ZERO.to_string())).unwrap();
        assert_eq!(Problem::from(store.failed(&two, Body::from("hello")).await).status, 422);
    }

    #[tokio::test]
    async fn too_large_is_too_large_whatever_is_announced() {
        let store = Store::open();
        let none = Announced::default();
        let error = store.failed(&none, Body::from(vec![0; 101])).await;
        assert_eq!(Problem::from(error).status, 413);
        assert!(store.receive(&none, Body::from(vec![0; 100])).await.is_ok());
        let declared = receive(&store.artifacts, limits(), &none, Some(101), Body::empty()).await;
        assert!(matches!(declared, Err(UploadError::TooLarge(100))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_is_waited_for_only_so_long() {
        let store = Store::open();
        let none = Announced::default();
        let error = store.failed(&none, endless(&["a", "b"], Duration::from_secs(1))).await;
        assert!(matches!(error, UploadError::Stalled(_)), "{error}");
        assert_eq!(Problem::from(error).status, 408);
        // Never silent for long, and yet never done.
        let pieces: &'static [&'static str] = &["x"; 60];
        let error = store.failed(&none, endless(pieces, Duration::from_secs(29))).await;
        assert!(matches!(error, UploadError::TooSlow(_)), "{error}");
    }

    #[tokio::test]
    async fn a_body_that_is_cut_off_leaves_nothing() {
        let store = Store::open();
        let broken = std::io::Error::other("connection reset");
        let pieces = stream::iter([Ok(Bytes::from_static(b"half")), Err(broken)]);
        let error = store.failed(&Announced::default(), Body::from_stream(pieces)).await;
        assert!(matches!(error, UploadError::CutOff(_)), "{error}");
    }
}
