//! A whole update that nothing disturbs, recorded, and from it the flash as a power cut at any byte leaves it.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::rc::Rc;

use otaru_sim::bootloader::BootloaderKind;
use otaru_sim::flash::{Change, Operation, PAGE, PowerCut, torn};
use otaru_sim::lab::broker::Memory;
use otaru_sim::lab::{Lab, run};

use crate::{Offered, check, flashed, lose_power, settle, setup};

/// A recorded update.
pub(crate) struct Recording {
    /// What stood in the flash before it.
    before: Vec<u8>,
    /// Its changing operations.
    pub(crate) changes: Vec<Change>,
    /// What the broker keeps when power is lost in each of them.
    memories: Vec<Memory>,
}

impl Recording {
    /// Records an update. One more begins for each of its operations and loses power right after it: that tells what the broker
    /// has received by then, and that the flash is as recorded.
    pub(crate) fn of(bootloader: BootloaderKind, new: &Offered) -> Self {
        let (before, changes) = run(async {
            let mut lab = flashed(bootloader, new);
            let before = lab.flash.contents().unwrap();
            lab.flash.record();
            lab.power_on();
            settle(&lab, 0).await;
            check(&lab, &new.image, &[]);
            (before, lab.flash.changes())
        });
        let mut recording = Self { before, changes, memories: Vec::new() };
        let mut at = Moment::of(recording.before.clone());
        for (operation, change) in (0..).zip(&recording.changes) {
            let byte = change.operation.len;
            at.go_on(change, 0, byte);
            let memory = run(async {
                let lab = lose_power(bootloader, new, PowerCut { operation, byte }).await;
                assert!(
                    lab.flash.holds(0, &at.contents).unwrap(),
                    "not as recorded after operation {operation}"
                );
                lab.broker.memory()
            });
            recording.memories.push(memory);
        }
        recording
    }

    /// Goes through these cuts of each operation, which must be in order.
    pub(crate) fn each_cut(
        &self,
        bytes_of: impl Fn(&Operation) -> Vec<u32>,
        mut visit: impl FnMut(&Left<'_>),
    ) {
        let mut moment = Moment::of(self.before.clone());
        for ((operation, change), memory) in (0..).zip(&self.changes).zip(&self.memories) {
            let before: Rc<[u8]> = moment.contents.as_slice().into();
            let mut done = 0;
            for byte in bytes_of(&change.operation) {
                moment.go_on(change, done, byte);
                done = byte;
                let cut = PowerCut { operation, byte };
                visit(&Left { cut, operation: change.operation, before: &before, moment: &moment, memory });
            }
            moment.go_on(change, done, change.operation.len);
        }
    }
}

/// Everything that a power cut leaves.
pub(crate) struct Left<'a> {
    pub(crate) cut: PowerCut,
    operation: Operation,
    /// The flash before the operation.
    before: &'a Rc<[u8]>,
    /// The flash after the cut.
    pub(crate) moment: &'a Moment,
    /// What the broker keeps.
    pub(crate) memory: &'a Memory,
}

impl Left<'_> {
    /// A lab in this state, whose device is off.
    pub(crate) fn lab(&self, bootloader: BootloaderKind, new: &Offered) -> Lab {
        let lab = Lab::left(setup(bootloader, new), Rc::clone(self.before), self.memory);
        lab.serve(&new.file);
        let Operation { offset, len, .. } = self.operation;
        let part = offset as usize..(offset + len) as usize;
        lab.flash.provision(offset, &self.moment.contents[part]).unwrap();
        lab
    }
}

/// The flash at one moment of an update, with a hash of each page.
pub(crate) struct Moment {
    contents: Vec<u8>,
    hashes: Vec<u64>,
    /// All pages' hashes together.
    whole: u64,
}

impl Moment {
    fn of(contents: Vec<u8>) -> Self {
        let hashes: Vec<u64> = (0..).zip(contents.chunks(PAGE as usize)).map(hash).collect();
        let whole = hashes.iter().fold(0, |whole, hash| whole ^ hash);
        Self { contents, hashes, whole }
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
