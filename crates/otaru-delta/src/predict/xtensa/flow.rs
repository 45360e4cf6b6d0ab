//! Start of the next instruction, as far as that is known.

use super::instruction::length;
use crate::predict::words::Window;

/// Knowledge of where instructions begin.
#[derive(Default)]
pub(in crate::predict) struct Flow {
    /// The offset of the next instruction in the old image.
    pub(super) next: Option<u32>,
}

/// Position of a place relative to the instructions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// One begins here.
    Begins,
    /// It is inside one.
    Inside,
    /// Nobody knows.
    Unknown,
}

impl Flow {
    pub(super) fn phase(&mut self, offset: u32) -> Phase {
        match self.next {
            Some(next) if offset == next => Phase::Begins,
            Some(next) if offset < next => Phase::Inside,
            _ => {
                self.next = None;
                Phase::Unknown
            }
        }
    }

    /// Passes over a word: it may have been instructions after all.
    pub(super) fn pass(&mut self, offset: u32, window: &Window) {
        while let Some(next) = self.next
            && next < offset + 4
        {
            self.next = Some(next + length(window[(next - offset) as usize]));
        }
    }
}
