//! Checks a whole image while it arrives.

use sha2::{Digest as _, Sha256};

use super::head::{HEADER_LEN, Header, ImageError, MAGIC, SEGMENT_HEADER_LEN};
use crate::digest::Digest;

/// Start value of the checksum.
pub(super) const CHECKSUM_SEED: u8 = 0xEF;
const SHA_LEN: u32 = 32;

/// Summary of a good image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageSummary {
    /// Header.
    pub header: Header,
    /// Length in bytes, an appended SHA-256 included.
    pub len: u32,
    /// SHA-256 of those bytes: what `sha256sum firmware.bin` prints.
    pub digest: Digest,
}

/// Position of a check in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Header,
    SegmentHeader,
    Data,
    Padding,
    Appended,
    End,
}

/// Checks an image that arrives in pieces, as ESP-IDF's bootloader checks one in flash.
#[derive(Debug, Clone)]
pub struct ImageCheck {
    at: At,
    /// Bytes still wanted in this part.
    want: u32,
    /// The part's first bytes, where they matter.
    part: [u8; 32],
    filled: usize,
    segments_left: u8,
    header: Option<Header>,
    len: u32,
    limit: u32,
    checksum: u8,
    stored_checksum: u8,
    whole: Sha256,
    appended_ok: bool,
}

impl ImageCheck {
    /// Begins with an image that may have `limit` bytes.
    pub fn new(limit: u32) -> Self {
        Self {
            at: At::Header,
            want: HEADER_LEN as u32,
            part: [0; 32],
            filled: 0,
            segments_left: 0,
            header: None,
            len: 0,
            limit,
            checksum: CHECKSUM_SEED,
            stored_checksum: 0,
            whole: Sha256::new(),
            appended_ok: true,
        }
    }

    /// Whether the image is whole; what follows it is no part of it.
    pub fn is_complete(&self) -> bool {
        self.at == At::End
    }

    /// Bytes of the image so far.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether nothing of it has come yet.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the next bytes. Bytes after the image's end are passed over.
    ///
    /// # Errors
    /// As soon as the image can no longer be good.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), ImageError> {
        while !bytes.is_empty() && self.at != At::End {
            let count = bytes.len().min(self.want as usize);
            let (now, later) = bytes.split_at(count);
            bytes = later;
            self.take(now)?;
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        if self.len == 0 && bytes.first().is_some_and(|magic| *magic != MAGIC) {
            return Err(ImageError::NotAnImage { magic: bytes[0] });
        }
        match self.at {
            At::Data => self.checksum = bytes.iter().fold(self.checksum, |sum, byte| sum ^ byte),
            At::Padding => self.stored_checksum = bytes.last().copied().unwrap_or(self.stored_checksum),
            At::Appended => {
                if self.filled == 0 {
                    // Everything before this point is what the appended digest covers.
                    self.appended_ok = true;
                }
                let expected = self.part;
                let from = self.filled;
                self.appended_ok &= expected[from..from + bytes.len()] == *bytes;
                self.filled += bytes.len();
            }
            At::Header | At::SegmentHeader => {
                self.part[self.filled..self.filled + bytes.len()].copy_from_slice(bytes);
                self.filled += bytes.len();
            }
            At::End => {}
        }
        self.whole.update(bytes);
        self.len += bytes.len() as u32;
        self.want -= bytes.len() as u32;
        if self.want == 0 { self.advance() } else { Ok(()) }
    }

    /// A part is whole: what comes next? Empty parts are passed at once.
    fn advance(&mut self) -> Result<(), ImageError> {
        match self.at {
            At::Header => {
                let header = Header::parse(&self.part[..HEADER_LEN])?;
                self.segments_left = header.segments;
                self.header = Some(header);
                self.enter(At::SegmentHeader, SEGMENT_HEADER_LEN as u32)
            }
            At::SegmentHeader => {
                let len = u32::from_le_bytes([self.part[4], self.part[5], self.part[6], self.part[7]]);
                if !len.is_multiple_of(4) {
                    return Err(ImageError::BadSegmentLength(len));
                }
                self.segments_left -= 1;
                self.enter(At::Data, len)?;
                if len == 0 { self.advance() } else { Ok(()) }
            }
            At::Data if self.segments_left > 0 => self.enter(At::SegmentHeader, SEGMENT_HEADER_LEN as u32),
            At::Data => self.enter(At::Padding, 16 - self.len % 16),
            At::Padding => {
                if self.stored_checksum != self.checksum {
                    return Err(ImageError::Checksum {
                        expected: self.checksum,
                        found: self.stored_checksum,
                    });
                }
                if self.header.is_some_and(|header| header.hash_appended) {
                    self.part = self.whole.clone().finalize().into();
                    self.enter(At::Appended, SHA_LEN)
                } else {
                    self.enter(At::End, 0)
                }
            }
            At::Appended if self.appended_ok => self.enter(At::End, 0),
            At::Appended => Err(ImageError::Digest),
            At::End => Ok(()),
        }
    }

    fn enter(&mut self, at: At, want: u32) -> Result<(), ImageError> {
        self.at = at;
        self.want = want;
        self.filled = 0;
        match self.len.checked_add(want) {
            Some(end) if end <= self.limit => Ok(()),
            _ => Err(ImageError::TooLarge { limit: self.limit }),
        }
    }

    /// Returns the image's summary, once it is whole.
    ///
    /// # Errors
    /// [`ImageError::Truncated`] when it is not.
    pub fn finish(self) -> Result<ImageSummary, ImageError> {
        match self.header.filter(|_| self.at == At::End) {
            Some(header) => {
                Ok(ImageSummary { header, len: self.len, digest: Digest::from_hasher(self.whole) })
            }
            None => Err(ImageError::Truncated { len: self.len }),
        }
    }
}
