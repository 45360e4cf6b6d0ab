//! From symbol to symbol ("The main loop of decoder").
//!
//! A symbol is a literal, a match with a new distance, or a match with one of the last four distances. Decoding
//! one is a walk through [`Stage`]s, each of which decodes a bit or a number. Where input is missing the walk
//! stops, and goes on from there when more has come; nothing is tried twice.

use core::slice::Iter;

use crate::error::LzmaError;
use crate::properties::Properties;
use crate::range::{EVEN, RangeDecoder};
use crate::window::Window;
use crate::workspace::{Literal, Model, Position, Workspace};

/// End of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// After so many bytes of output, without an end marker.
    Known(u32),
    /// At its end marker. Who knows otherwise when there is enough may also just stop decoding.
    Marked,
}

/// Outcome of a call of [`Decoder::decode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'a> {
    /// Number of input bytes used up.
    pub consumed: usize,
    /// The output that came of it; it stands in the dictionary.
    pub output: &'a [u8],
}

/// The next thing to decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The range decoder's first bytes.
    Start { left: u8 },
    /// Whether a match follows.
    Symbol,
    /// A literal.
    Literal,
    /// Whether the match repeats one of the last distances.
    IsRepeated,
    /// Whether it is another than the last.
    NotRep0,
    /// Whether it repeats more than a byte.
    IsLong,
    /// Whether it is another than the second last.
    NotRep1,
    /// Whether it is another than the third last.
    NotRep2,
    /// Whether the length is greater than the lowest.
    BeyondLow,
    /// Whether the length is among the greatest.
    BeyondMiddle,
    /// The length itself.
    Length(Size),
    /// The magnitude of a distance.
    Slot,
    /// The lower bits of a small distance, of which there are so many.
    Near { first: u8, bits: u8 },
    /// The middle bits of a great distance; so many are left.
    Direct { left: u8 },
    /// The lowest bits of a great distance.
    Align,
    /// Repeats what is at the last distance.
    Copy,
    /// Brings the range decoder to its end.
    End,
    /// Nothing follows.
    Done,
    /// The stream was refused.
    Failed(LzmaError),
}

/// Class of a match's length: below 10, below 18, or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Low,
    Middle,
    High,
}

/// Why a stage does not lead to another.
enum Halt {
    /// Input is missing, or room in the dictionary, or it is the end.
    Paused,
    Refused(LzmaError),
}

impl From<LzmaError> for Halt {
    fn from(error: LzmaError) -> Self {
        Self::Refused(error)
    }
}

/// Why bits are missing: there is only one reason.
fn got<T>(bits: Option<T>) -> Result<T, Halt> {
    bits.ok_or(Halt::Paused)
}

/// The alignment of great distances, in bits.
const ALIGN_BITS: u8 = 4;
/// The shortest match.
const MIN_MATCH: u32 = 2;
/// The distance that is none.
const END_MARKER: u32 = u32::MAX;
/// From this state on, the last symbol was a match.
const FIRST_AFTER_MATCH: usize = 7;
/// Offset of the statistics of literals that are compared.
const COMPARED: usize = 0x100;

/// Decodes one stream.
///
/// [`Decoder::decode`] is called with the input, piece by piece, until it has used all of a piece and gives out
/// nothing any more; then [`Decoder::finish`] tells whether the stream was whole.
pub struct Decoder<'w> {
    properties: Properties,
    literals: &'w mut [Literal],
    positions: &'w mut [Position],
    model: &'w mut Model,
    window: Window<'w>,
    range: RangeDecoder,
    stage: Stage,
    /// Output that is still to come, in bytes, unless a marker tells the end.
    left: Option<u32>,
    /// State that the last symbols led to ("State").
    state: usize,
    /// The last four distances, less one.
    reps: [u32; 4],
    /// The bits of the number being decoded, after a 1.
    symbol: usize,
    /// The byte a literal is compared with, shifted out bit by bit, and whether it still agrees (0x100) or not (0).
    compared: (usize, usize),
    /// Whether the match being decoded repeats a distance, which has lengths of its own.
    repeated: bool,
    /// The length of the match being decoded, or what is left of it.
    length: u32,
}

impl<'w> Decoder<'w> {
    /// Starts a frame of a release, which decodes to exactly so many bytes.
    pub fn new(workspace: &'w mut Workspace, output_len: u32) -> Self {
        Self::start(Properties::RELEASE, workspace, Length::Known(output_len))
    }

