//! The bytes that are compressed: the decoder's steps, backwards.

use core::convert::Infallible;
use std::vec::Vec;

use super::contents::Contents as Counts;
use super::matcher::Copy;
use super::plan::Plan;
use crate::anchors::{Anchor, Anchors};
use crate::chips::MemoryMap;
use crate::predict::{LONGEST, LOOKAHEAD, Memory, Predictor, Words};
use crate::segments::{Contents, Segments};
use crate::slices::run;

/// Purpose of a byte of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It says what comes from where.
    Control,
    /// It corrects an address that was predicted.
    Address,
    /// It corrects a byte that was copied.
    Copied,
    /// It is new.
    New,
}

/// Bytes, and what each is for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stream {
    pub(crate) bytes: Vec<u8>,
    purposes: Vec<Purpose>,
    /// Number of addresses that were predicted.
    predicted: u32,
}

impl Stream {
    /// The stream of a patch that predicts nothing.
    pub(crate) fn plain(old: &[u8], new: &[u8], plan: &Plan) -> Self {
        let mut stream = Self::default();
        stream.anchors(&plan.anchors);
        stream.body(new, plan, |stream, copy| {
            for (new, old) in new[copy.new..].iter().zip(&old[copy.old..]).take(copy.len) {
                stream.push(Purpose::Copied, new.wrapping_sub(*old));
            }
        });
        stream
    }

    /// Counts the bytes that have to be told: those that are not zero.
    pub(crate) fn surprises(&self) -> usize {
        self.bytes.iter().filter(|byte| **byte != 0).count()
    }

    /// Returns the bytes with zeros for those of a purpose.
    pub(crate) fn without(&self, purpose: Purpose) -> Vec<u8> {
        let pairs = self.bytes.iter().zip(&self.purposes);
        pairs.map(|(byte, other)| if *other == purpose { 0 } else { *byte }).collect()
    }

    /// Sums up the contents.
    pub(crate) fn contents(&self, plan: &Plan) -> Counts {
        let count = |wanted: Purpose, zeros: bool| {
            let pairs = self.bytes.iter().zip(&self.purposes);
            pairs.filter(|(byte, purpose)| **purpose == wanted && (zeros || **byte != 0)).count() as u32
        };
        Counts {
            copies: plan.copies.len() as u32,
            copied: plan.copies.iter().map(|copy| copy.len as u32).sum(),
            predicted: self.predicted,
            corrected_addresses: count(Purpose::Address, false),
            corrected_others: count(Purpose::Copied, false),
            new: count(Purpose::New, true),
        }
    }

    fn push(&mut self, purpose: Purpose, byte: u8) {
        self.bytes.push(byte);
        self.purposes.push(purpose);
    }

    fn new_bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.purposes.resize(self.bytes.len(), Purpose::New);
    }

    /// A number as the decoder reads it.
    fn number(&mut self, mut number: u32) {
        while number >= 0x80 {
            self.push(Purpose::Control, number as u8 | 0x80);
            number >>= 7;
        }
        self.push(Purpose::Control, number as u8);
    }

    /// A number with a sign.
    fn signed(&mut self, value: i32) {
        self.number((value << 1 ^ value >> 31).cast_unsigned());
    }

    fn anchors(&mut self, anchors: &[Anchor]) {
        let mut last = Anchor::ZERO;
        for anchor in anchors {
            let step = anchor.new - last.new;
            self.number(step);
            self.signed(anchor.old.wrapping_sub(last.old.wrapping_add(step)).cast_signed());
            last = *anchor;
        }
    }

    /// Writes the copies and bytes of the plan, piece by piece.
    fn body(&mut self, new: &[u8], plan: &Plan, mut differences: impl FnMut(&mut Self, &Copy)) {
        let mut anchors = plan.anchors.iter().map(|anchor| anchor.new as usize).peekable();
        let mut copies = plan.copies.iter().peekable();
        let (mut made, mut at) = (0, 0);
        while made < new.len() {
            if anchors.next_if_eq(&made).is_some()
                && let Some(copy) = copies.next()
            {
                self.number(copy.len as u32);
                differences(self, copy);
                (made, at) = (made + copy.len, copy.old + copy.len);
            }
            let end = anchors.peek().copied().unwrap_or(new.len());
            while made < end {
                let Some(copy) = copies.next_if(|copy| copy.new < end) else {
                    self.number(0);
                    self.new_bytes(&new[made..end]);
                    made = end;
                    break;
                };
                let extra = copy.new - made;
                self.number(extra as u32 + 1);
                self.new_bytes(&new[made..copy.new]);
                self.signed((copy.old as u32).wrapping_sub((at + extra) as u32).cast_signed());
                self.number(copy.len as u32);
                differences(self, copy);
                (made, at) = (copy.new + copy.len, copy.old + copy.len);
            }
        }
    }
}

/// Everything needed to predict addresses.
pub(crate) struct Relocation {
    pub(crate) map: MemoryMap,
    pub(crate) old: Segments,
    pub(crate) new: Segments,
}

