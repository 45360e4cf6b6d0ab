//! A bucket on good days and on bad ones.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use otaru_format::digest::Digest;

use super::stand_in::{Fault, SECRET, StandIn, TOKEN, config};
use super::{BucketError, Patience, S3Config};
use crate::artifacts::{ArtifactError, Artifacts, Content};

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

#[tokio::test]
async fn a_file_is_an_object_by_its_digest_and_is_read_from_a_copy() {
    let (bucket, near, digest) = with_a_file(300_000).await;
    let hex = digest.to_string();
    assert_eq!(bucket.names(), [format!("a/prefix/{}/{}", &hex[..2], &hex[2..])]);
    assert_eq!(near.files().len(), 0);
    for _ in 0..3 {
        assert_eq!(near.artifacts.read_whole(digest).await.unwrap(), bytes(1, 300_000));
        assert!(matches!(near.artifacts.open_file(digest).await.unwrap(), Content::OnDisk(300_000)));
    }
    assert_eq!((bucket.asked("GET"), near.files().len()), (1, 1), "one fetch, one copy");
}

#[tokio::test]
async fn what_many_want_is_fetched_once() {
    let (bucket, near, digest) = with_a_file(300_000).await;
    let wanted = (0..30).map(|_| near.artifacts.len(digest));
    for len in futures_util::future::join_all(wanted).await {
        assert_eq!(len.unwrap(), 300_000);
    }
    assert_eq!(bucket.asked("GET"), 1);
}

#[tokio::test]
async fn a_large_file_goes_in_parts() {
    let bucket = StandIn::start().await;
    // What is large takes its time in a busy test.
    let patience = Patience { stall: Duration::from_secs(20), ..bucket.config().patience };
    let near = Near::open(&S3Config { patience, ..bucket.config() }).await;
    let large = bytes(3, (20 << 20) + 1);
    let digest = near.artifacts.put(large.clone()).await.unwrap();
    assert_eq!((bucket.asked("PUT"), bucket.asked("POST"), bucket.begun()), (3, 2, 0));
    let other = Near::open(&bucket.config()).await;
    assert_eq!(other.artifacts.read_whole(digest).await.unwrap(), large);
    // As long as one part is: no second one, and no parts at all.
    near.artifacts.put(bytes(3, 8 << 20)).await.unwrap();
    assert_eq!((bucket.asked("PUT"), bucket.asked("POST")), (4, 2));
}

#[tokio::test]
async fn what_cannot_be_put_leaves_nothing_behind() {
    for fault in
        [Fault::Gone, Fault::Silent, Fault::Status(503, "SlowDown"), Fault::Status(403, "AccessDenied")]
    {
        let bucket = StandIn::start().await;
        let near = Near::open(&bucket.config()).await;
        bucket.misbehaves(fault);
        let error = near.artifacts.put(bytes(1, 1_000)).await.unwrap_err();
        assert!(matches!(error, ArtifactError::Bucket(_)), "{fault:?}: {error}");
        assert_eq!((near.files().len(), bucket.names().len()), (0, 0), "{fault:?}");
        bucket.behaves();
        let digest = near.artifacts.put(bytes(1, 1_000)).await.unwrap();
        assert_eq!(near.artifacts.len(digest).await.unwrap(), 1_000);
    }
}

#[tokio::test]
async fn parts_of_what_cannot_be_put_whole_are_removed() {
    let bucket = StandIn::start().await;
    let near = Near::open(&S3Config { patience: without_retries(&bucket), ..bucket.config() }).await;
    let put = near.artifacts.put(bytes(1, 20 << 20));
    let refuse = async {
        while bucket.asked("POST") == 0 {
            tokio::task::yield_now().await;
        }
        bucket.misbehaves_times(Fault::Status(400, "EntityTooSmall"), 1);
    };
    let (put, ()) = tokio::join!(put, refuse);
    put.unwrap_err();
    assert_eq!((bucket.begun(), bucket.names().len(), near.files().len()), (0, 0, 0));
}

fn without_retries(bucket: &StandIn) -> Patience {
    Patience { retries: 0, ..bucket.config().patience }
}

