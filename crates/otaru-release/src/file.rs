//! A release file in memory, cut into its parts.

use otaru_format::release::{Envelope, Frame, HEADER_LEN, Manifest, Payload, ReleaseError, envelope_len};

/// A release file whose structure is good. Signature and contents have not been looked at.
#[derive(Debug, Clone, Copy)]
pub struct ReleaseFile<'a> {
    /// The signed part.
    pub envelope: Envelope<'a>,
    /// Bytes of the envelope.
    pub envelope_len: usize,
    /// The manifest.
    pub manifest: Manifest<'a>,
    /// All that follows the envelope.
    area: &'a [u8],
}

/// Whether a file begins as release files do.
pub fn is_release(bytes: &[u8]) -> bool {
    bytes.first_chunk().is_some_and(|header| envelope_len(header) != Err(ReleaseError::NotARelease))
}

impl<'a> ReleaseFile<'a> {
    /// Cuts a file, whose payload area may be cut off or longer; [`ReleaseFile::check_len`] tells.
    ///
    /// # Errors
    /// Returns an error if `bytes` does not begin with a valid header, envelope and manifest.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ReleaseError> {
        let (envelope, area) = split(bytes)?;
        let (envelope_len, envelope) = (envelope.len(), Envelope::parse(envelope)?);
        let manifest = Manifest::parse(envelope.payload())?;
        Ok(Self { envelope, envelope_len, manifest, area })
    }

    /// Whether the payload area is as long as the manifest says.
    ///
    /// # Errors
    /// Returns [`ReleaseError::Truncated`] if the area is shorter, [`ReleaseError::Malformed`] if it is longer.
    pub fn check_len(&self) -> Result<(), ReleaseError> {
        match self.area.len().cmp(&(self.manifest.area_len() as usize)) {
            std::cmp::Ordering::Less => Err(ReleaseError::Truncated),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => {
                Err(ReleaseError::Malformed { what: "something follows the payloads" })
            }
        }
    }

    /// All payloads, as they stand in the file.
    pub fn area(&self) -> &'a [u8] {
        self.area
    }

    /// A payload's bytes.
    pub fn payload(&self, payload: &Payload<'_>) -> Option<&'a [u8]> {
        self.area.get(payload.offset as usize..)?.get(..payload.len as usize)
    }

    /// A frame's bytes.
    pub fn frame(&self, frame: Frame) -> Option<&'a [u8]> {
        self.area.get(frame.offset as usize..)?.get(..frame.len as usize)
    }
}

/// Envelope and payload area.
pub(crate) fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), ReleaseError> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        return Err(if is_beginning(bytes) { ReleaseError::Truncated } else { ReleaseError::NotARelease });
    };
    rest.split_at_checked(envelope_len(header)?).ok_or(ReleaseError::Truncated)
}

fn is_beginning(bytes: &[u8]) -> bool {
    let magic = otaru_format::release::MAGIC;
    bytes.iter().zip(magic).all(|(byte, magic)| *byte == magic) && !bytes.is_empty()
}
