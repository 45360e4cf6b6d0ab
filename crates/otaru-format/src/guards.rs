//! Guards: what a device must not forget, or revoked keys and old releases would be trusted again.
//!
//! One record of [`RECORD_LEN`] bytes at the start of each of two flash sectors, little endian:
//!
//! ```text
//! magic [4] | keys u8 | product length u8 | zeros [2] | sequence u64 | image [32] | keys [16][8] | product [32] | CRC-32 u32, as otadata's
//! ```
//!
//! Two copies, because a sector can be torn, worn or overwritten. A reader takes of both what is strictest: [`Guards::merge`].

use heapless::{String, Vec};

use crate::digest::Digest;
use crate::otadata::CRC;
use crate::release::{KeyId, MAX_TEXT};

/// Bytes of a record.
pub const RECORD_LEN: usize = 212;
/// Revoked keys there is room for.
pub const MAX_KEYS: usize = 16;

const MAGIC: [u8; 4] = *b"OtG1";
const KEYS_AT: usize = 48;
const PRODUCT_AT: usize = KEYS_AT + MAX_KEYS * 8;
const CRC_AT: usize = PRODUCT_AT + MAX_TEXT;
const _: () = assert!(CRC_AT + 4 == RECORD_LEN, "the layout above");

/// The highest release that was confirmed, and the keys that confirmed releases revoked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guards {
    /// The highest sequence of a confirmed release; 0 when there was none.
    pub sequence: u64,
    /// The image of that release; another one with the same sequence is not taken.
    pub image: Digest,
    /// The product of the release that was confirmed last; empty when there was none.
    pub product: String<MAX_TEXT>,
    /// Revoked keys.
    pub revoked: Vec<KeyId, MAX_KEYS>,
}

/// A release revokes more keys than there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

impl Guards {
    /// Reads the start of a sector; `None` when blank, torn or impossible.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; RECORD_LEN] = bytes.first_chunk()?;
        let crc: [u8; 4] = *bytes[CRC_AT..].first_chunk()?;
        if bytes[..4] != MAGIC || u32::from_le_bytes(crc) != CRC.checksum(&bytes[..CRC_AT]) {
            return None;
        }
        let keys = bytes[KEYS_AT..PRODUCT_AT].get(..usize::from(bytes[4]).checked_mul(8)?)?;
        let product = bytes[PRODUCT_AT..CRC_AT].get(..bytes[5].into())?;
        Some(Self {
            sequence: u64::from_le_bytes(*bytes[8..].first_chunk()?),
            image: Digest(*bytes[16..].first_chunk()?),
            product: String::try_from(core::str::from_utf8(product).ok()?).ok()?,
            revoked: keys.as_chunks().0.iter().map(|key| KeyId(*key)).collect(),
        })
    }

    /// The record's bytes.
    pub fn emit(&self) -> [u8; RECORD_LEN] {
        let mut bytes = [0; RECORD_LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = self.revoked.len() as u8;
        bytes[5] = self.product.len() as u8;
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..KEYS_AT].copy_from_slice(&self.image.0);
        for (place, key) in bytes[KEYS_AT..PRODUCT_AT].chunks_exact_mut(8).zip(&self.revoked) {
            place.copy_from_slice(&key.0);
        }
        bytes[PRODUCT_AT..PRODUCT_AT + self.product.len()].copy_from_slice(self.product.as_bytes());
        let crc = CRC.checksum(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Takes what is stricter in another copy: the higher sequence with its image and product, and every revoked key.
    pub fn merge(&mut self, other: &Self) {
        if other.sequence > self.sequence {
            self.sequence = other.sequence;
            self.image = other.image;
            self.product = other.product.clone();
        }
        // Two copies of one device never hold more than one of them has room for; what is damaged fails its CRC.
        let _ = self.revoke(other.revoked.iter().copied());
    }

    /// Adds revoked keys.
    ///
    /// # Errors
    /// [`NoRoom`] when they do not all fit; as many as fit are added.
    pub fn revoke(&mut self, keys: impl Iterator<Item = KeyId>) -> Result<(), NoRoom> {
        for key in keys {
            if !self.revoked.contains(&key) {
                self.revoked.push(key).map_err(|_| NoRoom)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Guards {
        Guards {
            sequence: 1_790_000_000_000,
            image: Digest::of(b"image"),
            product: String::try_from("a product of exactly 32 bytes ..").unwrap(),
            revoked: (0..16).map(|number| KeyId([number; 8])).collect(),
        }
    }

    #[test]
    fn guards_lead_back() {
        for guards in [full(), Guards::default()] {
            assert_eq!(Guards::parse(&guards.emit()), Some(guards));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = full().emit();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Guards::parse(&bad), None, "bit {bit}");
        }
        assert_eq!(Guards::parse(&[0xFF; RECORD_LEN]), None);
        assert_eq!(Guards::parse(&[0; RECORD_LEN]), None);
        assert_eq!(Guards::parse(&bytes[1..]), None);
    }

    #[test]
    fn impossible_lengths_are_no_guards() {
        for (at, len) in [(4, 17), (4, 255), (5, 33), (5, 255)] {
            let mut bytes = full().emit();
            bytes[at] = len;
            let crc = CRC.checksum(&bytes[..CRC_AT]);
            bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
            assert_eq!(Guards::parse(&bytes), None, "{len} at {at}");
        }
    }

    #[test]
    fn of_two_copies_the_stricter_parts_count() {
        let key = |number| KeyId([number; 8]);
        let old =
            Guards { sequence: 5, revoked: [key(1), key(2)].into_iter().collect(), ..Guards::default() };
        let new = Guards {
            sequence: 6,
            image: Digest::of(b"6"),
            revoked: [key(3)].into_iter().collect(),
            ..full()
        };
        for (mut one, other) in [(old.clone(), &new), (new.clone(), &old)] {
            one.merge(other);
            assert_eq!((one.sequence, one.image, &one.product), (6, new.image, &new.product));
            assert!([1, 2, 3].into_iter().all(|number| one.revoked.contains(&key(number))));
        }
    }

    #[test]
    fn a_seventeenth_key_is_refused_and_a_known_one_is_not() {
        let mut guards = full();
        assert_eq!(guards.revoke([KeyId([3; 8])].into_iter()), Ok(()));
        assert_eq!(guards.revoke([KeyId([99; 8])].into_iter()), Err(NoRoom));
        assert_eq!(guards.revoked.len(), MAX_KEYS);
    }
}
