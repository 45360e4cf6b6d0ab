//! The header of a release file, and the length of the envelope behind it.

use super::error::{ReleaseError, malformed};

/// First bytes of a release file: a byte that is no text, the name, a newline that a transfer as text would spoil, and
/// the layout's version.
pub const MAGIC: [u8; 8] = *b"\x93OTARU\n\x01";
/// Bytes before the envelope: [`MAGIC`] and the envelope's length.
pub const HEADER_LEN: usize = 12;
/// Most bytes of an envelope; a device holds all of it in RAM.
pub const MAX_ENVELOPE: usize = 4096;

/// Bytes of the envelope that follows this header.
///
/// # Errors
/// Returns an error if this is not the header of a release file, or if the envelope is empty or longer than [`MAX_ENVELOPE`].
pub fn envelope_len(header: &[u8; HEADER_LEN]) -> Result<usize, ReleaseError> {
    const LIMIT: u32 = MAX_ENVELOPE as u32;
    let [magic @ .., a, b, c, d] = header;
    let [name @ .., version] = magic;
    if *name != MAGIC[..7] {
        return Err(ReleaseError::NotARelease);
    }
    if *version != MAGIC[7] {
        return Err(ReleaseError::NewerLayout { version: (*version).into() });
    }
    let len = u32::from_le_bytes([*a, *b, *c, *d]);
    match len {
        0 => Err(malformed("the envelope is empty")),
        1..=LIMIT => Ok(len as usize),
        _ => Err(ReleaseError::Oversized { len, limit: LIMIT }),
    }
}

/// The header before an envelope of so many bytes.
///
/// # Errors
/// Returns an error if `envelope_len` is 0 or above [`MAX_ENVELOPE`].
pub fn header(envelope_len: usize) -> Result<[u8; HEADER_LEN], ReleaseError> {
    let len = u32::try_from(envelope_len).unwrap_or(u32::MAX);
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(&MAGIC);
    header[8..].copy_from_slice(&len.to_le_bytes());
    self::envelope_len(&header)?;
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_leads_back() {
        assert_eq!(envelope_len(&header(300).unwrap()), Ok(300));
        assert_eq!(header(4097), Err(ReleaseError::Oversized { len: 4097, limit: 4096 }));
        assert!(header(0).is_err());
        assert_eq!(envelope_len(b"\xe9OTARU\n\x01\x01\0\0\0"), Err(ReleaseError::NotARelease));
        assert_eq!(envelope_len(b"\x93OTARU\n\x02\x01\0\0\0"), Err(ReleaseError::NewerLayout { version: 2 }));
    }
}
