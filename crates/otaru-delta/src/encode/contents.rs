//! Contents of a patch, and the share of its bytes that each part takes.

use std::vec::Vec;

/// A patch, and what its bytes are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The patch.
    pub patch: Vec<u8>,
    /// Contents.
    pub contents: Contents,
}

/// Contents of a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Contents {
    /// Number of copies from the old image.
    pub copies: u32,
    /// Number of bytes copied.
    pub copied: u32,
    /// Number of addresses predicted in what is copied.
    pub predicted: u32,
    /// Number of bytes of these that had to be corrected.
    pub corrected_addresses: u32,
    /// Number of other copied bytes that had to be corrected.
    pub corrected_others: u32,
    /// Number of bytes that are not copied, but brought along.
    pub new: u32,
}

/// For how many bytes of a patch each of its parts is to blame, by how much smaller the compressed stream would be
/// without it. Parts help each other, so that these do not add up to the patch's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Costs {
    /// Saying what is copied from where.
    pub control: u32,
    /// Correcting addresses that were predicted.
    pub addresses: u32,
    /// Correcting other copied bytes.
    pub others: u32,
    /// New bytes.
    pub new: u32,
}
