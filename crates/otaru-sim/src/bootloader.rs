//! ESP-IDF's second-stage bootloader: which app starts.
//!
//! After `bootloader_utility_get_selected_boot_partition` and `bootloader_utility_load_boot_image` of ESP-IDF's
//! `bootloader_utility.c`, with and without `CONFIG_BOOTLOADER_APP_ROLLBACK_ENABLE`.

use embedded_storage_async::nor_flash::{NorFlash as _, ReadNorFlash as _};
use otaru_device::slots::{Region, verify};
use otaru_format::image::{HEAD_LEN, Head};
use otaru_format::otadata::{RECORD_LEN, Record, SECTOR_LEN, State};
use otaru_format::partition::{Partition, PartitionTable, TABLE_LEN, TABLE_OFFSET};

use crate::flash::{Flash, FlashError};

/// Build options of the bootloader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootloaderKind {
    /// Without roll back support, as flashing tools ship it.
    Plain,
    /// With roll back support.
    Rollback,
}

/// Image that the bootloader started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Flash offset of its partition.
    pub address: u32,
    /// Project in the image's descriptor.
    pub project: String,
    /// Version in the image's descriptor.
    pub version: String,
}

/// Why nothing was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootError {
    /// The flash failed.
    Flash(FlashError),
    /// No partition table, or a bad one.
    NoTable,
    /// No partition holds a good image.
    NothingBootable,
}

impl From<FlashError> for BootError {
    fn from(error: FlashError) -> Self {
        Self::Flash(error)
    }
}

/// Index of the factory partition in the order of trial.
const FACTORY: i32 = -1;

/// Chooses and verifies an app, changing otadata as the real one does.
///
/// # Errors
/// Returns an error if the flash fails, the partition table is damaged, or no partition holds a good image.
pub async fn boot(flash: &mut Flash, kind: BootloaderKind) -> Result<Started, BootError> {
    let mut bytes = [0; TABLE_LEN];
    flash.read(TABLE_OFFSET, &mut bytes).await?;
    let table = PartitionTable::parse(&bytes).map_err(|_| BootError::NoTable)?;
    let choice = choose(flash, &table, kind).await?;
    let slots = i32::from(table.slots());
    // Backwards from the choice to the factory app, then forwards.
    for index in (FACTORY..=choice.index).rev().chain(choice.index + 1..slots) {
        let Some(partition) = partition(&table, index) else { continue };
        let region = Region { offset: partition.offset, len: partition.size };
        let mut buf = [0; 4096];
        if verify(flash, &region, &mut buf).await.is_err() {
            continue;
        }
        if choice.initial && index > FACTORY {
            let seq = u32::try_from(index + 1).unwrap_or(1);
            write(flash, &table, 0, &Record::new(seq, State::Valid).emit()).await?;
        }
        return describe(flash, partition.offset).await;
    }
    Err(BootError::NothingBootable)
}

struct Choice {
    index: i32,
    /// otadata holds nothing yet and there is no factory app: what starts is written down.
    initial: bool,
}

/// A record as it stands on flash (`esp_ota_select_entry_t`), good or not.
struct Raw([u8; RECORD_LEN]);

impl Raw {
    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    fn seq(&self) -> u32 {
        self.word(0)
    }

    fn state(&self) -> State {
        self.word(24).into()
    }

    fn set_state(&mut self, state: State) {
        self.0[24..28].copy_from_slice(&u32::from(state).to_le_bytes());
    }

    fn is_blank(&self) -> bool {
        self.seq() == u32::MAX
    }

    fn crc_fits(&self) -> bool {
        self.0[28..] == Record::new(self.seq(), State::New).emit()[28..]
    }

    /// `bootloader_common_ota_select_invalid`: a torn record is not invalid in this sense.
    fn is_invalid(&self) -> bool {
        self.is_blank() || matches!(self.state(), State::Invalid | State::Aborted)
    }

