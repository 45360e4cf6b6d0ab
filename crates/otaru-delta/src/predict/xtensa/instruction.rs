//! The encodings of Xtensa instructions: those of the Xtensa ISA summary.

/// Whether these bytes are an ENTRY of the stack pointer.
pub(super) const fn is_entry(word: u32) -> bool {
    word & 0xFFF == 0x136
}

/// The address that L32R at this address loads from: a quarter of the distance from the next word, of which it has the
/// lower 16 bits.
pub(in crate::predict) const fn literal_address(instruction: u32, at: u32) -> u32 {
    (at.wrapping_add(3) & !3).wrapping_add(0xFFFC_0000 | (instruction >> 8 & 0xFFFF) << 2)
}

/// Bytes of an instruction, by its first.
pub(super) const fn length(byte: u8) -> u32 {
    match byte & 0xF {
        0..8 | 14 => 3,
        8..14 => 2,
        _ => 4,
    }
}
