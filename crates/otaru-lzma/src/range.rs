//! The range decoder: bits out of bytes ("Range Decoder").
//!
//! Every function either decodes what it is asked for, or finds that it needs a byte that is not there, returns
//! `None`, and can be called again with the same arguments when the byte has come. Functions of several bits keep
//! the bits they have in what they are lent.

use core::slice::Iter;

use crate::error::LzmaError;

/// A probability that the next bit is 0, in 2048ths.
pub(crate) type Probability = u16;

const PRECISION: u32 = 11;
/// Shift by which a probability follows the bits it sees.
const MOVE: u32 = 5;
/// The range is made larger below this.
const TOP: u32 = 1 << 24;

/// As likely as not: where every probability starts.
pub(crate) const EVEN: Probability = 1 << (PRECISION - 1);

/// The range decoder's two numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RangeDecoder {
    range: u32,
    code: u32,
}

impl RangeDecoder {
    /// Number of bytes it starts with.
    pub(crate) const START: u8 = 5;

    /// Before its first byte.
    pub(crate) const fn new() -> Self {
        Self { range: u32::MAX, code: 0 }
    }

    /// Takes one of its first bytes; `left` of them are still to come, this one included.
    pub(crate) fn start(&mut self, left: u8, byte: u8) -> Result<(), LzmaError> {
        // The first byte is always zero.
        if left == Self::START && byte != 0 {
            return Err(LzmaError::Damaged);
        }
        self.code = (self.code << 8) | u32::from(byte);
        if left == 1 && self.code == self.range { Err(LzmaError::Damaged) } else { Ok(()) }
    }

    /// Takes a byte, if the next bit needs one.
    #[inline]
    pub(crate) fn normalize(&mut self, input: &mut Iter<'_, u8>) -> Option<()> {
        if self.range < TOP {
            self.code = (self.code << 8) | u32::from(*input.next()?);
            self.range <<= 8;
        }
        Some(())
    }

    /// A bit with a probability.
    #[inline]
    pub(crate) fn bit(&mut self, input: &mut Iter<'_, u8>, probability: &mut Probability) -> Option<bool> {
        self.normalize(input)?;
        let bound = (self.range >> PRECISION) * u32::from(*probability);
        let one = self.code >= bound;
        if one {
            self.range -= bound;
            self.code -= bound;
            *probability -= *probability >> MOVE;
        } else {
            self.range = bound;
            *probability += ((1 << PRECISION) - *probability) >> MOVE;
        }
        Some(one)
    }

    /// A bit without a probability.
    #[inline]
    pub(crate) fn direct(&mut self, input: &mut Iter<'_, u8>) -> Option<bool> {
        self.normalize(input)?;
        self.range >>= 1;
        let one = self.code >= self.range;
        if one {
            self.code -= self.range;
        }
        Some(one)
    }

    /// A number of several bits, the highest first. `symbol` is 1 at first, and then 1 followed by the bits so far;
    /// there are as many probabilities as numbers.
    pub(crate) fn tree(
        &mut self,
        input: &mut Iter<'_, u8>,
        probabilities: &mut [Probability],
        symbol: &mut usize,
    ) -> Option<u32> {
        while let Some(probability) = probabilities.get_mut(*symbol) {
            *symbol = (*symbol << 1) | usize::from(self.bit(input, probability)?);
        }
        Some((*symbol - probabilities.len()) as u32)
    }

    /// A number of several bits, the lowest first, added to `sum` bit by bit. `symbol` is as for
    /// [`RangeDecoder::tree`]; there is one probability less than numbers.
    pub(crate) fn reverse_tree(
        &mut self,
        input: &mut Iter<'_, u8>,
        probabilities: &mut [Probability],
        symbol: &mut usize,
        sum: &mut u32,
    ) -> Option<()> {
        while let Some(probability) = probabilities.get_mut(*symbol - 1) {
            let one = self.bit(input, probability)?;
            *sum = sum.wrapping_add(u32::from(one) << symbol.ilog2());
            *symbol = (*symbol << 1) | usize::from(one);
        }
        Some(())
    }

    /// Whether it is where no stream leads it.
    pub(crate) fn is_damaged(&self) -> bool {
        self.code >= self.range
    }

    /// Whether a stream may end here.
    pub(crate) fn is_at_end(&self) -> bool {
        self.code == 0
    }
}
