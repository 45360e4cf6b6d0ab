//! What a patch is made of, and what its bytes are for.

use std::vec::Vec;

/// A patch, and what its bytes are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The patch.
    pub patch: Vec<u8>,
    /// What it is made of.
    pub contents: Contents,
}

/// What a patch is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Contents {
    /// How often bytes are copied from the old image.
    pub copies: u32,
    /// How many bytes that are.
    pub copied: u32,
    /// How many addresses were predicted in what is copied.
    pub predicted: u32,
    /// How many bytes of these had to be corrected.
    pub corrected_addresses: u32,
    /// How many other bytes of what is copied had to be corrected.
    pub corrected_others: u32,
    /// How many bytes are not copied, but brought along.
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
