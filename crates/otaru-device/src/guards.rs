//! Keeps [`Guards`] on flash: two copies, each in a sector of its own at the start of the `otaru` partition.
//!
//! One copy is rewritten after the other, so a loss of power leaves one of them whole; damage to the rest of the partition
//! does not reach them.

use embedded_storage_async::nor_flash::NorFlash;
use otaru_format::guards::{Guards, RECORD_LEN};
use otaru_format::otadata::SECTOR_LEN;

use crate::slots::Region;

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
        let mut merged: Option<Guards> = None;
        for copy in self.copies(flash).await.into_iter().flatten() {
            match &mut merged {
                Some(guards) => guards.merge(&copy),
                None => merged = Some(copy),
            }
        }
        merged
    }

    /// Writes the copies that differ from these guards, the unreadable ones first.
    pub(crate) async fn store<F: NorFlash>(&self, flash: &mut F, guards: &Guards) {
        let Some(region) = self.region else { return };
        let copies = self.copies(flash).await;
        let order = if copies[1].is_none() { [1, 0] } else { [0, 1] };
        for copy in order {
            if copies[copy as usize].as_ref() == Some(guards) {
                continue;
            }
            let at = region.offset + copy * SECTOR_LEN;
            let written = match flash.erase(at, at + SECTOR_LEN).await {
                Ok(()) => flash.write(at, &guards.emit()).await,
                error => error,
            };
            if let Err(error) = written {
                log::error!("guards: copy {copy} cannot be written: {error:?}");
            }
        }
    }

    async fn copies<F: NorFlash>(&self, flash: &mut F) -> [Option<Guards>; 2] {
        let mut copies = [None, None];
        let Some(region) = self.region else { return copies };
        for (at, copy) in (region.offset..).step_by(SECTOR_LEN as usize).zip(&mut copies) {
            let mut bytes = [0; RECORD_LEN];
            // A sector that cannot be read is a sector without a record.
            if flash.read(at, &mut bytes).await.is_ok() {
                *copy = Guards::parse(&bytes);
            }
        }
        copies
    }
}
