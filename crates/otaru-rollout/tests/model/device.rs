//! A device that answers offers as `otaru-device` does, seen from its reports.

use std::collections::BTreeSet;

use otaru_format::digest::Digest;
use otaru_format::status::{Code, Fault, MAX_TRIALS, UpdateState};
use otaru_rollout::Report;

/// Fate of an update on this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    Good,
    /// The download fails this often, then works.
    Flaky(u8),
    /// The image is found to be damaged.
    Damaged,
    /// The image crashes.
    Crashes,
    /// The image does not reach the broker in so many trials.
    Unreachable(u8),
    /// It restarts in the middle of a download and has forgotten, once.
    Forgets,
    /// It takes signed firmware only.
    Strict,
    /// It never answers, and runs on.
    Deaf,
    /// It runs the image it came with again, some steps after each update: its flash does not keep what is written.
    GoesBack,
}

#[derive(Debug, Clone)]
struct Job {
    name: String,
    image: Digest,
    force: bool,
    steps: u8,
}

#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) image: Digest,
    confirmed: bool,
    /// Images that it has run, confirmed, at any time.
    pub(crate) ran: BTreeSet<Digest>,
    old: Digest,
    nature: Nature,
    job: Option<Job>,
    next: Option<Job>,
    failed: Option<Digest>,
    /// The image to be tried again, and how often it was.
    retry: Option<(Digest, u8)>,
    /// The image that it came with.
    first: Digest,
    /// Steps until then.
    rest: u8,
    last: Report,
}

impl Device {
    pub(crate) fn new(image: Digest, nature: Nature) -> Self {
        let last = report(UpdateState::Idle, image, true, None);
        let ran = BTreeSet::from([image]);
        Self {
            image,
            confirmed: true,
            ran,
            old: image,
            first: image,
            nature,
            job: None,
            next: None,
            failed: None,
            retry: None,
            rest: 0,
            last,
        }
    }

    /// Returns the report that is retained for it at the broker.
    pub(crate) fn last(&self) -> Report {
        self.last.clone()
    }

    pub(crate) fn offer(&mut self, name: String, image: Digest, force: bool) {
        if self.nature == Nature::Deaf || self.job.as_ref().is_some_and(|job| job.name == name) {
            return;
        }
        let job = Job { name, image, force, steps: 0 };
        self.retry = None;
        // What has restarted cannot be taken back.
        if self.has_restarted() { self.next = Some(job) } else { self.job = Some(job) }
    }

    pub(crate) fn cancel(&mut self) -> Option<Report> {
        self.next = None;
        if self.has_restarted() {
            return None;
        }
        if self.retry.take().is_some() {
            return Some(self.tell(report(UpdateState::Cancelled, self.image, true, None)));
        }
        let job = self.job.take()?;
        Some(self.tell(report(UpdateState::Cancelled, self.image, true, Some(&job.name))))
    }

    fn has_restarted(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.steps >= 3)
    }

    fn tell(&mut self, report: Report) -> Report {
        self.last = report.clone();
        report
    }

    fn done(&mut self, report: Report) -> Report {
        self.job = self.next.take();
        self.tell(report)
    }

    /// The next step of its update, and what it says of it.
    pub(crate) fn step(&mut self) -> Option<Report> {
        let Some(job) = self.job.clone() else { return self.go_back().or_else(|| self.try_again()) };
        if let Some(current) = &mut self.job {
            current.steps += 1;
        }
        let named = |state| report(state, self.image, true, Some(&job.name));
        let report = match job.steps {
            0 if job.image == self.image => return Some(self.done(named(UpdateState::Current))),
            0 if self.failed == Some(job.image) && !job.force => {
                return Some(self.done(with(named(UpdateState::Refused), Code::FailedBefore)));
            }
            0 if self.nature == Nature::Strict => {
                return Some(self.done(with(named(UpdateState::Refused), Code::Unsigned)));
            }
            0 => named(UpdateState::Checking),
            1 => named(UpdateState::Downloading),
            2 => return Some(self.end_download(&job)),
            3 if matches!(self.nature, Nature::Unreachable(1..)) => return Some(self.miss(job.image, 0)),
            3 => {
                (self.old, self.image, self.confirmed) = (self.image, job.image, false);
                report(UpdateState::Trial, self.image, false, None)
            }
            _ => return Some(self.end_trial(&job)),
        };
        Some(self.tell(report))
    }

    fn end_download(&mut self, job: &Job) -> Report {
        let named = |state| report(state, self.image, true, Some(&job.name));
        match self.nature {
            Nature::Flaky(left) if left > 0 => {
                self.nature = Nature::Flaky(left - 1);
                self.done(with(named(UpdateState::Failed), Code::Dns))
            }
            Nature::Damaged => self.done(with(named(UpdateState::Failed), Code::ImageCorrupt)),
            Nature::Forgets => {
                self.nature = Nature::Good;
                self.done(report(UpdateState::Idle, self.image, true, None))
            }
            _ => self.tell(named(UpdateState::Restarting)),
        }
    }

    /// A trial that did not reach the broker.
    fn miss(&mut self, image: Digest, before: u8) -> Report {
        if let Nature::Unreachable(left) = &mut self.nature {
            *left -= 1;
        }
        let trials = before + 1;
        let ends = trials >= MAX_TRIALS || self.next.is_some();
        self.retry = (!ends).then_some((image, trials));
        self.rest = 3;
        let state = if trials >= MAX_TRIALS { UpdateState::Failed } else { UpdateState::Retrying };
        let told = with(report(state, self.image, true, None), Code::Unreachable);
        self.done(Report { attempt: trials, rolled_back: Some(image), ..told })
    }

    fn go_back(&mut self) -> Option<Report> {
        if self.nature != Nature::GoesBack || self.image == self.first {
            return None;
        }
        self.image = self.first;
        Some(self.tell(report(UpdateState::Idle, self.image, true, None)))
    }

    fn try_again(&mut self) -> Option<Report> {
        let (image, trials) = self.retry?;
        if self.rest > 0 {
            self.rest -= 1;
            return None;
        }
        if matches!(self.nature, Nature::Unreachable(1..)) {
            return Some(self.miss(image, trials));
        }
        self.retry = None;
        (self.old, self.image) = (self.image, image);
        self.ran.insert(image);
        Some(self.tell(report(UpdateState::Confirmed, image, true, None)))
    }

    fn end_trial(&mut self, job: &Job) -> Report {
        self.confirmed = true;
        if self.nature == Nature::Crashes {
            self.image = self.old;
            self.failed = Some(job.image);
            let mut report = with(report(UpdateState::RolledBack, self.image, true, None), Code::Panic);
            report.rolled_back = Some(job.image);
            return self.done(report);
        }
        self.ran.insert(self.image);
        self.done(report(UpdateState::Confirmed, self.image, true, None))
    }
}

fn report(state: UpdateState, image: Digest, confirmed: bool, name: Option<&str>) -> Report {
    let deployment = name.map(str::to_owned);
    Report { state, image, confirmed, deployment, progress: None, attempt: 0, error: None, rolled_back: None }
}

fn with(report: Report, code: Code) -> Report {
    Report { error: Some(Fault { code, detail: code.to_string() }), ..report }
}
