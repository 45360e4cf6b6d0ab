//! Knowledge of the images: where their parts moved, and what was learned on the way.

use core::ops::Range;

use super::riscv::flow::Flow as RiscvFlow;
use super::xtensa::flow::Flow as XtensaFlow;
use super::xtensa::literals::Literals;
use crate::anchors::Anchors;
use crate::chips::MemoryMap;
use crate::learned::Learned;
use crate::segments::{Contents, Segment, Segments};

/// No address moves as far as this within its memory.
const FAR: u32 = 1 << 20;

/// Memory of what is learned while an image is made.
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

/// Knowledge of the images, and of the place that was looked at last.
pub(crate) struct Predictor<'w> {
    pub(super) map: MemoryMap,
    pub(super) old: &'w Segments,
    pub(super) new: &'w Segments,
    anchors: Anchors<'w>,
    learned: &'w mut Learned,
    pub(super) literals: &'w mut Literals,
    /// The segments of the last place.
    here: Option<(Segment, Segment)>,
    /// The table of an exception frame header, in old addresses, and its new address.
    pub(super) frames: (Range<u32>, u32),
    pub(super) xtensa: XtensaFlow,
    pub(super) riscv: RiscvFlow,
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
            xtensa: XtensaFlow::default(),
            riscv: RiscvFlow::default(),
        }
    }

    /// Says that a copy begins: what came before is not what lies in front of the next place.
    pub(crate) fn jump(&mut self) {
        self.xtensa = XtensaFlow::default();
        self.riscv.jump();
    }

    pub(super) fn note(&mut self, old: u32, new: u32) {
        if self.map.ram.contains(&old) && self.old.at_address(old).is_none() && old.abs_diff(new) < FAR {
            self.learned.learn(old, new);
        }
    }

    /// The segments of two offsets.
    pub(super) fn segments(&mut self, old: u32, new: u32) -> Option<(Segment, Segment)> {
        match self.here {
            Some((from, to)) if from.has(old) && to.has(new) => {}
            _ => self.here = Some((*self.old.at_offset(old)?, *self.new.at_offset(new)?)),
        }
        self.here
    }

    /// Returns the new address of what was at this address, as far as can be told.
    pub(super) fn moved(&self, address: u32) -> Option<u32> {
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
    pub(super) fn is_movable(&self, address: u32) -> bool {
        self.old.at_address(address).is_some() || self.map.ram.contains(&address)
    }

    /// Whether this is the address of code of the old image.
    pub(super) fn is_code(&self, address: u32) -> bool {
        self.old.at_address(address).is_some_and(|segment| segment.contents == Contents::Code)
    }
}
