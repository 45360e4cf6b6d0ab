//! Geometries of flash: how long a chip is and what its operations take, and which partitions stand where on it.
//!
//! An update must behave the same on all of them, so tests that cut power run on each of [`Geometry::all`].

use std::ops::Range;

use otaru_format::partition::{self, Partition, PartitionType, TABLE_LEN, TABLE_OFFSET};

use crate::clock::SimClock;
use crate::flash::{FLASH_LEN, Flash, FlashError, Timing};

/// Place for core dumps (ESP-IDF's `gen_esp32part.py`).
const COREDUMP: PartitionType = PartitionType::Other { kind: 1, subtype: 3 };
/// Label of the agent's own partition.
const STATE: &str = "otaru";

/// A flash chip and the partition table on it.
#[derive(Debug, Clone)]
pub struct Geometry {
    /// Name in the output of tests, and in the options of `cargo xtask power-cut`.
    pub name: &'static str,
    /// Bytes of the chip.
    pub flash_len: u32,
    /// Durations of its operations.
    pub timing: Timing,
    /// The rows of its table.
    pub partitions: Vec<Partition>,
}

impl Default for Geometry {
    fn default() -> Self {
        Self::otaru_4mb()
    }
}

impl Geometry {
    /// Otaru's own layout for 4 MiB (`firmware/partitions-4mb.csv`): slots of whole 64 KiB blocks.
    pub fn otaru_4mb() -> Self {
        let partitions = partition::default_layout().to_vec();
        Self { name: "4mb", flash_len: FLASH_LEN, timing: Timing::W25Q, partitions }
    }

    /// Otaru's own layout for 16 MiB (`firmware/partitions-16mb.csv`), with slots of 4 MiB. Of what is simulated the datasheets
    /// of W25Q32JV and W25Q128JV say the same (AC characteristics); only the erase of a whole chip takes longer.
    pub fn otaru_16mb() -> Self {
        let mut partitions = partition::default_layout().to_vec();
        for (slot, row) in
            (0..).zip(partitions.iter_mut().filter(|row| matches!(row.kind(), PartitionType::Ota(_))))
        {
            row.size = 4 << 20;
            row.offset = 0x2_0000 + slot * row.size;
        }
        Self { name: "16mb", flash_len: 16 << 20, timing: Timing::W25Q, partitions }
    }

    /// ESP-IDF's "Factory app, two OTA definitions" (`partitions_two_ota.csv`) on 4 MiB, which has no `otaru` partition, after somebody
    /// put a place for core dumps in front of the slots. The program runs from the factory partition at first.
    ///
    /// The slots begin a sector before a 64 KiB boundary and end ten sectors behind one, so that both ends of a slot must be erased
    /// in sectors. Of that, ESP-IDF allows the odd length: its `gen_esp32part.py` wants sizes of whole sectors, and whole blocks only
    /// for secure boot V1. It does not allow the odd offset: an app must begin on a 64 KiB boundary, the page of the MMU that
    /// maps its code. Its bootloader does not look at that in the table; it refuses images whose mapped segments do not fit the page they
    /// stand in, and would take one that has none. Neither is checked here. Other tools write tables too, and an agent that
    /// erases by the block whatever begins or ends there would erase what belongs to others.
    pub fn esp_idf() -> Self {
        let partitions = vec![
            Partition::new("nvs", PartitionType::Nvs, 0x9000, 0x4000),
            Partition::new("otadata", PartitionType::OtaData, 0xD000, 0x2000),
            Partition::new("phy_init", PartitionType::Phy, 0xF000, 0x1000),
            Partition::new("factory", PartitionType::Factory, 0x1_0000, 0x10_0000),
            Partition::new("coredump", COREDUMP, 0x11_0000, 0xF000),
            Partition::new("ota_0", PartitionType::Ota(0), 0x11_F000, 0xF_B000),
            Partition::new("storage", PartitionType::Undefined, 0x21_A000, 0xA_5000),
            Partition::new("ota_1", PartitionType::Ota(1), 0x2B_F000, 0xF_B000),
        ];
        Self { name: "esp-idf", flash_len: FLASH_LEN, timing: Timing::W25Q, partitions }
    }

    /// All that tests run on.
    pub fn all() -> [Self; 3] {
        [Self::otaru_4mb(), Self::otaru_16mb(), Self::esp_idf()]
    }

    /// The same without an `otaru` partition.
    #[must_use]
    pub fn without_state(mut self) -> Self {
        self.partitions.retain(|row| row.label != STATE);
        self
    }

    /// Returns the range of the partition with this label, in bytes of the flash; empty where there is none.
    pub fn part(&self, label: &str) -> Range<u32> {
        let found = self.partitions.iter().find(|row| row.label == label);
        found.map_or(0..0, |row| row.offset..row.offset + row.size)
    }

    /// Returns the range of the program that a device is flashed with: the factory partition, or `ota_0` where there is none.
    pub fn first_app(&self) -> Range<u32> {
        let factory = self.part("factory");
        if factory.is_empty() { self.part("ota_0") } else { factory }
    }

    /// The slot that the first update goes to.
    pub fn first_target(&self) -> Range<u32> {
        self.part(if self.part("factory").is_empty() { "ota_1" } else { "ota_0" })
    }

    /// A blank chip in memory.
    pub fn blank_chip(&self, clock: SimClock) -> Flash {
        Flash::from_bytes(vec![0xFF; self.flash_len as usize], self.timing, clock)
    }

    /// Puts the table, blank partitions and an app on a chip, as a flashing tool does.
    ///
    /// # Errors
    /// Returns [`FlashError::OutOfBounds`] if the image is larger than its partition, or the partitions are larger than the chip.
    pub fn provision(&self, flash: &Flash, image: &[u8]) -> Result<(), FlashError> {
        let mut table = [0; TABLE_LEN];
        partition::emit(&self.partitions, &mut table).map_err(|_| FlashError::OutOfBounds)?;
        flash.provision(TABLE_OFFSET, &table)?;
        for row in &self.partitions {
            flash.provision(row.offset, &vec![0xFF; row.size as usize])?;
        }
        let app = self.first_app();
        if image.len() > app.len() {
            return Err(FlashError::OutOfBounds);
        }
        flash.provision(app.start, image)
    }
}
