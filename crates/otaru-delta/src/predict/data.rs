//! Addresses in data: whole words, and the distances of exception tables.

use super::prediction::{AddressSource, Prediction};
use super::predictor::Predictor;
use super::words::{Spot, Window, word_at};

/// The first word of `.eh_frame_hdr` (Linux Standard Base, 10.6.2): version 1, the pointer to `.eh_frame` relative to
/// itself, the count absolute, the table relative to the header.
const FRAME_HEADER: u32 = 0x3B03_1B01;

impl Predictor<'_> {
    /// A word in a data segment.
    pub(super) fn data(&mut self, spot: &Spot, window: &Window) -> Option<Prediction> {
        if !spot.is_aligned() {
            return None;
        }
        let word = word_at(window, 0);
        if self.is_movable(word) {
            return self.pointer(word);
        }
        if word == FRAME_HEADER {
            let table = 12_u32.saturating_add(word_at(window, 8).saturating_mul(8));
            self.frames = (spot.old..spot.old.saturating_add(table), spot.new);
            return None;
        }
        if word == 0 || word == u32::MAX {
            return None;
        }
        if self.frames.0.contains(&spot.old) && spot.old - self.frames.0.start > 8 {
            return self.distance(word, (self.frames.0.start, self.frames.1));
        }
        // Of all the distances there may be, only those to code are told from numbers.
        let target = spot.old.wrapping_add(word);
        if self.is_code(target) || self.frames.0.contains(&spot.old) {
            return self.distance(word, (spot.old, spot.new));
        }
        None
    }

    /// A word that is an address.
    pub(super) fn pointer(&self, word: u32) -> Option<Prediction> {
        Some(Prediction::word(self.moved(word)?).teaching(AddressSource::Word { old: word }))
    }

    /// A word that is the distance of something from a place, given by its old and its new address.
    fn distance(&self, word: u32, (old, new): (u32, u32)) -> Option<Prediction> {
        let target = old.wrapping_add(word);
        self.old.at_address(target)?;
        Some(Prediction::word(self.moved(target)?.wrapping_sub(new)))
    }
}
