//! Addresses in Xtensa code: windowed calls, loads of literals, and the literals.
//!
//! Instructions are those of the Xtensa ISA summary: CALL4, CALL8 and CALL12 have a distance of 18 bits in words, L32R
//! one of 16 bits, always backwards; ENTRY is what every windowed function begins with, at a multiple of four.

pub(super) mod flow;
pub(super) mod instruction;
pub(super) mod literals;

use self::flow::Phase;
use self::instruction::{is_entry, length, literal_address};
use super::prediction::{AddressSource, Prediction};
use super::predictor::Predictor;
use super::words::{Spot, Window, Words, word_at};

/// Distance up to which a literal is looked for around where it is expected, in words.
const SEARCH: u32 = 256;

impl Predictor<'_> {
    /// A place in a code segment.
    pub(super) async fn xtensa<W: Words>(
        &mut self,
        words: &mut W,
        spot: &Spot,
        window: &Window,
    ) -> Result<Option<Prediction>, W::Error> {
        let word = word_at(window, 0);
        if spot.old.is_multiple_of(4) && is_entry(word) {
            self.xtensa.next = Some(spot.offset);
        }
        let phase = self.xtensa.phase(spot.offset);
        if spot.is_aligned()
            && self.is_movable(word)
            && (!self.is_code(word) || phase == Phase::Unknown || self.is_function(words, word).await?)
            && let Some(prediction) = self.pointer(word)
        {
            self.xtensa.pass(spot.offset, window);
            return Ok(Some(prediction));
        }
        if phase == Phase::Begins {
            self.xtensa.next = Some(spot.offset + length(window[0]));
        }
        if spot.left < 3 {
            return Ok(None);
        }
        match word & 0xF {
            5 if word & 0x30 != 0 => self.call(words, spot, word & 0xFF_FFFF).await,
            1 if phase != Phase::Inside => self.load_literal(words, spot, word & 0xFF_FFFF, phase).await,
            _ => Ok(None),
        }
    }

    /// Whether a function begins at this address of code.
    async fn is_function<W: Words>(&self, words: &mut W, address: u32) -> Result<bool, W::Error> {
        let Some(offset) = self.old.offset(address).filter(|_| self.is_code(address)) else {
            return Ok(false);
        };
        Ok(words.old_word(offset).await?.is_some_and(is_entry))
    }

    /// CALL4, CALL8, CALL12: four times the distance from the next word, in the upper 18 bits.
    async fn call<W: Words>(
        &mut self,
        words: &mut W,
        spot: &Spot,
        instruction: u32,
    ) -> Result<Option<Prediction>, W::Error> {
        let distance = ((instruction << 8).cast_signed() >> 14) << 2;
        let target = (spot.old & !3).wrapping_add(4).wrapping_add_signed(distance);
        if !self.is_function(words, target).await? {
            return Ok(None);
        }
        let Some(target) = self.moved(target) else { return Ok(None) };
        let distance = target.wrapping_sub((spot.new & !3).wrapping_add(4));
        if !distance.is_multiple_of(4) {
            return Ok(None);
        }
        self.xtensa.next = Some(spot.offset + 3);
        Ok(Some(Prediction::three((instruction & 0x3F) | ((distance >> 2) & 0x3_FFFF) << 6)))
    }

    /// L32R. Literals are in no order to rely on, so the one with the expected value is looked for around the place
    /// where this literal was last, or should be.
    async fn load_literal<W: Words>(
        &mut self,
        words: &mut W,
        spot: &Spot,
        instruction: u32,
        phase: Phase,
    ) -> Result<Option<Prediction>, W::Error> {
        let old = literal_address(instruction, spot.old);
        let Some(offset) = self.old.offset(old).filter(|_| self.is_code(old)) else { return Ok(None) };
        let literal = words.old_word(offset).await?.unwrap_or(0);
        if phase == Phase::Unknown && self.moved(literal).is_none() {
            return Ok(None);
        }
        let Some(expected) = self.moved(old) else { return Ok(None) };
        let wanted = self.moved(literal).unwrap_or(literal);
        let expected = self.literals.place(old, expected);
        let place = self.find_literal(words, expected, wanted).await?.unwrap_or(expected);
        let distance = place.wrapping_sub(spot.new.wrapping_add(3) & !3);
        if !distance.is_multiple_of(4) || distance >> 18 != 0x3FFF {
            return Ok(None);
        }
        let prediction = Prediction::three((instruction & 0xFF) | ((distance >> 2) & 0xFFFF) << 8);
        Ok(Some(prediction.teaching(AddressSource::Literal { old, at: spot.new })))
    }

    /// The address nearest to the expected one where this word is in the new image, of two equally near the upper.
    async fn find_literal<W: Words>(
        &self,
        words: &mut W,
        expected: u32,
        wanted: u32,
    ) -> Result<Option<u32>, W::Error> {
        let Some(offset) = self.new.offset(expected) else { return Ok(None) };
        for away in (0..4 * SEARCH).step_by(4) {
            for distance in [away.cast_signed(), -away.cast_signed()] {
                let Some(place) = offset.checked_add_signed(distance) else { continue };
                if words.new_word(place).await? == Some(wanted) {
                    return Ok(Some(expected.wrapping_add_signed(distance)));
                }
            }
        }
        Ok(None)
    }
}
