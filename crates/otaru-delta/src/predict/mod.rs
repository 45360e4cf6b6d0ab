//! Predicts what the addresses inside copied bytes have become.
//!
//! [`data`] knows words and exception tables, [`xtensa`] and [`riscv`] the instructions of the processors. All of it
//! goes by the bytes of the *old* image, and by what was written of the new one already, so that encoder and decoder
//! come to the same; whether a prediction is right shows in what the patch adds to it.

mod data;
mod riscv;
mod xtensa;

use core::ops::Range;

use crate::anchors::Anchors;
use crate::chips::{MemoryMap, Processor};
use crate::learned::Learned;
use crate::segments::{Contents, Segment, Segments};
use xtensa::Literals;

/// How many bytes of the old image a prediction looks at, zeros beyond its end.
pub(crate) const LOOKAHEAD: usize = 64;
/// The longest prediction, in bytes.
pub(crate) const LONGEST: usize = 8;
/// No address moves as far as this within its memory.
const FAR: u32 = 1 << 20;

/// The bytes from a place on, as far as a prediction may look at them.
pub(crate) type Window = [u8; LOOKAHEAD];

/// Words at random places of the images.
pub(crate) trait Words {
    /// Why one cannot be read.
    type Error;

    /// The word at this offset of the old image; `None` if it is not aligned, or reaches beyond the end.
    async fn old_word(&mut self, offset: u32) -> Result<Option<u32>, Self::Error>;

    /// The word at this offset of the new image; `None` if it is not aligned, or not written yet.
    async fn new_word(&mut self, offset: u32) -> Result<Option<u32>, Self::Error>;
}

/// What a place's bytes are expected to have become.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prediction {
    /// The expected bytes, `len` of them.
    pub(crate) bytes: [u8; LONGEST],
    /// How many they are: 3, 4 or 8.
    pub(crate) len: usize,
    /// What can be learned from what they really are.
    lesson: Lesson,
}

impl Prediction {
    fn word(word: u32) -> Self {
        let mut bytes = [0; LONGEST];
        bytes[..4].copy_from_slice(&word.to_le_bytes());
        Self { bytes, len: 4, lesson: Lesson::Nothing }
    }

    fn pair(first: u32, second: u32) -> Self {
        let mut prediction = Self::word(first);
        prediction.bytes[4..].copy_from_slice(&second.to_le_bytes());
        prediction.len = 8;
        prediction
    }

    /// An instruction of three bytes.
    fn three(word: u32) -> Self {
        Self { len: 3, ..Self::word(word) }
    }

    fn teaching(self, lesson: Lesson) -> Self {
        Self { lesson, ..self }
    }
}

/// Where the new address of something outside the old image is read from.
#[derive(Debug, Clone, Copy)]
enum Lesson {
    Nothing,
    /// The word is the address of what was at `old`.
    Word {
        old: u32,
    },
    /// The instruction has the low bits of the address of what was at `old`, expected to be at `expected`.
    Low {
        old: u32,
        expected: u32,
    },
    /// L32R at `at` loads the literal that was at `old`.
    Literal {
        old: u32,
        at: u32,
    },
    /// Two instructions at `at` have its distance.
    Pair {
        old: u32,
        at: u32,
    },
}

/// A place that is copied.
#[derive(Debug, Clone, Copy)]
struct Spot {
    /// Its offset in the old image.
    offset: u32,
    /// Its old address.
    old: u32,
    /// Its new address.
    new: u32,
    /// How many bytes are copied from here on.
    left: u32,
}

impl Spot {
    /// Whether a word may begin here.
    const fn is_aligned(&self) -> bool {
        self.old.is_multiple_of(4) && self.new.is_multiple_of(4) && self.left >= 4
    }
}

/// The bytes of a window as a word.
fn word_at(window: &Window, at: usize) -> u32 {
    window.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// What is learned while an image is made.
pub(crate) struct Memory {
    learned: Learned,
    literals: Literals,
}

impl Memory {
    /// Nothing.
    pub(crate) const fn new() -> Self {
        Self { learned: Learned::new(), literals: Literals::new() }
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.learned.clear();
        self.literals.clear();
    }
}

/// What is known of the images, and of the place that was looked at last.
pub(crate) struct Predictor<'w> {
    map: MemoryMap,
    old: &'w Segments,
    new: &'w Segments,
    anchors: Anchors<'w>,
    learned: &'w mut Learned,
    literals: &'w mut Literals,
    /// The segments of the last place.
    here: Option<(Segment, Segment)>,
    /// The table of an exception frame header, in old addresses, and its new address.
    frames: (Range<u32>, u32),
    xtensa: xtensa::Flow,
    riscv: riscv::Flow,
}

impl<'w> Predictor<'w> {
    pub(crate) fn new(
        map: MemoryMap,
        old: &'w Segments,
        new: &'w Segments,
        anchors: Anchors<'w>,
        memory: &'w mut Memory,
    ) -> Self {
        let Memory { learned, literals } = memory;
        Self {
            map,
            old,
            new,
            anchors,
            learned,
            literals,
            here: None,
            frames: (0..0, 0),
            xtensa: xtensa::Flow::default(),
            riscv: riscv::Flow::default(),
        }
    }

    /// Says that a copy begins: what came before is not what lies in front of the next place.
    pub(crate) fn jump(&mut self) {
        self.xtensa = xtensa::Flow::default();
        self.riscv.jump();
    }

    /// What is expected at offset `new` of the new image, where `left` bytes are copied from offset `old`, which has
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
            Lesson::Nothing => {}
            Lesson::Word { old } => self.note(old, first),
            Lesson::Low { old, expected } => self.note(old, riscv::complete(first, expected)),
            Lesson::Literal { old, at } => self.literals.note(old, xtensa::literal_address(first, at)),
            Lesson::Pair { old, at } => {
                let second = u32::from_le_bytes([e, f, g, h]);
                self.note(old, riscv::pair_target(first, second, at));
            }
        }
    }

    fn note(&mut self, old: u32, new: u32) {
        if self.map.ram.contains(&old) && self.old.at_address(old).is_none() && old.abs_diff(new) < FAR {
            self.learned.learn(old, new);
        }
    }

    /// The segments of two offsets.
    fn segments(&mut self, old: u32, new: u32) -> Option<(Segment, Segment)> {
        match self.here {
            Some((from, to)) if from.has(old) && to.has(new) => {}
            _ => self.here = Some((*self.old.at_offset(old)?, *self.new.at_offset(new)?)),
        }
        self.here
    }

    /// Where what was at this address is now, as far as can be told.
    fn moved(&self, address: u32) -> Option<u32> {
        if let Some(offset) = self.old.offset(address) {
            let offset = self.anchors.moved(offset);
            return self.new.addresses(offset).find(|new| new.abs_diff(address) < FAR);
        }
        if self.map.ram.contains(&address) {
            return Some(self.learned.moved(address));
        }
        self.map.rom.contains(&address).then_some(address)
    }

    /// Whether something is at this address that may move.
    fn is_movable(&self, address: u32) -> bool {
        self.old.at_address(address).is_some() || self.map.ram.contains(&address)
    }

    /// Whether this is the address of code of the old image.
    fn is_code(&self, address: u32) -> bool {
        self.old.at_address(address).is_some_and(|segment| segment.contents == Contents::Code)
    }
}
