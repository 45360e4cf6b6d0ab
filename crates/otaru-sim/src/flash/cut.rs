//! Power that is cut in the middle of an operation.

/// Leaves the byte at `at` as a power cut does that finds it between `before` and `wanted`.
pub fn torn(at: u32, before: u8, wanted: u8) -> u8 {
    // Of the bits that were to change, an arbitrary half did.
    let mask = (at.wrapping_mul(0x9E37_79B9) >> 24) as u8;
    (before & mask) | (wanted & !mask)
}

/// Cuts the power during a changing operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PowerCut {
    /// Number of the operation, counted from 0 since the cut was armed.
    pub operation: u64,
    /// Number of its bytes that are done.
    pub byte: u32,
}