#[tokio::test]
async fn a_bucket_that_is_busy_is_asked_again_a_few_times() {
    let (bucket, near, digest) = with_a_file(1_000).await;
    bucket.misbehaves_times(Fault::Status(503, "SlowDown"), 2);
    assert_eq!(near.artifacts.len(digest).await.unwrap(), 1_000);
    let other = Near::open(&bucket.config()).await;
    let before = bucket.asked("GET");
    bucket.misbehaves(Fault::Status(503, "SlowDown"));
    let error = other.artifacts.len(digest).await.unwrap_err();
    assert!(is_away(&error) && error.to_string().contains("503 SlowDown"), "{error}");
    assert_eq!(bucket.asked("GET") - before, 3, "once, and twice again");
}

#[tokio::test]
async fn a_failed_fetch_is_remembered_for_a_while() {
    let long = Duration::from_secs(3_600);
    let (bucket, near, digest) = with_a_file_and(1_000, |config| config.patience.remembered = long).await;
    bucket.misbehaves(Fault::Status(404, "NoSuchBucket"));
    for _ in 0..10 {
        near.artifacts.len(digest).await.unwrap_err();
    }
    assert_eq!(bucket.asked("GET"), 1, "a crowd does not ask once each");
    bucket.behaves();
    near.artifacts.put(bytes(1, 1_000)).await.unwrap();
    near.artifacts.len(digest).await.unwrap();
}

#[tokio::test]
async fn a_body_that_breaks_off_is_gone_on_with_or_given_up() {
    let (bucket, near, digest) = with_a_file(300_000).await;
    bucket.misbehaves(Fault::Short);
    let error = near.artifacts.read_whole(digest).await.unwrap_err();
    assert!(is_away(&error), "{error}");
    assert_eq!(near.files().len(), 0, "half a file is none");
    bucket.misbehaves_times(Fault::Short, 1);
    assert_eq!(near.artifacts.read_whole(digest).await.unwrap(), bytes(1, 300_000));
}

#[tokio::test]
async fn a_read_that_does_not_move_ends() {
    let (bucket, near, digest) = with_a_file(300_000).await;
    for fault in [Fault::Stalls, Fault::Silent] {
        bucket.misbehaves(fault);
        let error = near.artifacts.read_whole(digest).await.unwrap_err();
        assert!(
            is_away(&error) && error.to_string().contains("nothing moved for 0.5 s"),
            "{fault:?}: {error}"
        );
        assert_eq!(near.files().len(), 0);
    }
}

#[tokio::test]
async fn who_waits_for_a_fetch_is_answered_in_time_and_the_fetch_goes_on() {
    let hurry = |config: &mut S3Config| {
        config.patience.wait = Duration::ZERO;
        config.patience.remembered = Duration::from_secs(3_600);
    };
    let (bucket, near, digest) = with_a_file_and(300_000, hurry).await;
    let error = near.artifacts.len(digest).await.unwrap_err();
    assert!(matches!(error, ArtifactError::Bucket(BucketError::Slow)), "{error}");
    while near.files().len() != 1 || !near.artifacts.is_near(digest) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(near.artifacts.len(digest).await.unwrap(), 300_000);
    assert_eq!(bucket.asked("GET"), 1);
}

#[tokio::test]
async fn so_many_fetches_wait_and_no_more() {
    let hurry = |config: &mut S3Config| {
        let long = Duration::from_secs(3_600);
        config.patience = Patience { wait: Duration::ZERO, stall: long, fetch: long, ..config.patience };
    };
    let (bucket, near, _) = with_a_file_and(1_000, hurry).await;
    bucket.misbehaves(Fault::Silent);
    let before = bucket.asked("GET");
    for n in 0..300_u32 {
        let error = near.artifacts.len(Digest::of(&n.to_le_bytes())).await.unwrap_err();
        assert!(matches!(error, ArtifactError::Bucket(BucketError::Slow)), "{error}");
        tokio::task::yield_now().await;
    }
    assert_eq!(near.artifacts.waiting(), 256);
    while bucket.asked("GET") < before + 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(bucket.asked("GET"), before + 4, "those that have a place");
}