    /// Starts any stream.
    ///
    /// # Errors
    /// [`LzmaError::Workspace`] when the workspace is too small for these properties, or there are no such.
    pub fn with_properties<const DICTIONARY: usize, const CONTEXTS: usize, const POSITIONS: usize>(
        properties: Properties,
        workspace: &'w mut Workspace<DICTIONARY, CONTEXTS, POSITIONS>,
        length: Length,
    ) -> Result<Self, LzmaError> {
        if !properties.valid() || properties.contexts() > CONTEXTS || properties.positions() > POSITIONS {
            return Err(LzmaError::Workspace);
        }
        Ok(Self::start(properties, workspace, length))
    }

    fn start<const DICTIONARY: usize, const CONTEXTS: usize, const POSITIONS: usize>(
        properties: Properties,
        workspace: &'w mut Workspace<DICTIONARY, CONTEXTS, POSITIONS>,
        length: Length,
    ) -> Self {
        let Workspace { dictionary, literals, positions, model } = workspace;
        let mut decoder = Self {
            properties,
            literals,
            positions,
            model,
            window: Window::new(dictionary),
            range: RangeDecoder::new(),
            stage: Stage::Start { left: RangeDecoder::START },
            left: None,
            state: 0,
            reps: [0; 4],
            symbol: 1,
            compared: (0, 0),
            repeated: false,
            length: 0,
        };
        decoder.restart(length);
        decoder
    }

    /// Starts another stream of the same properties, whatever became of the last one.
    pub fn restart(&mut self, length: Length) {
        for literal in self.literals.iter_mut() {
            literal.fill(EVEN);
        }
        for position in self.positions.iter_mut() {
            position.reset();
        }
        self.model.reset();
        self.window.clear();
        self.range = RangeDecoder::new();
        self.stage = Stage::Start { left: RangeDecoder::START };
        self.left = match length {
            Length::Known(length) => Some(length),
            Length::Marked => None,
        };
        self.state = 0;
        self.reps = [0; 4];
        self.symbol = 1;
        self.compared = (0, 0);
        self.repeated = false;
        self.length = 0;
    }

