//! Anchors: the map from the old image's parts to their places in the new one.

/// From here on the new image is like the old one from there on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Anchor {
    /// An offset in the old image.
    pub(crate) old: u32,
    /// An offset in the new image.
    pub(crate) new: u32,
}

impl Anchor {
    /// The one at the start of both.
    pub(crate) const ZERO: Self = Self { old: 0, new: 0 };
}

/// Anchors, and the order in which they lie in the old image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Anchors<'a> {
    list: &'a [Anchor],
    by_old: &'a [u16],
}

impl<'a> Anchors<'a> {
    /// Takes anchors in the order in which they lie in the new image, and as much memory for the other order.
    pub(crate) fn new(list: &'a [Anchor], by_old: &'a mut [u16]) -> Self {
        for (index, place) in by_old.iter_mut().enumerate() {
            *place = index as u16;
        }
        heap_sort(by_old, |index| (list[usize::from(index)].old, index));
        Self { list, by_old }
    }

    /// Returns the new address of a byte of the old image, by the last anchor at or in front of it.
    pub(crate) fn moved(&self, old: u32) -> u32 {
        let after = self.by_old.partition_point(|index| self.list[usize::from(*index)].old <= old);
        let anchor = match self.by_old.get(after.saturating_sub(1)) {
            Some(index) => self.list[usize::from(*index)],
            None => Anchor::ZERO,
        };
        anchor.new.wrapping_add(old.wrapping_sub(anchor.old))
    }
}

/// Sorts by keys of which no two are equal: in place, in less code than the standard library's, and in `n log n` steps
/// for any input.
fn heap_sort(items: &mut [u16], key: impl Fn(u16) -> (u32, u16)) {
    let sift = |items: &mut [u16], mut parent: usize| {
        loop {
            let mut child = 2 * parent + 1;
            if child + 1 < items.len() && key(items[child]) < key(items[child + 1]) {
                child += 1;
            }
            if child >= items.len() || key(items[parent]) >= key(items[child]) {
                break;
            }
            items.swap(parent, child);
            parent = child;
        }
    };
    for start in (0..items.len() / 2).rev() {
        sift(items, start);
    }
    for end in (1..items.len()).rev() {
        items.swap(0, end);
        sift(&mut items[..end], 0);
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn a_byte_goes_with_the_anchor_in_front_of_it() {
        let list = [Anchor { old: 100, new: 0 }, Anchor { old: 10, new: 50 }, Anchor { old: 60, new: 90 }];
        let mut order = [0; 3];
        let anchors = Anchors::new(&list, &mut order);
        for (old, new) in [(10, 50), (59, 99), (60, 90), (99, 129), (100, 0), (107, 7), (4, 44)] {
            assert_eq!(anchors.moved(old), new, "{old}");
        }
        assert_eq!(Anchors::new(&[], &mut []).moved(7), 7);
    }

    #[test]
    fn sorts() {
        for len in 0..70 {
            let keys: Vec<u32> = (0..len).map(|at: u32| at.wrapping_mul(2_654_435_761) % 13).collect();
            let mut items: Vec<u16> = (0..len as u16).collect();
            heap_sort(&mut items, |item| (keys[usize::from(item)], item));
            let sorted: Vec<_> = items.iter().map(|item| (keys[usize::from(*item)], *item)).collect();
            assert!(sorted.is_sorted(), "{sorted:?}");
        }
    }
}
