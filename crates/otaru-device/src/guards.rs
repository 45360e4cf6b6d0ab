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

/// One copy as it stands on flash.
#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is no allocator to put guards apart")]
enum Copy {
    Whole(Guards),
    Damaged,
    /// Nothing was ever written there.
    Blank,
    /// The flash did not give it out this time; it may be whole.
    Unread,
}

impl GuardStore {
    pub(crate) const fn new(region: Option<Region>) -> Self {
        Self { region }
    }

    /// Reads both copies and merges them; `None` when neither is whole, or there is no room for them.
    pub(crate) async fn load<F: NorFlash>(&self, flash: &mut F) -> Option<Guards> {
        let mut merged: Option<Guards> = None;
        for copy in self.copies(flash).await {
            match (copy, &mut merged) {
                (Copy::Whole(copy), Some(guards)) => guards.merge(&copy),
                (Copy::Whole(copy), None) => merged = Some(copy),
                _ => {}
            }
        }
        merged
    }

    /// Whether nothing was ever written: at least the copy that is written last is blank, and the other was at most begun.
    pub(crate) async fn is_new<F: NorFlash>(&self, flash: &mut F) -> bool {
        let [first, last] = self.copies(flash).await;
        last == Copy::Blank && matches!(first, Copy::Blank | Copy::Damaged)
    }

    /// Writes the copies that differ from these guards, the damaged ones first. What cannot be read is left as it is. Says whether one
    /// of them stands.
    pub(crate) async fn store<F: NorFlash>(&self, flash: &mut F, guards: &Guards) -> bool {
        let Some(region) = self.region else { return false };
        let copies = self.copies(flash).await;
        let is_good = |copy: &Copy| matches!(copy, Copy::Whole(_));
        // Begun anew where one cannot be read, it would lose what that one says.
        if !copies.iter().any(is_good) && copies.contains(&Copy::Unread) {
            text::error(format_args!("guards: unreadable, left as they are"));
            return false;
        }
        let order = if is_good(&copies[0]) && !is_good(&copies[1]) { [1, 0] } else { [0, 1] };
        let mut stands = false;
        for copy in order {
            match &copies[copy as usize] {
                Copy::Unread => continue,
                Copy::Whole(there) if there == guards => {
                    stands = true;
                    continue;
                }
                _ => {}
            }
            let written = self.write(flash, region.offset + copy * SECTOR_LEN, guards).await;
            stands |= written;
            if !written {
                text::error(format_args!("guards: copy {copy} does not hold"));
            }
        }
        stands
    }

    /// Writes one copy; says whether it reads back.
    async fn write<F: NorFlash>(&self, flash: &mut F, at: u32, guards: &Guards) -> bool {
        let record = guards.emit();
        let mut back = [0; RECORD_LEN];
        flash.erase(at, at + SECTOR_LEN).await.is_ok()
            && flash.write(at, &record).await.is_ok()
            && flash.read(at, &mut back).await.is_ok()
            && back == record
    }

    async fn copies<F: NorFlash>(&self, flash: &mut F) -> [Copy; 2] {
        let mut copies = [Copy::Damaged, Copy::Damaged];
        let Some(region) = self.region else { return copies };
        for (at, copy) in (region.offset..).step_by(SECTOR_LEN as usize).zip(&mut copies) {
            let mut bytes = [0; RECORD_LEN];
            *copy = match flash.read(at, &mut bytes).await {
                Err(_) => Copy::Unread,
                Ok(()) if bytes.iter().all(|byte| *byte == 0xFF) => Copy::Blank,
                Ok(()) => Guards::parse(&bytes).map_or(Copy::Damaged, Copy::Whole),
            };
        }
        copies
    }
}
