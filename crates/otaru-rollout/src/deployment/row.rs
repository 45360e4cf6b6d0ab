//! The state of a deployment, as a server keeps it: a row of a table.

use otaru_format::digest::Digest;
use otaru_format::status::Fault;
use serde::{Deserialize, Serialize};

use crate::effect::Effect;
use crate::ids::{DeviceId, OfferId, RolloutId};
use crate::percent::Position;
use crate::rollout::{Phase, Rollout};
use crate::spec::{Attempts, RolloutSpec};
use crate::stage::{Outcome, Stage};
use crate::tally::{Standing, Tally};
use crate::target::Device;
use crate::time::Time;

/// One device's way in one rollout. One row of a server's table, its key the rollout and the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    pub(crate) rollout: RolloutId,
    pub(crate) device: DeviceId,
    /// Image that the device shall run.
    pub(crate) image: Digest,
    /// Image that it ran, confirmed, before the first offer.
    pub(crate) previous: Digest,
    pub(crate) wave: usize,
    pub(crate) position: Position,
    pub(crate) stage: Stage,
    pub(crate) reachable: bool,
    /// Offers made in new attempts; it makes their names.
    pub(crate) starts: u32,
    /// Attempts that failed.
    pub(crate) failures: u32,
    /// The end of the pause after a failure.
    pub(crate) not_before: Option<Time>,
    /// The end of the attempt's time.
    pub(crate) deadline: Option<Time>,
    pub(crate) force: bool,
    pub(crate) superseded_by: Option<RolloutId>,
    pub(crate) progress: Option<u8>,
    /// Whether the device has said that it starts the image.
    #[serde(default)]
    pub(crate) activated: bool,
    /// Repetitions of this attempt's offer.
    #[serde(default)]
    pub(crate) repeats: u32,
    /// Trials of the image so far that did not reach the broker.
    #[serde(default)]
    pub(crate) trials: u8,
    /// Number of times that the device was taken back after it ran another image.
    #[serde(default)]
    pub(crate) returns: u8,
    pub(crate) error: Option<Fault<String>>,
}

impl Deployment {
    pub(crate) fn new(
        rollout: RolloutId,
        device: &Device<'_>,
        image: Digest,
        wave: usize,
        position: Position,
    ) -> Self {
        Self {
            rollout,
            device: device.id.clone(),
            image,
            previous: device.image,
            wave,
            position,
            stage: Stage::Queued,
            reachable: device.reachable,
            starts: 0,
            failures: 0,
            not_before: None,
            deadline: None,
            force: false,
            superseded_by: None,
            progress: None,
            activated: false,
            repeats: 0,
            trials: 0,
            returns: 0,
            error: None,
        }
    }

    /// The rollout it is part of.
    pub fn rollout(&self) -> RolloutId {
        self.rollout
    }

    /// The device.
    pub fn device(&self) -> &DeviceId {
        &self.device
    }

    /// The digest of the image that the device shall run.
    pub fn image(&self) -> Digest {
        self.image
    }

    /// The digest of the image that the device ran, confirmed, before it was first offered this one.
    pub fn previous(&self) -> Digest {
        self.previous
    }

    /// The index of its wave, from 0.
    pub fn wave(&self) -> usize {
        self.wave
    }

    /// Place in the order of its wave.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Returns the stage.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether its device can be reached, as far as it was told.
    pub fn is_reachable(&self) -> bool {
        self.reachable
    }

    /// Returns the standing.
    pub fn standing(&self) -> Standing {
        match self.stage {
            Stage::Queued if self.reachable => Standing::Ready,
            Stage::Queued => Standing::Waiting,
            Stage::Offered | Stage::Updating => Standing::Active,
            Stage::Retrying => Standing::Retrying,
            Stage::Finished(outcome) => Standing::Finished(outcome),
        }
    }

    /// Whether it is under way. No device has two that are.
    pub fn is_active(&self) -> bool {
        matches!(self.standing(), Standing::Active | Standing::Retrying)
    }

