//! Keeps [`Guards`] on flash: two copies, each in a sector of its own at the start of the `otaru` partition.
//!
//! One copy is rewritten after the other, so a loss of power leaves one of them whole; damage to the rest of the partition
//! does not reach them.

use embedded_storage_async::nor_flash::NorFlash;
use otaru_format::guards::{Guards, RECORD_LEN};
use otaru_format::otadata::SECTOR_LEN;

use crate::slots::Region;
use crate::text;

/// Bytes on flash: two sectors.
pub(crate) const LEN: u32 = 2 * SECTOR_LEN;

/// Where the guards are kept, if the layout has room for them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GuardStore {
    region: Option<Region>,
}

impl GuardStore {
    pub(crate) const fn new(region: Option<Region>) -> Self {
        Self { region }
    }

    /// Reads both copies and merges them; `None` when neither is whole, or there is no room for them.
    pub(crate) async fn load<F: NorFlash>(&self, flash: &mut F) -> Option<Guards> {
        let region = self.region?;
        let mut merged: Option<Guards> = None;
        for copy in [0, 1] {
            let Some(found) = Guards::parse(&read(flash, region, copy).await) else { continue };
            match &mut merged {
                Some(guards) => guards.merge(&found),
                None => merged = Some(found),
            }
        }
        merged
    }

    /// Writes the copies that differ from these guards, the unreadable ones first; says whether one of them stands.
    pub(crate) async fn store<F: NorFlash>(&self, flash: &mut F, guards: &Guards) -> bool {
        let Some(region) = self.region else { return false };
        let mut stands = false;
        let record = guards.emit();
        let second = Guards::parse(&read(flash, region, 1).await);
        for copy in if second.is_none() { [1, 0] } else { [0, 1] } {
            if read(flash, region, copy).await == record {
                stands = true;
                continue;
            }
            let at = region.offset + copy * SECTOR_LEN;
            let written = match flash.erase(at, at + SECTOR_LEN).await {
                Ok(()) => flash.write(at, &record).await,
                error => error,
            };
            match written {
                Ok(()) => stands = true,
                Err(_) => text::error(format_args!("guards: copy {copy} cannot be written")),
            }
        }
        stands
    }
}

/// Reads a copy's bytes. A sector that cannot be read is a sector without a record.
async fn read<F: NorFlash>(flash: &mut F, region: Region, copy: u32) -> [u8; RECORD_LEN] {
    let mut bytes = [0; RECORD_LEN];
    if flash.read(region.offset + copy * SECTOR_LEN, &mut bytes).await.is_err() {
        bytes.fill(0);
    }
    bytes
}
