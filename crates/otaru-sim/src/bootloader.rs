//! ESP-IDF's second-stage bootloader: which app starts.
//!
//! After `bootloader_utility_get_selected_boot_partition` and `bootloader_utility_load_boot_image` of ESP-IDF's
//! `bootloader_utility.c`, with and without `CONFIG_BOOTLOADER_APP_ROLLBACK_ENABLE`.

use embedded_storage_async::nor_flash::{NorFlash as _, ReadNorFlash as _};
use otaru_device::slots::{Region, verify};
use otaru_format::image::{HEAD_LEN, Head};
use otaru_format::otadata::{RECORD_LEN, Record, SECTOR_LEN, State, select};
use otaru_format::partition::{Partition, PartitionTable, TABLE_LEN, TABLE_OFFSET};

use crate::flash::{Flash, FlashError};

/// How the bootloader was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootloaderKind {
    /// Without roll back support, as flashing tools ship it.
    Plain,
    /// With roll back support.
    Rollback,
}

/// What the bootloader started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Flash offset of its partition.
    pub address: u32,
    /// Its descriptor's project.
    pub project: String,
    /// Its descriptor's version.
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
/// When nothing can be started.
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
            write(flash, &table, 0, &Record::new(seq, State::Valid)).await?;
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

async fn choose(
    flash: &mut Flash,
    table: &PartitionTable<'_>,
    kind: BootloaderKind,
) -> Result<Choice, BootError> {
    let Some(otadata) = table.otadata() else { return Ok(Choice { index: FACTORY, initial: false }) };
    let mut records = [None; 2];
    for (sector, record) in (0..).zip(&mut records) {
        let mut bytes = [0; RECORD_LEN];
        flash.read(otadata.offset + sector * SECTOR_LEN, &mut bytes).await?;
        *record = Record::parse(&bytes);
    }
    if kind == BootloaderKind::Rollback {
        for (sector, slot) in (0..).zip(&mut records) {
            if let Some(record) = slot.as_mut().filter(|record| record.state == State::PendingVerify) {
                record.state = State::Aborted;
                write(flash, table, sector, record).await?;
            }
        }
    }
    let Some(sector) = select(&records) else {
        let factory = table.factory().is_some();
        return Ok(Choice {
            index: if factory { FACTORY } else { 0 },
            initial: !factory && records.iter().all(Option::is_none),
        });
    };
    let mut index = 0;
    if let Some(record) = &mut records[sector] {
        index = i32::from(record.slot(table.slots()));
        if kind == BootloaderKind::Rollback && record.state == State::New {
            record.state = State::PendingVerify;
            write(flash, table, sector as u32, record).await?;
        }
    }
    Ok(Choice { index, initial: false })
}

async fn write(
    flash: &mut Flash,
    table: &PartitionTable<'_>,
    sector: u32,
    record: &Record,
) -> Result<(), BootError> {
    let Some(otadata) = table.otadata() else { return Ok(()) };
    let at = otadata.offset + sector * SECTOR_LEN;
    flash.erase(at, at + SECTOR_LEN).await?;
    flash.write(at, &record.emit()).await?;
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
