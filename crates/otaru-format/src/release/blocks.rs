//! Blocks: the pieces of an image that are verified, and fetched again, each on its own.

use super::error::{ReleaseError, malformed};
use crate::digest::Digest;

/// Most blocks an image is cut into.
pub const MAX_BLOCKS: usize = 64;
/// Bytes of the smallest block: what flash erases at once.
pub const MIN_BLOCK: u32 = 65536;

/// The block size for an image of this size: the smallest power of two, [`MIN_BLOCK`] or more, with which there are
/// at most [`MAX_BLOCKS`] blocks.
pub const fn block_size(image_size: u32) -> u32 {
    let mut size = MIN_BLOCK;
    while image_size.div_ceil(size) > MAX_BLOCKS as u32 {
        size *= 2;
    }
    size
}

/// One block of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Offset of the first byte in the image.
    pub offset: u32,
    /// Length in bytes.
    pub len: u32,
    /// SHA-256 of these bytes.
    pub hash: Digest,
}

/// Division of an image into blocks.
#[derive(Debug, Clone, Copy)]
pub struct Blocks<'a> {
    pub(super) size: u32,
    block_size: u32,
    hashes: &'a [u8],
}

impl<'a> Blocks<'a> {
    /// Takes the hashes of an image of `size` bytes, if it is cut as it should be.
    pub(super) fn new(size: u32, block: u32, hashes: &'a [u8]) -> Result<Self, ReleaseError> {
        if size == 0 {
            return Err(malformed("the image is empty"));
        }
        if block != block_size(size) {
            return Err(malformed("the block size is not the one for this image's size"));
        }
        if hashes.len() as u64 != u64::from(size.div_ceil(block)) * 32 {
            return Err(malformed("there is not one hash a block"));
        }
        Ok(Self { size, block_size: block, hashes })
    }

    /// Counts them.
    pub(super) fn count(&self) -> usize {
        self.hashes.len() / 32
    }

    /// The bytes of one.
    pub(super) fn len_of(&self, index: usize) -> Option<u32> {
        let offset = u32::try_from(index).ok()?.checked_mul(self.block_size)?;
        self.size.checked_sub(offset).filter(|left| *left > 0).map(|left| left.min(self.block_size))
    }

    pub(super) fn get(&self, index: usize) -> Option<Block> {
        let at = index.checked_mul(32)?;
        let hash = self.hashes.get(at..)?.first_chunk()?;
        let len = self.len_of(index)?;
        let offset = u32::try_from(index).ok()?.checked_mul(self.block_size)?;
        Some(Block { offset, len, hash: Digest(*hash) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_grow_with_the_image() {
        for (image, block) in [
            (1, 65536),
            (4 << 20, 65536),
            ((4 << 20) + 1, 131_072),
            (16 << 20, 262_144),
            (u32::MAX, 64 << 20),
        ] {
            assert_eq!(block_size(image), block, "{image}");
        }
    }
}
