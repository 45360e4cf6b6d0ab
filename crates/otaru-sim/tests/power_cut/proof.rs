//! Goes through the power cuts of a recorded update: each is lived through from the restart on, unless one that was is known to go
//! the same way.
//!
//! A device that starts is a function of what it reads. So a state of the flash needs no run of its own if it agrees with one that had
//! a run in every page that this one looked at before erasing it, and the broker keeps the same. Some of those get their
//! run all the same, and must then do and report exactly what was foretold.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use otaru_sim::flash::Operation;
use otaru_sim::lab::broker::Memory;
use otaru_sim::lab::{Lab, run};

use crate::case::Case;
use crate::recording::{Left, Recording};

/// Interval of telling the progress.
const TELL: Duration = Duration::from_secs(15);

/// Everything a device does and says after a restart, as a hash.
pub(crate) type Course = u64;

/// Returns what a device did and said from the operation numbered `from` and the message numbered `said` on.
pub(crate) fn course(lab: &Lab, from: usize, said: usize) -> Course {
    let mut hasher = DefaultHasher::new();
    for Operation { erase, offset, len } in &lab.flash.operations()[from..] {
        (erase, offset, len).hash(&mut hasher);
    }
    for message in &lab.broker.messages()[said..] {
        (&message.topic, &message.payload).hash(&mut hasher);
    }
    hasher.finish()
}

/// Lives through a restart to the end of the update; gives back which pages made a difference, and the course.
pub(crate) fn restart(case: &Case<'_>, left: &Left<'_>) -> (Vec<u32>, Course) {
    run(async {
        let mut lab = left.lab(case);
        lab.flash.trace();
        lab.power_on();
        case.settle(&lab, 0).await;
        case.check(&lab, &[left.cut]);
        (lab.flash.pages_read(), course(&lab, 0, 0))
    })
}

/// Courses of the states that agree in these pages, by a hash of them.
struct Known {
    pages: Vec<u32>,
    courses: HashMap<u64, Course>,
}

/// A proof under way.
pub(crate) struct Proof<'a> {
    case: &'a Case<'a>,
    /// Every how many of the cuts whose course is known have it lived through all the same.
    again_every: u64,
    /// Number of cuts that are to come in all.
    total: u64,
    cuts: u64,
    runs: u64,
    again: u64,
    states: HashSet<(u64, u64)>,
    known: HashMap<Memory, Vec<Known>>,
    begun: Instant,
    /// Time of the last word about progress, and the number of cuts then.
    told: (Instant, u64),
}

impl<'a> Proof<'a> {
    pub(crate) fn new(case: &'a Case<'a>, total: u64, again_every: u64) -> Self {
        let now = Instant::now();
        Self {
            case,
            again_every,
            total,
            cuts: 0,
            runs: 0,
            again: 0,
            states: HashSet::new(),
            known: HashMap::new(),
            begun: now,
            told: (now, 0),
        }
    }

    /// Proves that the device comes back from this cut.
    pub(crate) fn take(&mut self, left: &Left<'_>) {
        let Left { cut, moment, memory, .. } = left;
        self.cuts += 1;
        self.states.insert((moment.whole(), memory_hash(memory)));
        let live = || restart(self.case, left);
        let known = self.known.entry((*memory).clone()).or_default();
        let foretold = known.iter().find_map(|known| known.courses.get(&moment.part(&known.pages)));
        match foretold {
            Some(foretold) if self.cuts.is_multiple_of(self.again_every) => {
                assert_eq!(live().1, *foretold, "another course than foretold after {cut:?}");
                self.again += 1;
            }
            Some(_) => {}
            None => {
                let (pages, course) = live();
                let hash = moment.part(&pages);
                match known.iter_mut().find(|known| known.pages == pages) {
                    Some(known) => drop(known.courses.insert(hash, course)),
                    None => known.push(Known { pages, courses: HashMap::from([(hash, course)]) }),
                }
                self.runs += 1;
            }
        }
        self.tell();
    }

    /// Says now and then how far it is.
    fn tell(&mut self) {
        let (at, before) = self.told;
        if at.elapsed() < TELL {
            return;
        }
        // Cuts that need no run come in clumps, so the present rate is what counts.
        let rate = (self.cuts - before) as f64 / at.elapsed().as_secs_f64();
        let left = (self.total - self.cuts) as f64 / rate;
        self.told = (Instant::now(), self.cuts);
        eprintln!(
            "{}: {} of {} cuts, {} restarts lived through, {rate:.0} cuts/s, about {} left",
            self.case,
            self.cuts,
            self.total,
            self.runs,
            minutes(left),
        );
    }

    /// Says what was proved.
    pub(crate) fn finish(self, recording: &Recording<'_>) {
        let bytes: u64 = recording.changes.iter().map(|change| u64::from(change.operation.len)).sum();
        println!(
            "{}: {} cuts in {} flash operations over {bytes} bytes, {} different states, {} restarts \
             lived through ({} more as a check), in {}; every device came back and ended on the new image",
            self.case,
            self.cuts,
            recording.changes.len(),
            self.states.len(),
            self.runs,
            self.again,
            minutes(self.begun.elapsed().as_secs_f64()),
        );
    }
}

fn memory_hash(memory: &Memory) -> u64 {
    let mut hasher = DefaultHasher::new();
    memory.hash(&mut hasher);
    hasher.finish()
}

fn minutes(seconds: f64) -> String {
    format!("{}:{:02} min", seconds as u64 / 60, seconds as u64 % 60)
}
