//! Makes a patch in several ways, and takes the smallest.

use core::fmt;
use std::vec::Vec;

use otaru_format::chip::Chip;
use otaru_lzma::Properties;

use super::contents::{Costs, Encoded};
use super::layout::relocation;
use super::matcher::Matcher;
use super::plan::Plan;
use super::stream::{Purpose, Stream};
use crate::header::{Header, MAX_LEN};
use crate::slices::crc;
use crate::workspace::DICTIONARY;

/// Properties that the best stream is compressed with, whichever gives less.
const PROPERTIES: [Properties; 2] = [
    Properties { literal_context_bits: 0, literal_position_bits: 0, position_bits: 0 },
    Properties { literal_context_bits: 1, literal_position_bits: 0, position_bits: 0 },
];
/// By how many bytes a match must be better than going on as before: neither is always best.
const BETTER_BY: [usize; 2] = [8, 6];

/// Why no patch was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// An image has more than 64 MiB.
    TooLong,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("an image is longer than 64 MiB"),
        }
    }
}

impl core::error::Error for EncodeError {}

/// Makes a patch that leads from the old image to the new one.
///
/// Any bytes will do, but only for images of the ESP32 family the patch is much smaller than others.
///
/// # Errors
/// Returns [`EncodeError::TooLong`] if an image has more than 64 MiB.
pub fn encode(old: &[u8], new: &[u8]) -> Result<Vec<u8>, EncodeError> {
    Ok(encode_with(old, new, |_| ())?.patch)
}

/// Makes a patch, and finds out what its bytes are for; `progress` as for [`encode_with`].
///
/// # Errors
/// As [`encode`].
pub fn analyze(old: &[u8], new: &[u8], progress: impl FnMut(u8)) -> Result<(Encoded, Costs), EncodeError> {
    let best = best(old, new, progress)?;
    let whole = best.compressed.len();
    let purposes = [Purpose::Control, Purpose::Address, Purpose::Copied, Purpose::New];
    let [control, addresses, others, new_bytes] = in_parallel(purposes, |purpose| {
        let less = lzma(&best.stream.without(purpose), PROPERTIES[0]).len();
        whole.saturating_sub(less) as u32
    });
    Ok((best.finish(old, new), Costs { control, addresses, others, new: new_bytes }))
}

/// The same, and tells how far it is, in per cent, and in the end what came of it.
///
/// # Errors
/// As [`encode`].
pub fn encode_with(old: &[u8], new: &[u8], mut progress: impl FnMut(u8)) -> Result<Encoded, EncodeError> {
    let encoded = best(old, new, &mut progress)?.finish(old, new);
    progress(100);
    Ok(encoded)
}

/// The way that makes the smallest patch.
fn best(old: &[u8], new: &[u8], mut progress: impl FnMut(u8)) -> Result<Candidate, EncodeError> {
    if old.len().max(new.len()) > MAX_LEN as usize {
        return Err(EncodeError::TooLong);
    }
    let first = Plan::new(&Matcher::new(old).copies(new, BETTER_BY[0]));
    progress(10);
    let plain = Stream::plain(old, new, &first);
    let mut best: Option<Candidate> = None;
    if let Some((chip, relocation)) = &relocation(old, new) {
        let relocated = relocation.relocate(old, new, &first);
        let second = Plan::new(&Matcher::new(&relocated).copies(new, BETTER_BY[0]));
        progress(20);
        let relocated = relocation.relocate(old, new, &second);
        let matcher = Matcher::new(&relocated);
        progress(30);
        let candidates = in_parallel(BETTER_BY, |better_by| {
            let plan = Plan::new(&matcher.copies(new, better_by));
            let stream = relocation.stream(old, new, &plan);
            Candidate::new(Some(*chip), plan, stream)
        });
        best = candidates.into_iter().min_by_key(|candidate| candidate.compressed.len());
        progress(70);
    }
    // Compressing takes longest, and where prediction helps much there is no doubt.
    let surprises = best.as_ref().map_or(usize::MAX, |best| best.stream.surprises());
    let best = match best {
        Some(best) if surprises.saturating_mul(4) < plain.surprises().saturating_mul(3) => best,
        other => {
            let plain = Candidate::new(None, first, plain);
            other.filter(|best| best.compressed.len() <= plain.compressed.len()).unwrap_or(plain)
        }
    };
    progress(85);
    Ok(best)
}

/// Calls a function with each of these, on a thread each.
fn in_parallel<T: Send, R: Send, const N: usize>(items: [T; N], make: impl Fn(T) -> R + Sync) -> [R; N] {
    std::thread::scope(|scope| {
        let threads = items.map(|item| scope.spawn(|| make(item)));
        threads.map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// A way to make a patch, and how large it is.
struct Candidate {
    chip: Option<Chip>,
    plan: Plan,
    stream: Stream,
    compressed: Vec<u8>,
}

impl Candidate {
    fn new(chip: Option<Chip>, plan: Plan, stream: Stream) -> Self {
        let compressed = lzma(&stream.bytes, PROPERTIES[0]);
        Self { chip, plan, stream, compressed }
    }

    /// Tries other properties, and makes a patch.
    fn finish(self, old: &[u8], new: &[u8]) -> Encoded {
        let (mut properties, mut body) = (PROPERTIES[0], self.compressed);
        for other in &PROPERTIES[1..] {
            let compressed = lzma(&self.stream.bytes, *other);
            if compressed.len() < body.len() {
                (properties, body) = (*other, compressed);
            }
        }
        let header = Header {
            chip: self.chip,
            properties,
            anchors: self.plan.anchors.len() as u16,
            old_len: old.len() as u32,
            new_len: new.len() as u32,
            old_crc: crc(old),
            new_crc: crc(new),
        };
        let mut patch = header.to_bytes().to_vec();
        patch.extend(body);
        Encoded { patch, contents: self.stream.contents(&self.plan) }
    }
}

/// A raw LZMA stream with an end marker.
fn lzma(bytes: &[u8], properties: Properties) -> Vec<u8> {
    otaru_lzma::encode_stream(bytes, properties, DICTIONARY as u32, true)
}
