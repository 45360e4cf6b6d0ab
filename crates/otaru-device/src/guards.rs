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

/// Flash region of the guards, if the layout has room for them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GuardStore {
    region: Option<Region>,
}

/// Bytes of a copy.
type Record = [u8; RECORD_LEN];

/// State of the place of one copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CopyState {
    Whole,
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
        for (_, record) in self.copies(flash).await {
            let Some(copy) = Guards::parse(&record) else { continue };
            match &mut merged {
                Some(guards) => guards.merge(&copy),
                None => merged = Some(copy),
            }
        }
        merged
    }

    /// Whether nothing was ever written: at least the copy that is written last is blank, and the other was at most begun.
    pub(crate) async fn is_new<F: NorFlash>(&self, flash: &mut F) -> bool {
        let [first, last] = self.copies(flash).await.map(|(place, _)| place);
        last == CopyState::Blank && matches!(first, CopyState::Blank | CopyState::Damaged)
    }

    /// Writes the copies that differ from these guards, the damaged ones first. What cannot be read is left as it is. Says whether one
    /// of them stands.
    pub(crate) async fn store<F: NorFlash>(&self, flash: &mut F, guards: &Guards) -> bool {
        let Some(region) = self.region else { return false };
        let wanted = guards.emit();
        let copies = self.copies(flash).await;
        let [first, last] = copies.map(|(place, _)| place);
        // Begun anew where one cannot be read, it would lose what that one says.
        if first != CopyState::Whole
            && last != CopyState::Whole
            && (first == CopyState::Unread || last == CopyState::Unread)
        {
            text::error(format_args!("guards: unreadable, left as they are"));
            return false;
        }
        let order = if first == CopyState::Whole && last != CopyState::Whole { [1, 0] } else { [0, 1] };
        let mut stands = false;
        for copy in order {
            let (place, record) = &copies[copy as usize];
            if *place == CopyState::Unread {
                continue;
            }
            let kept = *record == wanted || write(flash, region.offset + copy * SECTOR_LEN, &wanted).await;
            stands |= kept;
            if !kept {
                text::error(format_args!("guards: copy {copy} does not hold"));
            }
        }
        stands
    }

    async fn copies<F: NorFlash>(&self, flash: &mut F) -> [(CopyState, Record); 2] {
        let mut copies = [(CopyState::Damaged, [0; RECORD_LEN]); 2];
        let Some(region) = self.region else { return copies };
        for (at, (place, record)) in (region.offset..).step_by(SECTOR_LEN as usize).zip(&mut copies) {
            *place = match flash.read(at, record).await {
                Err(_) => {
                    *record = [0; RECORD_LEN];
                    CopyState::Unread
                }
                Ok(()) if record.iter().all(|byte| *byte == 0xFF) => CopyState::Blank,
                Ok(()) if Guards::parse(record).is_some() => CopyState::Whole,
                Ok(()) => CopyState::Damaged,
            };
        }
        copies
    }
}

/// Writes one copy; says whether it reads back.
async fn write<F: NorFlash>(flash: &mut F, at: u32, record: &Record) -> bool {
    let mut back = [0; RECORD_LEN];
    flash.erase(at, at + SECTOR_LEN).await.is_ok()
        && flash.write(at, record).await.is_ok()
        && flash.read(at, &mut back).await.is_ok()
        && back == *record
}
