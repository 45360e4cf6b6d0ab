//! Changing what boots, so that a loss of power at any byte leaves the old choice or the new one.
//!
//! A choice is one record, written with a higher sequence into the sector that does *not* hold the running
//! slot's ruling record. While it is torn its CRC does not fit, and the other sector rules.
//!
//! A trial is counted in the record's label, which ESP-IDF leaves erased: flash bits can be cleared without an
//! erase. Word 0 loses one bit a start, or word 8 where the start before ended for an outside reason; bytes 4 and 5 tell why, when
//! the agent itself rolls back.

use embedded_storage_async::nor_flash::{MultiwriteNorFlash, NorFlash, ReadNorFlash};
use otaru_format::otadata::{RECORD_LEN, Record, SECTOR_LEN, State, next_seq, select};

use super::error::SlotError;
use super::layout::{SLOTS, Slot, Slots};
use crate::board::ResetReason;
use crate::text;

/// Offset of the label in a record.
const LABEL: u32 = 4;
/// The label's byte for the cause.
const CAUSE: usize = 4;
/// The label's byte for the reset reason of the last trial boot.
const LAST_RESET: usize = 5;
/// Offset in the label of the words that count starts.
const STARTS: usize = 0;
const OUTSIDE_STARTS: usize = 8;

/// Why the agent rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum TrialCause {
    /// The health check failed.
    Unhealthy,
    /// The broker was not reached in time.
    Unreachable,
    /// It was started too often without being confirmed.
    TooManyBoots {
        /// End of the last of these boots.
        last: ResetReason,
    },
    /// The image's starts were ended too often by a loss of power and the like.
    PowerLoss {
        /// End of the last of these boots.
        last: ResetReason,
    },
}

impl TrialCause {
    fn note_in(self, label: &mut [u8; 20]) {
        label[CAUSE] = match self {
            Self::Unhealthy => 1,
            Self::Unreachable => 2,
            Self::TooManyBoots { last } => {
                label[LAST_RESET] = last.number();
                3
            }
            Self::PowerLoss { last } => {
                label[LAST_RESET] = last.number();
                4
            }
        };
    }

    fn of_label(label: &[u8; 20]) -> Option<Self> {
        match label[CAUSE] {
            1 => Some(Self::Unhealthy),
            2 => Some(Self::Unreachable),
            3 => Some(Self::TooManyBoots { last: ResetReason::from_number(label[LAST_RESET]) }),
            4 => Some(Self::PowerLoss { last: ResetReason::from_number(label[LAST_RESET]) }),
            _ => None,
        }
    }
}

/// A trial in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Trial {
    /// Starts of the image before this one, but for those counted apart.
    pub boots: u8,
    /// Starts before this one that followed a loss of power and the like ([`ResetReason::is_outside`]).
    pub outside: u8,
    /// Whether the bootloader rolls back by itself.
    pub helped: bool,
}

/// A trial that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FailedTrial {
    /// Slot of the image.
    pub slot: Slot,
    /// Starts of the image, whatever they followed.
    pub boots: u8,
    /// Sequence number of its record, which no other trial has.
    pub seq: u32,
    /// Why the agent ended it; `None` when the bootloader did.
    pub cause: Option<TrialCause>,
}

/// A word of the label that loses one bit a start.
fn counter(record: &Record, at: usize) -> u32 {
    record.label.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u32::from_le_bytes(*word))
}

fn starts(record: &Record, at: usize) -> u8 {
    u8::try_from(counter(record, at).count_zeros()).unwrap_or(u8::MAX)
}

/// The record the bootloader goes by, and its sector.
fn ruling(records: &[Option<Record>; 2]) -> Option<(usize, Record)> {
    select(records).and_then(|sector| Some((sector, records[sector]?)))
}

fn is_trial(record: &Record) -> bool {
    matches!(record.state, State::New | State::PendingVerify)
}

impl Slots {
    async fn records<F: ReadNorFlash>(&self, flash: &mut F) -> [Option<Record>; 2] {
        let mut records = [None; 2];
        for (sector, record) in records.iter_mut().enumerate() {
            let mut bytes = [0; RECORD_LEN];
            // A sector that cannot be read is a sector without a record.
            if flash.read(self.sector(sector), &mut bytes).await.is_ok() {
                *record = Record::parse(&bytes);
            }
        }
        records
    }

