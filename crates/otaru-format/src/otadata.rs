//! otadata: which slot boots.
//!
//! Two flash sectors, each with one 32-byte record at its start (`esp_ota_select_entry_t`, ESP-IDF
//! `esp_flash_partitions.h`): sequence `u32`, label `[u8; 20]`, state `u32`, CRC `u32` over the sequence alone,
//! little endian. The choice follows `bootloader_common.c` of ESP-IDF.

use crc::{CRC_32_ISO_HDLC, Crc};

/// Bytes of a flash sector.
pub const SECTOR_LEN: u32 = 4096;
/// Bytes of a record.
pub const RECORD_LEN: usize = 32;

/// `esp_rom_crc32_le(UINT32_MAX, …)` inverts its seed, so it is the usual CRC-32 begun at zero.
pub(crate) const CRC: Crc<u32> = Crc::<u32>::new(&crc::Algorithm { init: 0, ..CRC_32_ISO_HDLC });

/// State of a slot's image (`esp_ota_img_states_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum State {
    /// Never started.
    New,
    /// Started once by a bootloader with roll back support, and not confirmed yet.
    PendingVerify,
    /// Confirmed.
    Valid,
    /// Marked as bad by the application.
    Invalid,
    /// Was not confirmed before a reset; marked so by the bootloader.
    Aborted,
    /// Roll back is not used.
    Undefined,
    /// A value ESP-IDF does not know.
    Other(u32),
}

impl From<u32> for State {
    fn from(value: u32) -> Self {
        match value {
            0 => Self::New,
            1 => Self::PendingVerify,
            2 => Self::Valid,
            3 => Self::Invalid,
            4 => Self::Aborted,
            u32::MAX => Self::Undefined,
            other => Self::Other(other),
        }
    }
}

impl From<State> for u32 {
    fn from(state: State) -> Self {
        match state {
            State::New => 0,
            State::PendingVerify => 1,
            State::Valid => 2,
            State::Invalid => 3,
            State::Aborted => 4,
            State::Undefined => Self::MAX,
            State::Other(other) => other,
        }
    }
}

/// One record with a good CRC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Record {
    /// Chooses the slot: `(seq - 1) % slots`. The highest wins.
    pub seq: u32,
    /// Unused by ESP-IDF.
    pub label: [u8; 20],
    /// State of the image.
    pub state: State,
}

impl Record {
    /// A record with an erased label.
    pub const fn new(seq: u32, state: State) -> Self {
        Self { seq, label: [0xFF; 20], state }
    }

    /// Reads the start of a sector; `None` when blank, torn or impossible.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; RECORD_LEN] = bytes.first_chunk()?;
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let seq = word(0);
        if seq == 0 || seq == u32::MAX || word(28) != checksum(seq) {
            return None;
        }
        let mut label = [0; 20];
        label.copy_from_slice(&bytes[4..24]);
        Some(Self { seq, label, state: word(24).into() })
    }

    /// The record's bytes.
    pub fn emit(&self) -> [u8; RECORD_LEN] {
        let mut bytes = [0; RECORD_LEN];
        bytes[..4].copy_from_slice(&self.seq.to_le_bytes());
        bytes[4..24].copy_from_slice(&self.label);
        bytes[24..28].copy_from_slice(&u32::from(self.state).to_le_bytes());
        bytes[28..].copy_from_slice(&checksum(self.seq).to_le_bytes());
        bytes
    }

    /// Whether the bootloader may choose it.
    pub fn bootable(&self) -> bool {
        !matches!(self.state, State::Invalid | State::Aborted)
    }

    /// The slot it names, of `slots`.
    pub fn slot(&self, slots: u8) -> u8 {
        let slots = u32::from(slots.max(1));
        u8::try_from(self.seq.wrapping_sub(1) % slots).unwrap_or(0)
    }
}

fn checksum(seq: u32) -> u32 {
    CRC.checksum(&seq.to_le_bytes())
}

/// The sector whose record rules: the highest sequence among bootable records, the first of equals.
pub fn select(records: &[Option<Record>; 2]) -> Option<usize> {
    let seq = |sector: usize| records[sector].as_ref().filter(|r| r.bootable()).map(|r| r.seq);
    match (seq(0), seq(1)) {
        (None, None) => None,
        (Some(_), None) => Some(0),
        (None, Some(_)) => Some(1),
        (Some(first), Some(second)) => Some(usize::from(second > first)),
    }
}

/// The lowest sequence above `above` that names `slot` of `slots`; `None` at the end of the numbers, which
/// is some two thousand million updates away.
pub fn next_seq(above: u32, slot: u8, slots: u8) -> Option<u32> {
    let slots = u32::from(slots.max(1));
    let mut seq = above.checked_add(1)?;
    while (seq - 1) % slots != u32::from(slot) % slots {
        seq = seq.checked_add(1)?;
    }
    (seq != u32::MAX).then_some(seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_is_what_esp_idf_writes() {
        // otadata of a board after its first update, as otatool.py shows it.
        let bytes = Record::new(1, State::Undefined).emit();
        assert_eq!(bytes[28..], 0x4743_989A_u32.to_le_bytes());
        assert_eq!(Record::parse(&bytes), Some(Record::new(1, State::Undefined)));
    }

    #[test]
    fn blank_and_torn_records_do_not_count() {
        assert_eq!(Record::parse(&[0xFF; 32]), None);
        let mut bytes = Record::new(7, State::New).emit();
        bytes[28] ^= 1;
        assert_eq!(Record::parse(&bytes), None);
        assert_eq!(Record::parse(&bytes[..31]), None);
    }

    #[test]
    fn highest_bootable_sequence_rules() {
        let (a, b) = (Record::new(5, State::Valid), Record::new(6, State::New));
        assert_eq!(select(&[Some(a), Some(b)]), Some(1));
        assert_eq!(select(&[Some(a), Some(Record { state: State::Aborted, ..b })]), Some(0));
        assert_eq!(select(&[None, None]), None);
    }

    #[test]
    fn next_sequence_names_the_slot() {
        for above in 0..9 {
            for slot in 0..2 {
                let seq = next_seq(above, slot, 2).unwrap();
                assert!(seq > above && seq <= above + 2);
                assert_eq!(Record::new(seq, State::New).slot(2), slot);
            }
        }
        assert_eq!(next_seq(u32::MAX, 0, 2), None);
    }
}
