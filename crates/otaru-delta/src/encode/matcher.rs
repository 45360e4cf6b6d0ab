//! Finds what of the new image is in the old one.
//!
//! This is the idea of bsdiff (Colin Percival, "Naive differences of executable code"): a match in a suffix array is
//! taken only if it is clearly better than going on at the last one's distance, and matches grow over bytes that differ
//! as long as most are alike.

use std::vec::Vec;

/// Bytes of the new image that are like bytes of the old one, not all of them equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Copy {
    /// Start in the old image.
    pub(crate) old: usize,
    /// Start in the new image.
    pub(crate) new: usize,
    /// Number of bytes.
    pub(crate) len: usize,
}

/// An old image to find matches in.
pub(crate) struct Matcher<'a> {
    old: &'a [u8],
    suffixes: Vec<i32>,
    /// Starts of the suffixes with each two first bytes.
    starts: Vec<u32>,
}

impl<'a> Matcher<'a> {
    pub(crate) fn new(old: &'a [u8]) -> Self {
        let mut suffixes = std::vec![0; old.len()];
        if !old.is_empty() {
            divsufsort::sort_in_place(old, &mut suffixes);
        }
        let mut starts = std::vec![0_u32; (1 << 16) + 1];
        for pair in old.windows(2) {
            starts[pair_index(pair) + 1] += 1;
        }
        // The last suffix has one byte only and comes first of those that begin with it.
        if let Some(last) = old.last() {
            starts[usize::from(*last) << 8] += 1;
        }
        for index in 1..starts.len() {
            starts[index] += starts[index - 1];
        }
        Self { old, suffixes, starts }
    }

    /// The longest match of the beginning of `new`: its place and length.
    fn longest(&self, new: &[u8]) -> (usize, usize) {
        if new.len() < 2 {
            return (0, 0);
        }
        let index = pair_index(new);
        let (low, high) = (self.starts[index] as usize, self.starts[index + 1] as usize);
        let range = &self.suffixes[low.min(high)..high];
        let after = range.partition_point(|suffix| self.old[*suffix as usize..] <= *new);
        let candidates = [after.checked_sub(1), Some(after)];
        let near = candidates.into_iter().flatten().filter_map(|at| range.get(at));
        let lengths = near.map(|place| (*place as usize, common(&self.old[*place as usize..], new)));
        lengths.max_by_key(|(_, len)| *len).unwrap_or((0, 0))
    }

    /// Copies in the order of the new image, none overlapping another there. A match is taken if it is by more than
    /// so many bytes better than going on at the last one's distance.
    pub(crate) fn copies(&self, new: &[u8], better_by: usize) -> Vec<Copy> {
        let mut copies: Vec<Copy> = Vec::new();
        let mut last = Copy { old: 0, new: 0, len: 0 };
        let mut at = 0;
        while at < new.len() {
            let (found, next) = self.next_match(new, at, &last, better_by);
            let end = found.map_or(new.len(), |found| found.new);
            let forward = grow_forward(&self.old[last.old.min(self.old.len())..], &new[last.new..end]);
            last.len = forward;
            let Some(mut found) = found else {
                copies.push(last);
                break;
            };
            let backward = grow_backward(&self.old[..found.old], &new[last.new..found.new]);
            let mut start = found.new - backward;
            if last.new + last.len > start {
                let keep = self.best_split(new, &last, &found, start);
                last.len = keep - last.new;
                start = keep;
            }
            found.old -= found.new - start;
            found.new = start;
            found.len = 0;
            copies.push(last);
            last = found;
            at = next;
        }
        copies.retain(|copy| copy.len > 0);
        copies
    }

    /// The next match that is worth leaving the last one's distance for, and where to look on after it.
    fn next_match(&self, new: &[u8], from: usize, last: &Copy, better_by: usize) -> (Option<Copy>, usize) {
        let agrees = |at: usize| {
            let old = (at + last.old).checked_sub(last.new);
            old.and_then(|old| self.old.get(old)) == Some(&new[at])
        };
        // How many of the match's bytes are right at the last one's distance too.
        let mut right = 0;
        let mut counted = from;
        let mut at = from;
        while at < new.len() {
            let (place, len) = self.longest(&new[at..]);
            while counted < at + len {
                right += usize::from(agrees(counted));
                counted += 1;
            }
            if len == right && len != 0 {
                // The last one goes on here.
                at += len;
                right = 0;
                counted = at;
                continue;
            }
            if len > right + better_by {
                return (Some(Copy { old: place, new: at, len }), at + len);
            }
            if counted > at {
                right -= usize::from(agrees(at));
            } else {
                counted = at + 1;
            }
            at += 1;
        }
        (None, new.len())
    }

    /// Returns the point between two overlapping copies where the first should end and the second begin.
    fn best_split(&self, new: &[u8], last: &Copy, found: &Copy, start: usize) -> usize {
        let (mut best, mut score, mut best_score) = (start, 0_isize, 0);
        for (at, byte) in new.iter().enumerate().take(last.new + last.len).skip(start) {
            let as_last = self.old[last.old + (at - last.new)] == *byte;
            let as_found = self.old[found.old - (found.new - at)] == *byte;
            score += isize::from(as_last) - isize::from(as_found);
            if score > best_score {
                best_score = score;
                best = at + 1;
            }
        }
        best
    }
}

fn pair_index(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}

fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Finds how far a copy should reach: to where it has most bytes right more than wrong.
fn grow<'a>(pairs: impl Iterator<Item = (&'a u8, &'a u8)>) -> usize {
    let (mut best, mut best_score, mut score) = (0, 0_isize, 0_isize);
    for (index, (a, b)) in pairs.enumerate() {
        score += if a == b { 1 } else { -1 };
        if score > best_score {
            (best, best_score) = (index + 1, score);
        }
    }
    best
}

fn grow_forward(old: &[u8], new: &[u8]) -> usize {
    grow(old.iter().zip(new))
}

fn grow_backward(old: &[u8], new: &[u8]) -> usize {
    grow(old.iter().rev().zip(new.iter().rev()))
}