    fn sector(&self, sector: usize) -> u32 {
        self.otadata + if sector == 0 { 0 } else { SECTOR_LEN }
    }

    /// The sector of the best bootable record that names the running slot.
    fn running_sector(&self, records: &[Option<Record>; 2]) -> Option<usize> {
        let own = |record: &Option<Record>| record.filter(|r| Slot::of_record(r) == self.running);
        select(&[own(&records[0]), own(&records[1])])
    }

    /// Makes the bootloader start `slot` next, on trial.
    ///
    /// # Errors
    /// Returns an error if the flash fails or the sequence numbers are used up; the old choice then still stands.
    pub async fn activate<F: NorFlash>(&self, flash: &mut F, slot: Slot) -> Result<(), SlotError<F::Error>> {
        self.choose(flash, slot, State::New).await
    }

    /// Confirms the running slot. The record goes to the other sector, so the trial's record stands until
    /// the confirmation is whole; then the trial's record is replaced too, so that either sector may go bad.
    ///
    /// # Errors
    /// Returns an error if the flash fails or the sequence numbers are used up; the trial then still stands.
    pub async fn confirm<F: NorFlash>(&self, flash: &mut F) -> Result<(), SlotError<F::Error>> {
        let records = self.records(flash).await;
        let (sector, trial) = match ruling(&records) {
            Some(ruling) if is_trial(&ruling.1) => ruling,
            Some((_, record)) if Slot::of_record(&record) == self.running => return Ok(()),
            // What rules cannot be read just now.
            _ if self.running != Slot::Factory => {
                return self.choose(flash, self.running, State::Valid).await;
            }
            _ => return Ok(()),
        };
        self.choose(flash, self.running, State::Valid).await?;
        let second = Record::new(trial.seq, State::Valid);
        if self.write(flash, sector, &second).await.is_err() {
            text::warn(format_args!("otadata: sector {sector} cannot be written; the other one rules"));
        }
        Ok(())
    }

    async fn choose<F: NorFlash>(
        &self,
        flash: &mut F,
        slot: Slot,
        state: State,
    ) -> Result<(), SlotError<F::Error>> {
        let records = self.records(flash).await;
        let highest = records.iter().flatten().map(|record| record.seq).max().unwrap_or(0);
        let seq = next_seq(highest, slot.number(), SLOTS).ok_or(SlotError::NoSequence)?;
        let sector = match self.running_sector(&records).or_else(|| select(&records)) {
            Some(kept) => 1 - kept,
            None => 0,
        };
        let written = self.write(flash, sector, &Record::new(seq, state)).await;
        if written.is_err() {
            // It may stand all the same, and would then start what nobody expects any more.
            let at = self.sector(sector);
            let _ = flash.erase(at, at + SECTOR_LEN).await;
        }
        written
    }

    async fn write<F: NorFlash>(
        &self,
        flash: &mut F,
        sector: usize,
        record: &Record,
    ) -> Result<(), SlotError<F::Error>> {
        let at = self.sector(sector);
        flash.erase(at, at + SECTOR_LEN).await?;
        flash.write(at, &record.emit()).await?;
        let mut back = [0; RECORD_LEN];
        flash.read(at, &mut back).await?;
        if back == record.emit() { Ok(()) } else { Err(SlotError::ReadBack) }
    }

    /// Rolls the running slot back. Its record is marked as aborted where it stands, so the old image's record
    /// is not touched; only where the bootloader would then not choose the other slot is a new choice written.
    ///
    /// # Errors
    /// Returns an error if the flash fails or the sequence numbers are used up; the trial then still stands, and the next boot
    /// tries again.
    pub async fn retire<F: NorFlash>(
        &self,
        flash: &mut F,
        cause: TrialCause,
    ) -> Result<(), SlotError<F::Error>> {
        let mut records = self.records(flash).await;
        let Some(sector) = self.running_sector(&records) else {
            return self.choose(flash, self.target(), State::Valid).await;
        };
        let Some(mut record) = records[sector] else { return Ok(()) };
        record.state = State::Aborted;
        cause.note_in(&mut record.label);
        records[sector] = Some(record);
        if self.boots_by(&records) == self.running {
            return self.choose(flash, self.target(), State::Valid).await;
        }
        self.write(flash, sector, &record).await
    }

    /// The slot ESP-IDF's bootloader takes by these records.
    fn boots_by(&self, records: &[Option<Record>; 2]) -> Slot {
        match ruling(records) {
            Some((_, record)) => Slot::of_record(&record),
            None if self.factory.is_some() => Slot::Factory,
            None => Slot::Ota0,
        }
    }

