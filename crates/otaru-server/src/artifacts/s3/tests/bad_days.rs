//! A bucket that is away, slow, refuses, lies and loses.

use std::time::Duration;

use super::{Near, bytes, is_away, reason, with_a_file, with_a_file_and};
use crate::artifacts::ArtifactError;
use crate::artifacts::s3::stand_in::{Fault, SECRET, StandIn, TOKEN, config};
use crate::artifacts::s3::{BucketError, Patience, S3Config};

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
async fn a_fetch_that_takes_too_long_ends() {
    let hurry = |config: &mut S3Config| {
        let long = Duration::from_secs(3_600);
        config.patience = Patience { fetch: Duration::from_millis(300), stall: long, ..config.patience };
    };
    let (bucket, near, digest) = with_a_file_and(300_000, hurry).await;
    bucket.misbehaves(Fault::Stalls);
    let error = near.artifacts.read_whole(digest).await.unwrap_err();
    assert!(matches!(reason(&error), ArtifactError::Bucket(BucketError::Slow)), "{error}");
    assert_eq!(near.files().len(), 0);
    // Its place and its room are free again.
    bucket.behaves();
    assert_eq!(near.artifacts.read_whole(digest).await.unwrap(), bytes(1, 300_000));
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
