//! Plan of a patch: its copies, and which of them are anchors.

use std::vec::Vec;

use super::matcher::Copy;
use crate::anchors::Anchor;
use crate::workspace::MAX_ANCHORS;

/// The shortest copy that says anything about where addresses moved.
const MIN_ANCHOR: usize = 16;

/// Copies of a patch, and its anchors.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Copies in the order of the new image, without overlaps there.
    pub(crate) copies: Vec<Copy>,
    /// The beginnings of some of them, in the same order.
    pub(crate) anchors: Vec<Anchor>,
}

impl Plan {
    pub(crate) fn new(copies: &[Copy]) -> Self {
        let mut least = MIN_ANCHOR;
        loop {
            let anchors = anchors(copies, least);
            if anchors.len() <= MAX_ANCHORS {
                return Self { copies: copies.to_vec(), anchors };
            }
            least += 1 + least / 8;
        }
    }
}

/// The copies of some length that tell more than those in front of them in the old image.
fn anchors(copies: &[Copy], least: usize) -> Vec<Anchor> {
    let mut by_old: Vec<Copy> = copies.iter().filter(|copy| copy.len >= least).copied().collect();
    by_old.sort_by_key(|copy| (copy.old, usize::MAX - copy.len));
    let mut kept: Vec<Copy> = Vec::new();
    let mut reach = 0;
    let mut shift = 0_isize;
    for copy in by_old {
        let new_shift = copy.new.cast_signed() - copy.old.cast_signed();
        let end = copy.old + copy.len;
        // What lies within another copy says nothing, nor does what moved like that.
        if end > reach && (new_shift != shift || kept.is_empty()) {
            kept.push(copy);
            shift = new_shift;
        }
        reach = reach.max(end);
    }
    kept.sort_by_key(|copy| copy.new);
    kept.iter().map(|copy| Anchor { old: copy.old as u32, new: copy.new as u32 }).collect()
}