impl Relocation {
    /// The stream of a patch that predicts addresses.
    pub(crate) fn stream(&self, old: &[u8], new: &[u8], plan: &Plan) -> Stream {
        let mut stream = Stream::default();
        self.write_segments(&mut stream);
        stream.anchors(&plan.anchors);
        let mut by_old = std::vec![0; plan.anchors.len()];
        let mut memory = Memory::new();
        let mut predictor = self.predictor(plan, &mut by_old, &mut memory);
        let padded = pad(old);
        stream.body(new, plan, |stream, copy| {
            predictor.jump();
            stream.predicted += copy_predicted(&mut predictor, &padded, new, copy, |purpose, difference| {
                stream.push(purpose, difference);
            });
        });
        stream
    }

    /// The old image with all its addresses as they should be, going by a first plan.
    pub(crate) fn relocate(&self, old: &[u8], new: &[u8], plan: &Plan) -> Vec<u8> {
        let mut by_old = std::vec![0; plan.anchors.len()];
        let mut memory = Memory::new();
        let padded = pad(old);
        // The first time is for learning.
        let mut predictor = self.predictor(plan, &mut by_old, &mut memory);
        for copy in &plan.copies {
            predictor.jump();
            copy_predicted(&mut predictor, &padded, new, copy, |_, _| ());
        }
        let mut by_old = by_old.clone();
        let places = Anchors::new(&plan.anchors, &mut by_old);
        let mut predictor = self.predictor_with(places, &mut memory);
        let mut relocated = old.to_vec();
        let mut images = Slices { old: &padded, new, written: new.len() };
        let mut at = 0;
        while at < old.len() {
            let window = padded[at..].first_chunk().expect("the image is padded");
            let place = (at as u32, places.moved(at as u32), (old.len() - at) as u32);
            let Ok(predicted) = run(predictor.predict(&mut images, place, window));
            at += match predicted {
                Some(predicted) => {
                    relocated[at..at + predicted.len].copy_from_slice(&predicted.bytes[..predicted.len]);
                    predicted.len
                }
                None => 1,
            };
        }
        relocated
    }

    fn predictor<'a>(
        &'a self,
        plan: &'a Plan,
        by_old: &'a mut [u16],
        memory: &'a mut Memory,
    ) -> Predictor<'a> {
        self.predictor_with(Anchors::new(&plan.anchors, by_old), memory)
    }

    fn predictor_with<'a>(&'a self, places: Anchors<'a>, memory: &'a mut Memory) -> Predictor<'a> {
        Predictor::new(self.map.clone(), &self.old, &self.new, places, memory)
    }

    fn write_segments(&self, stream: &mut Stream) {
        let (old, new) = (self.old.as_slice(), self.new.as_slice());
        stream.push(Purpose::Control, old.len() as u8);
        for segment in old {
            stream.push(Purpose::Control, u8::from(segment.contents == Contents::Code));
        }
        stream.push(Purpose::Control, new.len() as u8);
        for (index, segment) in new.iter().enumerate() {
            let (address, len) = old.get(index).map_or((0, 0), |old| (old.address, old.len));
            stream.signed(segment.address.wrapping_sub(address).cast_signed());
            stream.signed(segment.len.wrapping_sub(len).cast_signed());
        }
    }
}

/// An image with as many zeros behind it as a prediction may look at.
fn pad(image: &[u8]) -> Vec<u8> {
    let mut padded = image.to_vec();
    padded.resize(image.len() + LOOKAHEAD, 0);
    padded
}

/// Goes through a copy and tells each byte's difference from what is expected, and what for. Says how many addresses were
/// predicted.
fn copy_predicted(
    predictor: &mut Predictor<'_>,
    old: &[u8],
    new: &[u8],
    copy: &Copy,
    mut tell: impl FnMut(Purpose, u8),
) -> u32 {
    let mut count = 0;
    let mut done = 0;
    while done < copy.len {
        let (from, to, left) = (copy.old + done, copy.new + done, copy.len - done);
        let window = old[from..].first_chunk().expect("the image is padded");
        let mut images = Slices { old, new, written: to };
        let Ok(predicted) =
            run(predictor.predict(&mut images, (from as u32, to as u32, left as u32), window));
        let Some(predicted) = predicted else {
            tell(Purpose::Copied, new[to].wrapping_sub(window[0]));
            done += 1;
            continue;
        };
        let mut actual = [0; LONGEST];
        actual[..predicted.len].copy_from_slice(&new[to..to + predicted.len]);
        for (actual, expected) in actual.iter().zip(&predicted.bytes[..predicted.len]) {
            tell(Purpose::Address, actual.wrapping_sub(*expected));
        }
        predictor.learn(&predicted, &actual);
        count += 1;
        done += predicted.len;
    }
    count
}

/// Images in memory, the old one padded.
struct Slices<'a> {
    old: &'a [u8],
    new: &'a [u8],
    written: usize,
}

impl Words for Slices<'_> {
    type Error = Infallible;

    async fn old_word(&mut self, offset: u32) -> Result<Option<u32>, Infallible> {
        Ok(word(&self.old[..self.old.len() - LOOKAHEAD], offset))
    }

    async fn new_word(&mut self, offset: u32) -> Result<Option<u32>, Infallible> {
        Ok(word(&self.new[..self.written], offset))
    }
}

fn word(bytes: &[u8], offset: u32) -> Option<u32> {
    let bytes = bytes.get(offset as usize..)?.first_chunk()?;
    offset.is_multiple_of(4).then(|| u32::from_le_bytes(*bytes))
}