    /// `bootloader_common_ota_select_valid`.
    fn is_valid(&self) -> bool {
        !self.is_invalid() && self.crc_fits()
    }
}

/// `bootloader_common_get_active_otadata`.
fn active(records: &[Raw; 2]) -> Option<usize> {
    match (records[0].is_valid(), records[1].is_valid()) {
        (true, true) => Some(usize::from(records[1].seq() > records[0].seq())),
        (true, false) => Some(0),
        (false, true) => Some(1),
        (false, false) => None,
    }
}

/// `bootloader_utility_get_selected_boot_partition`.
async fn choose(
    flash: &mut Flash,
    table: &PartitionTable<'_>,
    kind: BootloaderKind,
) -> Result<Choice, BootError> {
    let Some(otadata) = table.otadata() else { return Ok(Choice { index: FACTORY, initial: false }) };
    let mut records = [Raw([0; RECORD_LEN]), Raw([0; RECORD_LEN])];
    for (sector, record) in (0..).zip(&mut records) {
        flash.read(otadata.offset + sector * SECTOR_LEN, &mut record.0).await?;
    }
    if kind == BootloaderKind::Rollback {
        for (sector, record) in (0..).zip(&mut records) {
            // Whatever the CRC says.
            if record.state() == State::PendingVerify {
                record.set_state(State::Aborted);
                write(flash, table, sector, &record.0).await?;
            }
        }
    }
    if records.iter().all(Raw::is_invalid) || table.slots() == 0 {
        let factory = table.factory().is_some();
        let empty = records.iter().all(|record| record.is_blank() || !record.crc_fits());
        return Ok(Choice { index: if factory { FACTORY } else { 0 }, initial: !factory && empty });
    }
    // Without a valid record every partition is tried, and nothing written.
    let Some(sector) = active(&records) else { return Ok(Choice { index: FACTORY, initial: false }) };
    let record = &mut records[sector];
    let slot = record.seq().wrapping_sub(1) % u32::from(table.slots());
    if kind == BootloaderKind::Rollback && record.state() == State::New {
        record.set_state(State::PendingVerify);
        write(flash, table, u32::from(sector == 1), &record.0).await?;
    }
    Ok(Choice { index: i32::try_from(slot).unwrap_or(FACTORY), initial: false })
}

async fn write(
    flash: &mut Flash,
    table: &PartitionTable<'_>,
    sector: u32,
    record: &[u8; RECORD_LEN],
) -> Result<(), BootError> {
    let Some(otadata) = table.otadata() else { return Ok(()) };
    let at = otadata.offset + sector * SECTOR_LEN;
    flash.erase(at, at + SECTOR_LEN).await?;
    flash.write(at, record).await?;
    Ok(())
}

fn partition(table: &PartitionTable<'_>, index: i32) -> Option<Partition> {
    match u8::try_from(index) {
        Ok(slot) => table.slot(slot),
        Err(_) => table.factory(),
    }
}