    /// Uses up some of the input, and lends the output that comes of it.
    ///
    /// It stops when the input is used up, and also when the dictionary's end is reached: call it again with the
    /// rest, even with nothing, until the output is empty. A call gives out no more than the dictionary's size.
    ///
    /// # Errors
    /// Returns an error if the stream is damaged: output decoded earlier in the same call is lost, and every further call returns
    /// the same error. Returns [`LzmaError::Trailing`] for input after the end of the stream.
    pub fn decode(&mut self, input: &[u8]) -> Result<Step<'_>, LzmaError> {
        self.decode_at_most(input, usize::MAX)
    }

    /// The same, but lends no more than so many bytes: for who copies them to a buffer.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    pub fn decode_at_most(&mut self, input: &[u8], most: usize) -> Result<Step<'_>, LzmaError> {
        if self.is_complete() && !input.is_empty() {
            return Err(LzmaError::Trailing);
        }
        let start = self.window.turn(most);
        let mut rest = input.iter();
        if let Halt::Refused(error) = self.walk(&mut rest) {
            self.stage = Stage::Failed(error);
            return Err(error);
        }
        let consumed = input.len() - rest.as_slice().len();
        Ok(Step { consumed, output: self.window.since(start) })
    }

    /// Whether the stream has ended, all its output was lent, and its end was right.
    pub fn is_complete(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// Returns [`LzmaError::Truncated`] if the stream has not ended, or the error for which it was refused before.
    pub fn finish(self) -> Result<(), LzmaError> {
        match self.stage {
            Stage::Done => Ok(()),
            Stage::Failed(error) => Err(error),
            _ => Err(LzmaError::Truncated),
        }
    }

    /// From stage to stage, until something stops it: no input, no room, the end, or an error.
    fn walk(&mut self, input: &mut Iter<'_, u8>) -> Halt {
        while self.window.room() > 0 || !matches!(self.stage, Stage::Literal | Stage::Copy) {
            match self.next(input) {
                Ok(stage) => self.stage = stage,
                Err(halt) => return halt,
            }
        }
        Halt::Paused
    }

    /// Decodes what this stage is about, and tells the next.
    fn next(&mut self, input: &mut Iter<'_, u8>) -> Result<Stage, Halt> {
        let model = &mut *self.model;
        let repeated = usize::from(self.repeated);
        let mut bit = |probability| got(self.range.bit(input, probability));
        match self.stage {
            Stage::Start { left } => self.first_byte(input, left),
            Stage::Symbol => self.kind(input),
            Stage::Literal => self.literal(input),
            Stage::IsRepeated => {
                let one = bit(&mut model.is_repeated[self.state])?;
                Ok(self.new_or_repeated(one))
            }
            Stage::NotRep0 => {
                let one = bit(&mut model.not_rep0[self.state])?;
                Ok(if one { Stage::NotRep1 } else { Stage::IsLong })
            }
            Stage::IsLong => self.short_or_long(input),
            Stage::NotRep1 => {
                if bit(&mut model.not_rep1[self.state])? {
                    return Ok(Stage::NotRep2);
                }
                Ok(self.recall(1))
            }
            Stage::NotRep2 => {
                let one = bit(&mut model.not_rep2[self.state])?;
                Ok(self.recall(if one { 3 } else { 2 }))
            }
            Stage::BeyondLow => {
                let one = bit(&mut model.lengths[repeated].beyond_low)?;
                Ok(if one { Stage::BeyondMiddle } else { Stage::Length(Size::Low) })
            }
            Stage::BeyondMiddle => {
                let one = bit(&mut model.lengths[repeated].beyond_middle)?;
                Ok(Stage::Length(if one { Size::High } else { Size::Middle }))
            }
            Stage::Length(size) => self.length(input, size),
            Stage::Slot => self.slot(input),
            Stage::Near { first, bits } => self.near(input, first, bits),
            Stage::Direct { left } => self.direct(input, left),
            Stage::Align => self.align(input),
            Stage::Copy => Ok(self.copy()),
            Stage::End => self.end(input),
            Stage::Done => Err(Halt::Paused),
            Stage::Failed(error) => Err(error.into()),
        }
    }

    fn first_byte(&mut self, input: &mut Iter<'_, u8>, left: u8) -> Result<Stage, Halt> {
        self.range.start(left, *got(input.next())?)?;
        Ok(if left > 1 { Stage::Start { left: left - 1 } } else { Stage::Symbol })
    }

    /// Begins a symbol, or ends the stream.
    fn kind(&mut self, input: &mut Iter<'_, u8>) -> Result<Stage, Halt> {
        if self.left == Some(0) {
            return Ok(Stage::End);
        }
        let position = self.properties.position(self.window.position());
        if got(self.range.bit(input, &mut self.positions[position].is_match[self.state]))? {
            return Ok(Stage::IsRepeated);
        }
        // After a match, the byte that its distance leads to is known to be another.
        self.compared = if self.state < FIRST_AFTER_MATCH {
            (0, 0)
        } else {
            (usize::from(self.window.back(self.reps[0])), COMPARED)
        };
        Ok(Stage::Literal)
    }

    /// Decodes a byte. As long as its bits agree with those of the byte it is compared with, the statistics depend
    /// on the latter's next bit.
    fn literal(&mut self, input: &mut Iter<'_, u8>) -> Result<Stage, Halt> {
        let context = self.properties.context(self.window.position(), self.window.back(0));
        let probabilities = &mut self.literals[context];
        // In registers, for most bits of a stream are decoded here.
        let (mut range, mut symbol, (mut byte, mut agreeing)) = (self.range, self.symbol, self.compared);
        while symbol < 0x100 {
            let expected = (byte << 1) & agreeing;
            let Some(one) = range.bit(input, &mut probabilities[agreeing + expected + symbol]) else { break };
            byte <<= 1;
            agreeing &= if one { expected } else { !expected };
            symbol = (symbol << 1) | usize::from(one);
        }
        (self.range, self.symbol, self.compared) = (range, symbol, (byte, agreeing));
        if symbol < 0x100 {
            return Err(Halt::Paused);
        }
        self.window.push(self.symbol as u8);
        self.symbol = 1;
        self.left = self.left.map(|left| left - 1);
        self.state = match self.state {
            0..4 => 0,
            4..10 => self.state - 3,
            _ => self.state - 6,
        };
        Ok(Stage::Symbol)
    }

    /// Whether the match brings a distance of its own.
    fn new_or_repeated(&mut self, repeated: bool) -> Stage {
        self.repeated = repeated;
        if repeated {
            return Stage::NotRep0;
        }
        self.reps.rotate_right(1);
        Stage::BeyondLow
    }

    /// Brings the distance at this place to the front.
    fn recall(&mut self, place: usize) -> Stage {
        self.reps[..=place].rotate_right(1);
        Stage::BeyondLow
    }

    /// Whether the last distance is repeated for a byte only.
    fn short_or_long(&mut self, input: &mut Iter<'_, u8>) -> Result<Stage, Halt> {
        let position = self.properties.position(self.window.position());
        if got(self.range.bit(input, &mut self.positions[position].is_long[self.state]))? {
            return Ok(Stage::BeyondLow);
        }
        self.length = 1;
        self.begin_copy(9)
    }

    fn length(&mut self, input: &mut Iter<'_, u8>, size: Size) -> Result<Stage, Halt> {
        let position = self.properties.position(self.window.position());
        let repeated = usize::from(self.repeated);
        let short = &mut self.positions[position].lengths[repeated];
        let (above, probabilities) = match size {
            Size::Low => (0, &mut short.low[..]),
            Size::Middle => (8, &mut short.middle[..]),
            Size::High => (16, &mut self.model.lengths[repeated].high[..]),
        };
        let number = got(self.range.tree(input, probabilities, &mut self.symbol))?;
        self.symbol = 1;
        self.length = MIN_MATCH + above + number;
        if self.repeated { self.begin_copy(8) } else { Ok(Stage::Slot) }
    }

    /// The magnitude of a distance: its highest two bits, and how many follow.
    fn slot(&mut self, input: &mut Iter<'_, u8>) -> Result<Stage, Halt> {
        let kind = (self.length - MIN_MATCH).min(3) as usize;
        let slot = got(self.range.tree(input, &mut self.model.slots[kind], &mut self.symbol))?;
        self.symbol = 1;
        if slot < 4 {
            self.reps[0] = slot;
            return self.begin_copy(7);
        }
        let bits = (slot / 2 - 1) as u8;
        self.reps[0] = (2 | slot & 1) << bits;
        Ok(if slot < 14 {
            Stage::Near { first: (self.reps[0] - slot) as u8, bits }
        } else {
            Stage::Direct { left: bits - ALIGN_BITS }
        })
    }

    fn near(&mut self, input: &mut Iter<'_, u8>, first: u8, bits: u8) -> Result<Stage, Halt> {
        let probabilities = &mut self.model.near[usize::from(first)..][..(1 << bits) - 1];
        got(self.range.reverse_tree(input, probabilities, &mut self.symbol, &mut self.reps[0]))?;
        self.symbol = 1;
        self.begin_copy(7)
    }

    fn direct(&mut self, input: &mut Iter<'_, u8>, left: u8) -> Result<Stage, Halt> {
        let one = got(self.range.direct(input))?;
        self.reps[0] |= u32::from(one) << (left - 1 + ALIGN_BITS);
        if left > 1 {
            return Ok(Stage::Direct { left: left - 1 });
        }
        // Only halving the range can lead it astray.
        if self.range.is_damaged() { Err(LzmaError::Damaged.into()) } else { Ok(Stage::Align) }
    }

    fn align(&mut self, input: &mut Iter<'_, u8>) -> Result<Stage, Halt> {
        got(self.range.reverse_tree(input, &mut self.model.align, &mut self.symbol, &mut self.reps[0]))?;
        self.symbol = 1;
        if self.reps[0] == END_MARKER && self.left.is_none() {
            return Ok(Stage::End);
        }
        self.begin_copy(7)
    }

    /// Checks a match and goes to the state of its kind, given as the one after a literal.
    fn begin_copy(&mut self, after_literal: usize) -> Result<Stage, Halt> {
        self.window.check(self.reps[0])?;
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(self.length).ok_or(LzmaError::TooLong)?;
        }
        self.state = match (self.state < FIRST_AFTER_MATCH, after_literal) {
            (true, state) => state,
            (false, 7) => 10,
            (false, _) => 11,
        };
        Ok(Stage::Copy)
    }

    /// Repeats as much as there is room for.
    fn copy(&mut self) -> Stage {
        self.length -= self.window.repeat(self.reps[0], self.length as usize) as u32;
        if self.length == 0 { Stage::Symbol } else { Stage::Copy }
    }

    fn end(&mut self, input: &mut Iter<'_, u8>) -> Result<Stage, Halt> {
        got(self.range.normalize(input))?;
        if self.range.is_at_end() { Ok(Stage::Done) } else { Err(LzmaError::Damaged.into()) }
    }
}
