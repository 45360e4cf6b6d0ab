//! Start of the next instruction, and the values that LUI left in the registers.

/// The registers that a function need not keep: t0 to t6 and a0 to a7.
const CALLER_SAVED: [usize; 15] = [5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17, 28, 29, 30, 31];

/// Knowledge of the instructions in front of a place.
#[derive(Default)]
pub(in crate::predict) struct Flow {
    /// The offset of the next instruction in the old image.
    pub(super) next: u32,
    /// Upper bits that LUI put into each register, and the offset up to which they count.
    pub(super) upper: [(u32, u32); 32],
}

impl Flow {
    pub(in crate::predict) fn jump(&mut self) {
        *self = Self::default();
    }

    /// Forgets what is in a register that was written, and with the return address what a call may have changed.
    pub(super) fn forget(&mut self, register: usize) {
        self.upper[register] = (0, 0);
        if register == 1 {
            for register in CALLER_SAVED {
                self.upper[register] = (0, 0);
            }
        }
    }
}
