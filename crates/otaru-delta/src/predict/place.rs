//! Predicts one place after another: by the segment it is in, and by the chip's processor.

use super::prediction::{AddressSource, LONGEST, Prediction};
use super::predictor::Predictor;
use super::riscv::instruction::{complete, pair_target};
use super::words::{Spot, Window, Words};
use super::xtensa::instruction::literal_address;
use crate::chips::Processor;
use crate::segments::Contents;

impl Predictor<'_> {
    /// Predicts the bytes at offset `new` of the new image, where `left` bytes are copied from offset `old`, which has
    /// the bytes of `window`. `None` if it is the first of these.
    ///
    /// To be called for every place in turn, but for those inside a prediction.
    pub(crate) async fn predict<W: Words>(
        &mut self,
        words: &mut W,
        (old, new, left): (u32, u32, u32),
        window: &Window,
    ) -> Result<Option<Prediction>, W::Error> {
        let Some((from, to)) = self.segments(old, new) else { return Ok(None) };
        let spot = Spot { offset: old, old: from.address(old), new: to.address(new), left };
        match (from.contents, self.map.processor) {
            (Contents::Data, _) => Ok(self.data(&spot, window)),
            (Contents::Code, Processor::RiscV) => Ok(self.riscv(&spot, window)),
            (Contents::Code, Processor::Xtensa) => self.xtensa(words, &spot, window).await,
        }
    }

    /// Takes what a prediction's bytes really are.
    pub(crate) fn learn(&mut self, prediction: &Prediction, actual: &[u8; LONGEST]) {
        let [a, b, c, d, e, f, g, h] = *actual;
        let first = u32::from_le_bytes([a, b, c, d]);
        match prediction.lesson {
            AddressSource::Nothing => {}
            AddressSource::Word { old } => self.note(old, first),
            AddressSource::Low { old, expected } => self.note(old, complete(first, expected)),
            AddressSource::Literal { old, at } => self.literals.note(old, literal_address(first, at)),
            AddressSource::Pair { old, at } => {
                let second = u32::from_le_bytes([e, f, g, h]);
                self.note(old, pair_target(first, second, at));
            }
        }
    }
}
