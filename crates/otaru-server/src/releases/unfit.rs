//! Devices that are known to refuse an image for their flash, their chip's revision or their slot.
//!
//! Reports say nothing of these, so it is known only of devices that have refused something: whoever refused an image for what it
//! asks of a board refuses every other one that asks at least as much.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use otaru_api::Needs;
use otaru_format::digest::Digest;
use otaru_format::status::Code;

use super::columns::digest_at;
use super::rows::ReleaseRow;
use crate::db::{Connection, DbError};

/// Bytes of an image, and what its header says of boards, where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demands {
    /// Bytes of the image.
    pub size: u64,
    /// Demands of the header.
    pub needs: Option<Needs>,
}

/// Refusals of devices.
#[derive(Debug, Default)]
pub struct Refusals(HashMap<String, Vec<(Code, Demands)>>);

impl Refusals {
    /// Reads all that devices refused so far.
    pub fn read(tx: &Connection) -> Result<Self, DbError> {
        // The condition is that of an index.
        let statement = tx.prepare(
            "SELECT device, error_code, image FROM deployments
             WHERE error_code IN ('flash_too_small', 'too_large', 'wrong_revision') AND standing IN ('refused', 'failed')",
        );
        let found = statement
            .query_map((), |row| Ok((row.get::<String>(0)?, row.get::<String>(1)?, digest_at(row, 2)?)))?;
        let mut demands = HashMap::<Digest, Option<Demands>>::new();
        let mut refusals = Self::default();
        for row in found {
            let (device, code, image) = row?;
            let (Some(code), Some(image)) = (code_of(&code), image) else { continue };
            let demands = match demands.entry(image) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => *new.insert(demands_of(tx, image)?),
            };
            if let Some(demands) = demands {
                refusals.0.entry(device).or_default().push((code, demands));
            }
        }
        Ok(refusals)
    }

    /// Whether no device refused anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Why a device is known to refuse an image; `None` where it is not known to.
    pub fn of(&self, device: &str, image: &Demands) -> Option<Code> {
        let refused = self.0.get(device)?;
        refused.iter().find(|(code, before)| asks_as_much(*code, image, before)).map(|(code, _)| *code)
    }
}

fn code_of(name: &str) -> Option<Code> {
    [Code::FlashTooSmall, Code::TooLarge, Code::WrongRevision].into_iter().find(|code| code.as_str() == name)
}

/// Demands of an image that is a release here.
pub fn demands_of(tx: &Connection, image: Digest) -> Result<Option<Demands>, DbError> {
    let release = ReleaseRow::of_image(tx, image)?;
    Ok(release.map(|release| Demands { size: release.image_size, needs: release.needs }))
}

/// Whether an image asks at least as much of a board as one that was refused with this code.
fn asks_as_much(code: Code, image: &Demands, refused: &Demands) -> bool {
    match (code, image.needs, refused.needs) {
        (Code::TooLarge, _, _) => image.size >= refused.size,
        (Code::FlashTooSmall, Some(image), Some(refused)) => {
            refused.flash_size.is_some_and(|size| image.flash_size.is_some_and(|wanted| wanted >= size))
        }
        // The chip's revision is outside of the range that was refused, so it is outside of any part of it.
        (Code::WrongRevision, Some(image), Some(refused)) => {
            let highest = |needs: Needs| needs.max_revision.unwrap_or(u16::MAX);
            image.min_revision >= refused.min_revision && highest(image) <= highest(refused)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(size: u64, flash: Option<u32>, revisions: (u16, Option<u16>)) -> Demands {
        let (min_revision, max_revision) = revisions;
        Demands { size, needs: Some(Needs { flash_size: flash, min_revision, max_revision }) }
    }

    #[test]
    fn who_refused_less_refuses_more() {
        let mib = |mebibytes: u32| Some(mebibytes << 20);
        let any = (0, None);
        for (code, refused, image, is) in [
            (Code::FlashTooSmall, asks(1, mib(8), any), asks(1, mib(8), any), true),
            (Code::FlashTooSmall, asks(1, mib(8), any), asks(9, mib(16), any), true),
            (Code::FlashTooSmall, asks(1, mib(8), any), asks(1, mib(4), any), false),
            (Code::FlashTooSmall, asks(1, mib(8), any), asks(1, None, any), false),
            (Code::TooLarge, asks(100, None, any), asks(100, None, any), true),
            (Code::TooLarge, asks(100, None, any), asks(99, mib(16), any), false),
            (Code::WrongRevision, asks(1, None, (300, None)), asks(1, None, (301, Some(399))), true),
            (Code::WrongRevision, asks(1, None, (300, None)), asks(1, None, (200, None)), false),
            (Code::WrongRevision, asks(1, None, (0, Some(99))), asks(1, None, (0, None)), false),
            (Code::WrongRevision, asks(1, None, (100, Some(199))), asks(1, None, (150, Some(250))), false),
        ] {
            assert_eq!(asks_as_much(code, &image, &refused), is, "{code} {refused:?} {image:?}");
        }
        let unknown = Demands { size: 1, needs: None };
        assert!(!asks_as_much(Code::FlashTooSmall, &unknown, &asks(1, mib(4), any)), "nothing is guessed");
    }
}
