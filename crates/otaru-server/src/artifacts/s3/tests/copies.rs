//! Files that are put into a bucket, fetched from it, and kept as copies.

use std::time::Duration;

use otaru_format::digest::Digest;

use super::{Near, bytes, reason, with_a_file, with_a_file_and};
use crate::artifacts::s3::stand_in::{Fault, StandIn};
use crate::artifacts::s3::{BucketError, Patience, S3Config};
use crate::artifacts::{ArtifactError, Artifacts, Content};

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
async fn so_many_files_are_put_at_the_same_time() {
    let bucket = StandIn::start().await;
    let patience = Patience { stall: Duration::from_secs(3_600), ..bucket.config().patience };
    let near = Near::open(&S3Config { patience, ..bucket.config() }).await;
    bucket.misbehaves(Fault::Silent);
    let puts = futures_util::future::join_all((0..8).map(|n| near.artifacts.put(bytes(n, 10))));
    let counted = async {
        while bucket.asked("PUT") < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Time for others to come, if they could.
        tokio::time::sleep(Duration::from_millis(100)).await;
        bucket.asked("PUT")
    };
    tokio::select! {
        _ = puts => panic!("nothing is answered"),
        counted = counted => assert_eq!(counted, 4),
    }
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
    near.artifacts.remove(digest).await.unwrap();
    assert!(bucket.names().iter().any(|name| !name.ends_with("owner")), "it is young");
    bucket.ages();
    assert_eq!(near.artifacts.list().await.unwrap(), [digest]);
    // Another server keeps it once more, and is about to name it.
    near.artifacts.put(bytes(1, 1_000)).await.unwrap();
    near.artifacts.remove(digest).await.unwrap();
    assert_eq!((bucket.names().len(), near.artifacts.list().await.unwrap()), (2, vec![]));
    assert_eq!(near.files().len(), 1, "its copy stays as well");
    bucket.ages();
    near.artifacts.remove(digest).await.unwrap();
    near.artifacts.remove(digest).await.unwrap();
    assert_eq!((bucket.names(), near.files().len()), (vec!["a/prefix/otaru-owner".to_owned()], 0));
    let error = near.artifacts.claim("another").await.unwrap_err();
    assert!(matches!(error, ArtifactError::Bucket(BucketError::NotOurs)), "{error}");
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
