//! Demands of an image's header on the boards it runs on. Devices compare it with their own chip; they do not report theirs.

use otaru_format::digest::Digest;
use otaru_format::image::{HEADER_LEN, Header};
use serde::{Deserialize, Serialize};
use tokio_stream::StreamExt as _;

use crate::artifacts::Artifacts;

/// The boards that an image runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Needs {
    /// Bytes of flash that the chip must have at least, where the header names a size that there is.
    pub flash_size: Option<u32>,
    /// Lowest chip revision, ×100.
    pub min_revision: u16,
    /// Highest chip revision, ×100, if there is one.
    pub max_revision: Option<u16>,
}

impl From<&Header> for Needs {
    fn from(header: &Header) -> Self {
        Self {
            flash_size: header.flash_size(),
            min_revision: header.min_revision,
            max_revision: header.highest_revision(),
        }
    }
}

impl Needs {
    /// Reads them from an image in the store. `None` when it is not there, or cannot be read: they are shown and decide nothing.
    pub async fn read(artifacts: &Artifacts, image: Digest) -> Option<Self> {
        let mut pieces = std::pin::pin!(artifacts.read(image, 0..HEADER_LEN as u64).await.ok()?);
        let mut head = Vec::with_capacity(HEADER_LEN);
        while let Some(piece) = pieces.next().await {
            head.extend_from_slice(&piece.ok()?);
        }
        Some(Self::from(&Header::parse(&head).ok()?))
    }

    /// The chip revisions, such as `v0.3 to v1.99`.
    pub fn revisions(&self) -> String {
        let name = |revision: u16| format!("v{}.{}", revision / 100, revision % 100);
        match self.max_revision {
            Some(highest) => format!("{} to {}", name(self.min_revision), name(highest)),
            None => format!("{} or later", name(self.min_revision)),
        }
    }
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
        assert_eq!(Needs::read(&store, kept).await, Some(is));
        let other = store.put(b"no image".as_slice().into()).await.unwrap();
        assert_eq!(Needs::read(&store, other).await, None, "what cannot be read is not shown");
        assert_eq!(Needs::read(&store, Digest::ZERO).await, None);
    }

    #[test]
    fn revisions_are_named_as_espressif_does() {
        let needs = |min_revision, max_revision| Needs { flash_size: None, min_revision, max_revision };
        assert_eq!(needs(3, Some(199)).revisions(), "v0.3 to v1.99");
        assert_eq!(needs(0, None).revisions(), "v0.0 or later");
    }
}
