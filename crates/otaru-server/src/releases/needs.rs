//! Demands of an image's header on the boards it runs on. Devices compare it with their own chip; they do not report theirs.

use otaru_api::Needs;
use otaru_format::digest::Digest;
use otaru_format::image::{HEADER_LEN, Header};
use tokio_stream::StreamExt as _;

use crate::artifacts::Artifacts;

/// Reads them from an image in the store. `None` when it is not there, or cannot be read: they are shown and decide nothing.
pub async fn read(artifacts: &Artifacts, image: Digest) -> Option<Needs> {
    let mut pieces = std::pin::pin!(artifacts.read(image, 0..HEADER_LEN as u64).await.ok()?);
    let mut head = Vec::with_capacity(HEADER_LEN);
    while let Some(piece) = pieces.next().await {
        head.extend_from_slice(&piece.ok()?);
    }
    Some(Needs::from(&Header::parse(&head).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::releases::samples::image;

    #[tokio::test]
    async fn they_are_read_from_the_header_of_what_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Artifacts::open(dir.path(), 1 << 20).unwrap();
        let mut file = image("lamp", "1.0.0", 1);
        file[3] = 0x30;
        file[15..19].copy_from_slice(&[3, 0, 199, 0]);
        let kept = store.put(file.into()).await.unwrap();
        let is = Needs { flash_size: Some(8 << 20), min_revision: 3, max_revision: Some(199) };
        assert_eq!(read(&store, kept).await, Some(is));
        let other = store.put(b"no image".as_slice().into()).await.unwrap();
        assert_eq!(read(&store, other).await, None, "what cannot be read is not shown");
        assert_eq!(read(&store, Digest::ZERO).await, None);
    }
}
