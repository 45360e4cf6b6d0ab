//! Records of older firmware, and the count of starts, over a flash in memory.

use embassy_futures::block_on;
use embedded_storage_async::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};

use super::*;

const SECTOR: usize = 4096;
const REGION: Region = Region { offset: 0, len: 2 * SECTOR as u32 };

/// Two sectors. While `stuck`, writing and erasing fail.
struct Ram {
    bytes: [u8; 2 * SECTOR],
    stuck: bool,
}

#[derive(Debug)]
struct Stuck;

impl NorFlashError for Stuck {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl Ram {
    const fn blank() -> Self {
        Self { bytes: [0xFF; 2 * SECTOR], stuck: false }
    }
}

impl ErrorType for Ram {
    type Error = Stuck;
}

impl ReadNorFlash for Ram {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Stuck> {
        let at = offset as usize;
        bytes.copy_from_slice(&self.bytes[at..at + bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl NorFlash for Ram {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = SECTOR;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Stuck> {
        if self.stuck {
            return Err(Stuck);
        }
        self.bytes[from as usize..to as usize].fill(0xFF);
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Stuck> {
        if self.stuck {
            return Err(Stuck);
        }
        let cells = self.bytes.iter_mut().skip(offset as usize);
        cells.zip(bytes).for_each(|(cell, byte)| *cell &= byte);
        Ok(())
    }
}

fn memory() -> Memory {
    Memory::open(Some(REGION), None)
}

/// One start: as it is counted, with a number of its own for a new epoch.
fn start(flash: &mut Ram, fresh: u64) -> (u64, u32) {
    let Start { epoch, boots } = block_on(memory().count_start(flash, fresh));
    (epoch, boots)
}

#[test]
fn starts_are_counted_within_an_epoch() {
    let mut flash = Ram::blank();
    for boots in 1..=2000 {
        assert_eq!(start(&mut flash, u64::from(boots) + 6), (7, boots), "also once the sectors are full");
    }
    let mut other = Ram::blank();
    assert_eq!(start(&mut other, 9), (9, 1), "a blank memory begins another");
}

#[test]
fn each_start_is_an_epoch_where_nothing_can_be_remembered() {
    let nowhere = Memory::open(None, None);
    let mut flash = Ram::blank();
    for fresh in 1..5 {
        let Start { epoch, boots } = block_on(nowhere.count_start(&mut flash, fresh));
        assert_eq!((epoch, boots), (fresh, 1));
    }
    assert_eq!(start(&mut flash, 5), (5, 1));
    // A count that cannot be kept must not come twice.
    flash.stuck = true;
    assert_eq!(start(&mut flash, 6), (6, 1));
    assert_eq!(start(&mut flash, 7), (7, 1));
    flash.stuck = false;
    assert_eq!(start(&mut flash, 8), (5, 2));
}

#[test]
fn a_count_at_its_end_begins_another_epoch() {
    let mut flash = Ram::blank();
    let mut writer = Writer::new();
    writer.put(&3_u64.to_le_bytes());
    writer.put(&(u32::MAX - 1).to_le_bytes());
    block_on(memory().store(&mut flash, START, &writer.0));
    assert_eq!(start(&mut flash, 4), (3, u32::MAX));
    assert_eq!(start(&mut flash, 5), (5, 1));
}

#[test]
fn the_records_of_an_older_firmware_are_read_and_kept() {
    // As firmware wrote them that counted no starts: byte for byte, so that nobody changes the layout unnoticed.
    let history = [
        &[2, 7, 0, 0, 0, 0, 0, 0, 0, 1][..],
        &[0x11, 0, 0, 0, 0, 0, 0, 0],
        &[0; 8],
        &[0x22, 0, 0, 0, 0, 0, 0, 0],
        &[0x33, 0, 0, 0, 0, 0, 0, 0],
        &[0; 8 * 7],
    ]
    .concat();
    let pending = [&[2, 1, 2, 3][..], &[0; 32], b"http://h/x"].concat();
    let mut flash = Ram::blank();
    block_on(async {
        memory().store(&mut flash, HISTORY, &history).await;
        memory().store(&mut flash, PENDING, &pending).await;
    });
    assert_eq!(start(&mut flash, 9), (9, 1));
    let found = block_on(memory().load_history(&mut flash));
    assert_eq!((found.order, found.followed, found.followed_is_retained), (7, Some(CommandId(0x11)), true));
    assert_eq!((found.given_up, found.refused), (None, Some(CommandId(0x22))));
    assert_eq!((&found.superseded[..], found.retained.len()), (&[CommandId(0x33)][..], 0));
    let found = block_on(memory().load_pending(&mut flash)).unwrap();
    assert_eq!((found.attempts, found.crashes, found.power_losses, found.verified), (1, 2, 3, None));
    assert_eq!(found.payload, b"http://h/x");
    // What is written now is what that firmware reads, should it come back.
    assert_eq!(Memory::history(&block_on(memory().load_history(&mut flash))).0[..], history[..]);
}