#[tokio::test]
async fn an_answer_without_end_is_given_up_by_the_bucket_as_well() {
    let bucket = StandIn::start().await;
    let near = Near::open(&bucket.config()).await;
    bucket.misbehaves(Fault::Endless);
    for error in
        [near.artifacts.list().await.unwrap_err(), near.artifacts.put(bytes(1, 10)).await.unwrap_err()]
    {
        assert!(is_away(&error), "{error}");
    }
}

#[tokio::test]
async fn other_bytes_than_the_name_says_are_never_given_out() {
    let (bucket, near, digest) = with_a_file(300_000).await;
    bucket.misbehaves(Fault::OtherBytes);
    let error = near.artifacts.open_file(digest).await.map(drop).unwrap_err();
    assert!(matches!(reason(&error), ArtifactError::Damaged { digest: d, .. } if *d == digest), "{error}");
    let error = near.artifacts.read(digest, 0..10).await.map(drop).unwrap_err();
    assert!(matches!(reason(&error), ArtifactError::Damaged { .. }), "no part of it either: {error}");
    assert_eq!(near.files().len(), 0);
    bucket.behaves();
    assert_eq!(near.artifacts.read_whole(digest).await.unwrap(), bytes(1, 300_000));
}

#[tokio::test]
async fn an_object_that_no_firmware_is_as_large_as_is_not_fetched() {
    let (bucket, near, digest) = with_a_file(1_000).await;
    bucket.misbehaves(Fault::Says((64 << 20) + 1));
    let error = near.artifacts.len(digest).await.unwrap_err();
    assert!(matches!(reason(&error), ArtifactError::Bucket(BucketError::TooLarge(67_108_865))), "{error}");
}

#[tokio::test]
async fn a_file_that_the_bucket_has_lost_is_told() {
    let (bucket, near, digest) = with_a_file(1_000).await;
    bucket.loses_all();
    let error = near.artifacts.len(digest).await.unwrap_err();
    assert!(matches!(reason(&error), ArtifactError::Lost(d) if *d == digest), "{error}");
    assert!(error.is_missing() && error.to_string().contains("upload its firmware again"), "{error}");
}

#[tokio::test]
async fn what_has_a_copy_is_there_while_the_bucket_is_away() {
    let (bucket, near, digest) = with_a_file(1_000).await;
    near.artifacts.len(digest).await.unwrap();
    bucket.misbehaves(Fault::Gone);
    assert!(near.artifacts.look().await.is_err());
    assert_eq!(near.artifacts.read_whole(digest).await.unwrap(), bytes(1, 1_000));
    // Also for the next process.
    let next = Artifacts::open_bucket(&bucket.config(), near.copies.path(), 0).await.unwrap();
    assert_eq!(next.read_whole(digest).await.unwrap(), bytes(1, 1_000));
    // Somebody empties the folder meanwhile.
    bucket.behaves();
    for file in near.files() {
        std::fs::remove_file(file).unwrap();
    }
    assert_eq!(next.read_whole(digest).await.unwrap(), bytes(1, 1_000));
}

#[tokio::test]
async fn copies_have_a_bound_and_the_least_used_goes() {
    const FILE: usize = 100_000;
    let bucket = StandIn::start().await;
    let config = S3Config { copies: 3 * FILE as u64 + 1, ..bucket.config() };
    let near = Near::open(&config).await;
    let mut digests = Vec::new();
    for n in 0..6 {
        digests.push(near.artifacts.put(bytes(n, FILE)).await.unwrap());
        near.artifacts.len(digests[0]).await.unwrap();
        assert!(near.files().len() <= 3);
    }
    let before = bucket.asked("GET");
    near.artifacts.read_whole(digests[0]).await.unwrap();
    assert_eq!(bucket.asked("GET"), before, "what is used stays");
    assert_eq!(near.artifacts.read_whole(digests[1]).await.unwrap(), bytes(1, FILE), "what went comes again");
    assert_eq!((bucket.asked("GET"), near.files().len()), (before + 1, 3));
    // A process with less room keeps less, and what was left unfinished is removed.
    std::fs::write(near.copies.path().join("incoming/left"), b"half").unwrap();
    let less = S3Config { copies: FILE as u64 + 1, ..config };
    Artifacts::open_bucket(&less, near.copies.path(), 0).await.unwrap();
    assert_eq!(near.files().len(), 1);
    // No room at all: it is in the bucket, and nothing is served that would be more than there is room for.
    let none = Near::open(&S3Config { copies: 10, ..less }).await;
    let digest = none.artifacts.put(bytes(9, FILE)).await.unwrap();
    let error = none.artifacts.len(digest).await.unwrap_err();
    assert!(matches!(reason(&error), ArtifactError::Bucket(BucketError::NoRoom)), "{error}");
    assert_eq!(none.files().len(), 0);
}

