//! A whole update that nothing disturbs, recorded, and from it the flash as a power cut at any byte leaves it.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};

use otaru_sim::flash::{Change, Operation, PAGE, PowerCut, SECTOR, torn};
use otaru_sim::lab::broker::Memory;
use otaru_sim::lab::{Lab, run};

use crate::case::Case;

/// A recorded update.
pub(crate) struct Recording<'a> {
    case: &'a Case<'a>,
    /// Changing operations, in their order.
    pub(crate) changes: Vec<Change>,
}

impl<'a> Recording<'a> {
    /// Records an update.
    pub(crate) fn of(case: &'a Case<'a>) -> Self {
        let changes = run(async {
            let mut lab = case.flashed();
            lab.flash.record();
            lab.power_on();
            case.settle(&lab, 0).await;
            case.check(&lab, &[]);
            lab.flash.changes()
        });
        Self { case, changes }
    }

    /// Goes through these cuts of each operation, which must be in order.
    pub(crate) fn each_cut(
        &self,
        bytes_of: impl Fn(&Operation) -> Vec<u32>,
        mut visit: impl FnMut(&Left<'_>),
    ) {
        let mut moment = Moment::of(self.case.before().to_vec());
        for (number, change) in (0..).zip(&self.changes) {
            let (operation, bytes) = (change.operation, bytes_of(&change.operation));
            let mut done = 0;
            if !bytes.is_empty() {
                let memory = &self.memory(number, change, &moment.contents);
                for byte in bytes {
                    moment.go_on(change, done, byte);
                    done = byte;
                    let cut = PowerCut { operation: number, byte };
                    visit(&Left { cut, moment: &moment, memory });
                }
            }
            moment.go_on(change, done, operation.len);
        }
    }

    /// Returns what the broker keeps when power is lost in the operation with this number: one more update begins, and loses power right
    /// after it. That also tells that the flash is as recorded.
    fn memory(&self, number: u64, change: &Change, before: &[u8]) -> Memory {
        let Operation { offset, len, .. } = change.operation;
        run(async {
            let lab = self.case.lose_power(PowerCut { operation: number, byte: len }).await;
            let parts = [
                (0, &before[..offset as usize]),
                (offset, &change.after),
                (offset + len, &before[(offset + len) as usize..]),
            ];
            for (at, bytes) in parts {
                assert!(lab.flash.holds(at, bytes).unwrap(), "not as recorded after operation {number}");
            }
            lab.broker.memory()
        })
    }
}

/// Everything that a power cut leaves.
pub(crate) struct Left<'a> {
    pub(crate) cut: PowerCut,
    /// The flash after the cut.
    pub(crate) moment: &'a Moment,
    /// Messages that the broker keeps.
    pub(crate) memory: &'a Memory,
}

impl Left<'_> {
    /// A lab in this state, whose device is off.
    pub(crate) fn lab(&self, case: &Case<'_>) -> Lab {
        let lab = case.left(self.memory);
        for sector in &self.moment.changed {
            let part = (sector * SECTOR) as usize..((sector + 1) * SECTOR) as usize;
            lab.flash.provision(sector * SECTOR, &self.moment.contents[part]).unwrap();
        }
        lab
    }
}

/// The flash at one moment of an update, with a hash of each page.
pub(crate) struct Moment {
    contents: Vec<u8>,
    /// Numbers of the sectors that may differ from what was there at first.
    changed: BTreeSet<u32>,
    hashes: Vec<u64>,
    /// All pages' hashes together.
    whole: u64,
}

impl Moment {
    fn of(contents: Vec<u8>) -> Self {
        let hashes: Vec<u64> = (0..).zip(contents.chunks(PAGE as usize)).map(hash).collect();
        let whole = hashes.iter().fold(0, |whole, hash| whole ^ hash);
        Self { contents, changed: BTreeSet::new(), hashes, whole }
    }

    /// Does the bytes of a change from `done` to `byte`, and tears the next one. So power cuts of an operation are built one out of the
    /// other, in their order.
    fn go_on(&mut self, change: &Change, done: u32, byte: u32) {
        let (start, bytes) = (change.operation.offset, done as usize..byte as usize);
        let at = (start + byte) as usize;
        self.contents[(start + done) as usize..at].copy_from_slice(&change.after[bytes]);
        if let Some(wanted) = change.after.get(byte as usize) {
            self.contents[at] = torn(start + byte, self.contents[at], *wanted);
        }
        let end = (start + byte + 1).min(start + change.operation.len);
        self.changed.extend((start + done) / SECTOR..end.div_ceil(SECTOR));
        for page in (start + done) / PAGE..end.div_ceil(PAGE) {
            let range = (page * PAGE) as usize..((page + 1) * PAGE) as usize;
            let new = hash((page, &self.contents[range]));
            let old = std::mem::replace(&mut self.hashes[page as usize], new);
            self.whole ^= old ^ new;
        }
    }

    /// A hash of the whole flash.
    pub(crate) fn whole(&self) -> u64 {
        self.whole
    }

    /// A hash of some pages.
    pub(crate) fn part(&self, pages: &[u32]) -> u64 {
        pages.iter().fold(0, |part, page| part ^ self.hashes[*page as usize])
    }

    /// The whole contents.
    pub(crate) fn contents(&self) -> &[u8] {
        &self.contents
    }
}

fn hash((page, bytes): (u32, &[u8])) -> u64 {
    let mut hasher = DefaultHasher::new();
    (page, bytes).hash(&mut hasher);
    hasher.finish()
}
