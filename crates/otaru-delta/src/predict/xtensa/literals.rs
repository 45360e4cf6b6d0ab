//! Addresses of literals: they are in no order to rely on.

/// Number of literals that are remembered.
const REMEMBERED: usize = 256;

/// Last addresses of literals. All zeros is empty.
pub(in crate::predict) struct Literals {
    /// Old and new addresses; each at the place its old address leads to.
    moved: [(u32, u32); REMEMBERED],
}

impl Literals {
    /// Nothing.
    pub(in crate::predict) const fn new() -> Self {
        Self { moved: [(0, 0); REMEMBERED] }
    }

    /// Forgets all.
    pub(in crate::predict) fn clear(&mut self) {
        self.moved.fill((0, 0));
    }

    const fn index(old: u32) -> usize {
        old as usize / 4 % REMEMBERED
    }

    /// Returns the last address of a literal, or otherwise the expected one.
    pub(super) fn place(&self, old: u32, expected: u32) -> u32 {
        let (known, place) = self.moved[Self::index(old)];
        if known == old { place } else { expected }
    }

    /// Notes where a literal is.
    pub(in crate::predict) fn note(&mut self, old: u32, new: u32) {
        self.moved[Self::index(old)] = (old, new);
    }
}