    /// Looks whether this boot is a trial.
    ///
    /// # Errors
    /// Returns no error at present: a sector that cannot be read counts as one without a record.
    pub async fn trial<F: ReadNorFlash>(&self, flash: &mut F) -> Result<Option<Trial>, SlotError<F::Error>> {
        let records = self.records(flash).await;
        let own = |(_, record): &(usize, Record)| is_trial(record) && Slot::of_record(record) == self.running;
        Ok(ruling(&records).filter(own).map(|(_, record)| Trial {
            boots: starts(&record, STARTS),
            outside: starts(&record, OUTSIDE_STARTS),
            // A bootloader that helps does not leave a record as new.
            helped: record.state == State::PendingVerify,
        }))
    }

    /// Notes in the ruling record that its image is started once more, after a reset for this reason.
    ///
    /// # Errors
    /// Returns [`SlotError::Flash`] if the record cannot be written.
    pub async fn count_boot<F: MultiwriteNorFlash>(
        &self,
        flash: &mut F,
        reason: ResetReason,
    ) -> Result<(), SlotError<F::Error>> {
        let records = self.records(flash).await;
        if let Some((sector, record)) = ruling(&records) {
            let at = if reason.is_outside() { OUTSIDE_STARTS } else { STARTS };
            let word = counter(&record, at);
            let counted = word & word.wrapping_sub(1);
            flash.write(self.sector(sector) + LABEL + at as u32, &counted.to_le_bytes()).await?;
        }
        Ok(())
    }

    /// Whether another image than the one that was flashed first has ever been activated, as far as otadata tells.
    ///
    /// # Errors
    /// Returns no error at present: a sector that cannot be read counts as one without a record.
    pub async fn was_updated<F: ReadNorFlash>(&self, flash: &mut F) -> Result<bool, SlotError<F::Error>> {
        Ok(self.records(flash).await.iter().flatten().any(|record| record.seq > 1))
    }

    /// The trial that ended with this program running instead, if the last one did.
    ///
    /// # Errors
    /// Returns no error at present: a sector that cannot be read counts as one without a record.
    pub async fn failed_trial<F: ReadNorFlash>(
        &self,
        flash: &mut F,
    ) -> Result<Option<FailedTrial>, SlotError<F::Error>> {
        let records = self.records(flash).await;
        // Newest first: a failure that a later update has overtaken is history.
        let newest = records.iter().flatten().max_by_key(|record| record.seq);
        let Some(record) = newest.filter(|record| Slot::of_record(record) != self.running) else {
            return Ok(None);
        };
        Ok(Some(FailedTrial {
            slot: Slot::of_record(record),
            boots: starts(record, STARTS).saturating_add(starts(record, OUTSIDE_STARTS)),
            seq: record.seq,
            cause: TrialCause::of_label(&record.label),
        }))
    }

    /// Erases the record of a trial that failed, so that whatever comes into its slot next is not taken for the image that did.
    ///
    /// # Errors
    /// Returns [`SlotError::Flash`] if the record cannot be erased.
    pub async fn forget_trial<F: NorFlash>(&self, flash: &mut F) -> Result<(), SlotError<F::Error>> {
        let records = self.records(flash).await;
        let newest = (0..2).max_by_key(|sector| records[*sector].map(|record| record.seq));
        let Some((sector, record)) = newest.and_then(|sector| Some((sector, records[sector]?))) else {
            return Ok(());
        };
        // One that can boot was not tried, or is dealt with by `repair`.
        if Slot::of_record(&record) != self.running && !record.bootable() {
            let at = self.sector(sector);
            flash.erase(at, at + SECTOR_LEN).await?;
        }
        Ok(())
    }

    /// Repairs otadata: where the bootloader fell back because the chosen image is bad, makes the running slot the choice, so
    /// that it is not tried again at every boot.
    ///
    /// # Errors
    /// Returns an error if the flash fails or the sequence numbers are used up; the bootloader then falls back again.
    pub async fn repair<F: NorFlash>(&self, flash: &mut F) -> Result<(), SlotError<F::Error>> {
        let records = self.records(flash).await;
        if self.running == Slot::Factory || self.boots_by(&records) == self.running {
            return Ok(());
        }
        self.choose(flash, self.running, State::Valid).await
    }
}