async fn describe(flash: &mut Flash, address: u32) -> Result<Started, BootError> {
    let mut head = [0; HEAD_LEN];
    flash.read(address, &mut head).await?;
    let descriptor = Head::parse(&head).ok().and_then(|head| head.descriptor);
    Ok(Started {
        address,
        project: descriptor.map(|d| d.project().to_owned()).unwrap_or_default(),
        version: descriptor.map(|d| d.version().to_owned()).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SimClock;
    use crate::firmware::{Behaviour, provision};
    use crate::flash::{FLASH_LEN, Timing};
    use crate::lab::{firmware, run};

    const OTADATA: u32 = 0xE000;
    const SLOTS: [u32; 2] = [0x2_0000, 0x21_0000];
    const BLANK: [u8; RECORD_LEN] = [0xFF; RECORD_LEN];

    fn record(seq: u32, state: State) -> [u8; RECORD_LEN] {
        Record::new(seq, state).emit()
    }

    fn torn(seq: u32, state: State) -> [u8; RECORD_LEN] {
        let mut bytes = record(seq, state);
        bytes[28..].fill(0xFF);
        bytes
    }

    /// Boots a chip with good apps in both slots and these records; gives back the slot and the records after.
    fn booted(kind: BootloaderKind, before: [[u8; RECORD_LEN]; 2]) -> (u32, [[u8; RECORD_LEN]; 2]) {
        run(async {
            let bytes = vec![0xFF; FLASH_LEN as usize];
            let mut flash = Flash::from_bytes(bytes, Timing::INSTANT, SimClock::new(1.0));
            let app = firmware("1.0.0", 9000, Behaviour::Healthy);
            provision(&flash, &app).unwrap();
            flash.provision(SLOTS[1], &app).unwrap();
            let places = [OTADATA, OTADATA + SECTOR_LEN];
            for (at, bytes) in places.into_iter().zip(before) {
                flash.provision(at, &bytes).unwrap();
            }
            let started = boot(&mut flash, kind).await.unwrap();
            let contents = flash.contents().unwrap();
            let after = places.map(|at| *contents[at as usize..].first_chunk().unwrap());
            (started.address, after)
        })
    }

    #[test]
    fn the_first_start_is_written_down() {
        let first = record(1, State::Valid);
        for kind in [BootloaderKind::Plain, BootloaderKind::Rollback] {
            assert_eq!(booted(kind, [BLANK, BLANK]), (SLOTS[0], [first, BLANK]));
            // A bad CRC counts as empty once the state is a bad one too.
            let aborted = torn(2, State::Aborted);
            assert_eq!(booted(kind, [aborted, BLANK]), (SLOTS[0], [first, BLANK]));
            assert_eq!(booted(kind, [BLANK, aborted]), (SLOTS[0], [first, aborted]));
        }
    }

    #[test]
    fn nothing_is_written_down_over_a_record_that_is_torn_or_was_good() {
        for kind in [BootloaderKind::Plain, BootloaderKind::Rollback] {
            for before in [
                [torn(2, State::New), BLANK],
                [BLANK, torn(2, State::Valid)],
                [torn(1, State::Valid), torn(2, State::New)],
                [record(2, State::Aborted), BLANK],
                [record(1, State::Invalid), record(2, State::Aborted)],
            ] {
                assert_eq!(booted(kind, before), (SLOTS[0], before));
            }
        }
    }

    #[test]
    fn the_higher_valid_record_rules() {
        let (old, new) = (record(1, State::Valid), record(2, State::Valid));
        assert_eq!(booted(BootloaderKind::Plain, [old, new]), (SLOTS[1], [old, new]));
        let torn = torn(2, State::New);
        assert_eq!(booted(BootloaderKind::Rollback, [old, torn]), (SLOTS[0], [old, torn]));
    }

    #[test]
    fn a_trial_gets_one_start_where_roll_back_is_built_in() {
        let old = record(1, State::Valid);
        let states = [State::New, State::PendingVerify, State::Aborted].map(|state| record(2, state));
        assert_eq!(booted(BootloaderKind::Rollback, [old, states[0]]), (SLOTS[1], [old, states[1]]));
        assert_eq!(booted(BootloaderKind::Rollback, [old, states[1]]), (SLOTS[0], [old, states[2]]));
        assert_eq!(booted(BootloaderKind::Plain, [old, states[0]]), (SLOTS[1], [old, states[0]]));
        assert_eq!(booted(BootloaderKind::Plain, [old, states[1]]), (SLOTS[1], [old, states[1]]));
    }

    #[test]
    fn an_open_trial_is_aborted_whatever_its_crc() {
        let old = record(1, State::Valid);
        let (pending, aborted) = (torn(2, State::PendingVerify), torn(2, State::Aborted));
        assert_eq!(booted(BootloaderKind::Rollback, [old, pending]), (SLOTS[0], [old, aborted]));
        assert_eq!(booted(BootloaderKind::Plain, [old, pending]), (SLOTS[0], [old, pending]));
    }
}