    /// Whether its offer may be sent, or sent again. A device that tries the image again by itself would begin to count anew.
    pub fn awaits_offer(&self) -> bool {
        self.standing() == Standing::Active
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.standing() == Standing::Ready
    }

    /// Number of offers of the image, each in an attempt of its own.
    pub fn starts(&self) -> u32 {
        self.starts
    }

    /// The name of the last of these; `None` before the first.
    pub fn offer(&self) -> Option<OfferId> {
        (self.starts > 0).then_some(OfferId { rollout: self.rollout, start: self.starts })
    }

    /// The offer that stands while it is active, unless it is being cancelled: what a device that asks is to be told.
    pub fn standing_offer(&self, rollout: &Rollout) -> Option<Effect> {
        let stands = self.awaits_offer() && rollout.phase() != Phase::Aborted { cancel: true };
        self.offer().filter(|_| stands).map(|offer| self.make_offer(offer, rollout.spec()))
    }

    fn make_offer(&self, offer: OfferId, spec: &RolloutSpec) -> Effect {
        let force = self.is_forced(spec);
        Effect::Offer { device: self.device.clone(), offer, image: self.image, force }
    }

    pub(super) fn is_forced(&self, spec: &RolloutSpec) -> bool {
        spec.force || self.force
    }

    /// Returns the time to feed it [`Event::Tick`](crate::Event::Tick): the end of its attempt's time. Index it.
    pub fn wake_at(&self) -> Option<Time> {
        self.deadline
    }

    /// The end of the pause after a failed attempt, before which it does not start.
    pub fn not_before(&self) -> Option<Time> {
        self.not_before
    }

    /// Per cent of the download, while there is one.
    pub fn progress(&self) -> Option<u8> {
        self.progress
    }

    /// Starts of the image that did not reach the broker; told while the device tries again.
    pub fn trials(&self) -> u8 {
        self.trials
    }

    /// Number of times that the device was [taken back](crate::DeploymentStep::take_back) after it ran another image.
    pub fn returns(&self) -> u8 {
        self.returns
    }

    /// Why the last attempt failed, in the device's words.
    pub fn error(&self) -> Option<&Fault<String>> {
        self.error.as_ref()
    }

    /// Starts an attempt, and makes its offer.
    pub(crate) fn begin(&mut self, spec: &RolloutSpec, now: Time) -> Effect {
        self.starts = self.starts.saturating_add(1);
        self.stage = Stage::Offered;
        self.deadline = Some(now + spec.attempts.timeout);
        self.not_before = None;
        self.progress = None;
        self.activated = false;
        self.repeats = 0;
        self.make_offer(OfferId { rollout: self.rollout, start: self.starts }, spec)
    }

    fn leave_the_way(&mut self, stage: Stage) {
        self.stage = stage;
        self.deadline = None;
        self.not_before = None;
        self.progress = None;
        self.activated = false;
        self.trials = 0;
    }

    pub(crate) fn finish(&mut self, outcome: Outcome, effects: &mut Vec<Effect>) {
        self.leave_the_way(Stage::Finished(outcome));
        effects.push(Effect::Finished { device: self.device.clone(), outcome });
    }

    /// Queues it again, with all its attempts and nothing that an operator once allowed. It is counted if the device went back.
    pub(crate) fn come_back(&mut self, reachable: bool, went_back: bool) {
        self.leave_the_way(Stage::Queued);
        self.returns = self.returns.saturating_add(u8::from(went_back));
        self.reachable = reachable;
        self.failures = 0;
        self.force = false;
        self.superseded_by = None;
    }

    pub(super) fn queue_again(&mut self, rules: &Attempts, now: Time) {
        self.leave_the_way(Stage::Queued);
        self.not_before = (self.failures > 0).then(|| now + rules.pause(self.failures));
    }
}

impl Tally {
    /// Counts deployments, as a server does that mends its books.
    pub fn of<'a>(deployments: impl IntoIterator<Item = &'a Deployment>) -> Self {
        let mut tally = Self::default();
        for deployment in deployments {
            tally.enter(deployment.standing());
        }
        tally
    }
}
