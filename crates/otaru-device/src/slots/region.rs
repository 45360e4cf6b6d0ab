//! A part of the flash.

/// A part of the flash, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Where it begins.
    pub offset: u32,
    /// Length in bytes.
    pub len: u32,
}