#[tokio::test]
async fn what_is_removed_is_removed_from_the_bucket_and_only_what_is_old_is_listed() {
    let (bucket, near, digest) = with_a_file(1_000).await;
    near.artifacts.claim("mine").await.unwrap();
    near.artifacts.claim("mine").await.unwrap();
    near.artifacts.len(digest).await.unwrap();
    assert_eq!(near.artifacts.list().await.unwrap(), [], "somebody may be about to name it");
    bucket.is_old();
    assert_eq!(near.artifacts.list().await.unwrap(), [digest]);
    near.artifacts.remove(digest).await.unwrap();
    near.artifacts.remove(digest).await.unwrap();
    assert_eq!((bucket.names(), near.files().len()), (vec!["a/prefix/otaru-owner".to_owned()], 0));
    let error = near.artifacts.claim("another").await.unwrap_err();
    assert!(matches!(error, ArtifactError::Bucket(BucketError::NotOurs)), "{error}");
}

#[tokio::test]
async fn what_is_refused_is_told_in_words_and_without_secrets() {
    let bucket = StandIn::start().await;
    let near = Near::open(&bucket.config()).await;
    near.artifacts.look().await.unwrap();
    for (status, code, says) in [
        (403, "InvalidAccessKeyId", "does not know the access key"),
        (403, "SignatureDoesNotMatch", "the secret key does not belong to the access key"),
        (403, "AccessDenied", "s3:GetObject"),
        (403, "RequestTimeTooSkewed", "set the clock"),
        (400, "ExpiredToken", "new credentials"),
        (404, "NoSuchBucket", "no bucket of this name"),
        (301, "PermanentRedirect", "--s3-region"),
        (400, "AuthorizationHeaderMalformed", "--s3-region"),
        (500, "InternalError", "it answered 500 InternalError"),
        (500, "<b>\n", "it answered 500"),
    ] {
        bucket.misbehaves(Fault::Status(status, code));
        for error in
            [near.artifacts.look().await.unwrap_err(), near.artifacts.put(bytes(1, 10)).await.unwrap_err()]
        {
            let told = format!("{error} {error:?}");
            assert!(told.contains(says), "{code}: {told}");
            assert!(![SECRET, TOKEN, "Token-0", "\n"].iter().any(|hidden| told.contains(hidden)), "{told}");
        }
    }
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_told() {
    // Nobody listens at the port of a listener that is gone.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let near = Near::open(&config(&format!("http://127.0.0.1:{port}"))).await;
    let error = near.artifacts.look().await.unwrap_err();
    assert!(error.to_string().contains("the bucket is away: it cannot be reached: "), "{error}");
}

#[tokio::test]
async fn over_tls_whose_certificate_it_is_decides() {
    let bucket = StandIn::start_tls().await;
    let near = Near::open(&bucket.config()).await;
    let digest = near.artifacts.put(bytes(1, 100_000)).await.unwrap();
    assert_eq!(Near::open(&bucket.config()).await.artifacts.len(digest).await.unwrap(), 100_000);
    let other = StandIn::start_tls().await;
    let config = S3Config { trust: other.config().trust, ..bucket.config() };
    let error = Near::open(&config).await.artifacts.look().await.unwrap_err();
    assert!(error.to_string().contains("no CA that is trusted here; --s3-ca FILE names one"), "{error}");
}
