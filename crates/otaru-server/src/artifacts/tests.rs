use std::path::PathBuf;

use super::folder::STAGING;
use super::*;

fn open() -> (tempfile::TempDir, Artifacts) {
    let folder = tempfile::tempdir().unwrap();
    let artifacts = Artifacts::open(folder.path(), DEFAULT_MEMORY).unwrap();
    (folder, artifacts)
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test]
async fn what_is_kept_can_be_read_in_parts() {
    let (folder, artifacts) = open();
    let contents: Bytes = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let digest = artifacts.put(contents.clone()).await.unwrap();
    assert_eq!(digest, Digest::of(&contents));
    let hex = digest.to_string();
    assert_eq!(files(folder.path()), [folder.path().join(&hex[..2]).join(&hex[2..])]);
    assert_eq!(artifacts.len(digest).await.unwrap(), 400_000);
    let pieces: Vec<Bytes> =
        artifacts.read(digest, 1_000..300_001).await.unwrap().try_collect().await.unwrap();
    assert_eq!(pieces.concat(), contents[1_000..300_001]);
    assert!(matches!(artifacts.open_file(digest).await.unwrap(), Content::Whole(bytes) if bytes == contents));
    assert_eq!(artifacts.list().await.unwrap(), [digest]);
}

#[tokio::test]
async fn the_same_file_again_changes_nothing() {
    let (folder, artifacts) = open();
    let digest = artifacts.put(Bytes::from_static(b"once")).await.unwrap();
    let written = || files(folder.path())[0].metadata().unwrap().modified().unwrap();
    let before = written();
    assert_eq!(artifacts.put(Bytes::from_static(b"once")).await.unwrap(), digest);
    assert_eq!((written(), files(folder.path()).len()), (before, 1));
}

#[tokio::test]
async fn an_abandoned_file_leaves_nothing() {
    let (folder, artifacts) = open();
    let mut staged = artifacts.stage().await.unwrap();
    staged.write(Bytes::from_static(b"half")).await.unwrap();
    assert_eq!(files(folder.path()).len(), 1);
    assert!(staged.expect(Digest::of(b"half")).is_ok());
    assert!(matches!(staged.expect(Digest::ZERO), Err(ArtifactError::WrongDigest { .. })));
    drop(staged);
    assert_eq!(files(folder.path()).len(), 0);
}

#[tokio::test]
async fn what_a_killed_process_left_is_removed() {
    let (folder, artifacts) = open();
    let kept = artifacts.put(Bytes::from_static(b"kept")).await.unwrap();
    std::fs::write(folder.path().join(STAGING).join("left"), b"half").unwrap();
    let again = Artifacts::open(folder.path(), DEFAULT_MEMORY).unwrap();
    assert_eq!((again.list().await.unwrap(), files(folder.path()).len()), (vec![kept], 1));
}

#[tokio::test]
async fn what_another_server_has_begun_stays_for_a_day() {
    let (folder, _) = open();
    let begun = folder.path().join(STAGING).join("another's");
    std::fs::write(&begun, b"half").unwrap();
    let again = || Artifacts::open_shared(folder.path(), DEFAULT_MEMORY).map(drop).unwrap();
    again();
    assert!(begun.exists());
    age(&begun);
    again();
    assert!(!begun.exists());
}

/// Has a file be as old as one that nobody is about to refer to.
fn age(path: &Path) {
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(25 * 3_600);
    std::fs::File::options().append(true).open(path).unwrap().set_modified(long_ago).unwrap();
}

#[tokio::test]
async fn what_another_server_is_about_to_refer_to_stays_in_a_shared_folder() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Artifacts::open_shared(folder.path(), DEFAULT_MEMORY).unwrap();
    let (one, other) = (open(), open());
    let digest = other.put(Bytes::from_static(b"new")).await.unwrap();
    let path = folder.path().join(path_of(digest));
    assert_eq!(one.list().await.unwrap(), [], "it is not in the database yet");
    one.remove(digest).await.unwrap();
    assert!(path.exists());
    age(&path);
    assert_eq!(one.list().await.unwrap(), [digest]);
    // It is uploaded once more just then.
    other.put(Bytes::from_static(b"new")).await.unwrap();
    one.remove(digest).await.unwrap();
    assert!(path.exists());
    age(&path);
    one.remove(digest).await.unwrap();
    assert!(!path.exists());
    one.remove(digest).await.unwrap();
}

#[tokio::test]
async fn a_shared_folder_has_the_files_of_one_database() {
    let folder = tempfile::tempdir().unwrap();
    let artifacts = Artifacts::open_shared(folder.path(), DEFAULT_MEMORY).unwrap();
    for _ in 0..2 {
        artifacts.claim("mine").await.unwrap();
    }
    let error = artifacts.claim("another").await.unwrap_err();
    assert!(matches!(&error, ArtifactError::NotOurs(path) if path == folder.path()), "{error}");
    assert_eq!(artifacts.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_removed_file_is_missing() {
    let (_folder, artifacts) = open();
    let digest = artifacts.put(Bytes::from_static(b"gone")).await.unwrap();
    artifacts.open_file(digest).await.unwrap();
    artifacts.remove(digest).await.unwrap();
    artifacts.remove(digest).await.unwrap();
    assert!(matches!(artifacts.open_file(digest).await, Err(ArtifactError::Missing(d)) if d == digest));
    assert!(matches!(artifacts.read(digest, 0..1).await, Err(ArtifactError::Missing(_))));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_an_error_of_its_own_and_leaves_nothing() {
    let (folder, artifacts) = open();
    let mut staged = artifacts.stage().await.unwrap();
    // A device on which every write fails for want of space.
    staged.replace(std::fs::File::options().write(true).open("/dev/full").unwrap());
    assert!(matches!(staged.write(Bytes::from_static(b"x")).await, Err(ArtifactError::Full)));
    assert_eq!(files(folder.path()).len(), 0);
    assert!(staged.write(Bytes::from_static(b"x")).await.is_err());
}
