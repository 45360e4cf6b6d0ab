//! Shifts of addresses that are in no image, such as those of `.bss`: learned from addresses that were met already.

/// Most addresses that are remembered.
const MAX: usize = 512;

/// Addresses and how far each moved. All zeros is empty.
pub(crate) struct Learned {
    /// In ascending order.
    addresses: [u32; MAX],
    shifts: [i16; MAX],
    len: usize,
}

impl Learned {
    /// Nothing.
    pub(crate) const fn new() -> Self {
        Self { addresses: [0; MAX], shifts: [0; MAX], len: 0 }
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// Counts the addresses below this one.
    fn below(&self, address: u32) -> usize {
        self.addresses[..self.len].partition_point(|known| *known < address)
    }

    /// Returns the expected new address: it moved like the one nearest to it, of two equally near like the lower.
    pub(crate) fn moved(&self, address: u32) -> u32 {
        let at = self.below(address);
        let low = at.checked_sub(1).map(|at| (address - self.addresses[at], self.shifts[at]));
        let high = (at < self.len).then(|| (self.addresses[at] - address, self.shifts[at]));
        let shift = match (low, high) {
            (Some((down, low)), Some((up, high))) => {
                if down <= up {
                    low
                } else {
                    high
                }
            }
            (Some((_, only)), None) | (None, Some((_, only))) => only,
            (None, None) => 0,
        };
        address.wrapping_add_signed(shift.into())
    }

    /// Notes where an address is now. What moved far is an accident.
    pub(crate) fn learn(&mut self, address: u32, now: u32) {
        let Ok(shift) = i16::try_from(now.wrapping_sub(address).cast_signed()) else { return };
        let at = self.below(address);
        if at < self.len && self.addresses[at] == address {
            self.shifts[at] = shift;
            return;
        }
        let same =
            |place: Option<usize>| place.is_some_and(|place| place < self.len && self.shifts[place] == shift);
        let (low, high) = (at.checked_sub(1), Some(at));
        // Between two that moved alike everything is expected to move alike: the outer two of three are enough.
        if same(low) && same(high) {
            return;
        }
        if same(low) && same(at.checked_sub(2)) {
            self.addresses[at - 1] = address;
            return;
        }
        if same(high) && same(Some(at + 1)) {
            self.addresses[at] = address;
            return;
        }
        if self.len < MAX {
            self.addresses.copy_within(at..self.len, at + 1);
            self.shifts.copy_within(at..self.len, at + 1);
            self.addresses[at] = address;
            self.shifts[at] = shift;
            self.len += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_tells() {
        let mut learned = Learned::new();
        assert_eq!(learned.moved(1000), 1000);
        learned.learn(1000, 1008);
        learned.learn(2000, 2016);
        for (address, now) in [(0, 8), (1400, 1408), (1500, 1508), (1501, 1517), (9000, 9016)] {
            assert_eq!(learned.moved(address), now);
        }
        learned.learn(3000, 3_000_000);
        assert_eq!(learned.moved(3000), 3016);
    }

    #[test]
    fn never_takes_more_than_there_is_room_for() {
        let mut learned = Learned::new();
        for at in 0..3 * MAX as u32 {
            let address = at.wrapping_mul(40_503) % 65_536;
            learned.learn(address, address + at % 7);
        }
        assert_eq!(learned.len, MAX);
        assert!(learned.addresses.is_sorted());
    }
}
