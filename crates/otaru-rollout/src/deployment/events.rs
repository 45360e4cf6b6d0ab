//! What happens to a deployment.

use super::evidence::{Evidence, reason, weigh};
use super::{Deployment, Event, Outcome, Stage};
use crate::effect::Effect;
use crate::report::Report;
use crate::rollout::{Phase, Rollout};
use crate::time::Time;

impl Deployment {
    /// Takes an event. What is over stays as it is, unless an operator asks for a retry.
    pub(crate) fn take(&mut self, event: &Event, rollout: &Rollout, now: Time, effects: &mut Vec<Effect>) {
        if matches!(self.stage, Stage::Finished(_)) {
            if let Event::Retry { force } = event {
                self.retry(*force, rollout);
            }
            return;
        }
        match event {
            Event::Report(report) => self.hear(report, rollout, now, effects),
            Event::Reachable(reachable) => self.reach(*reachable, rollout, effects),
            Event::Tick => self.look_at_the_clock(rollout, now, effects),
            Event::Supersede(by) => self.supersede(*by, effects),
            Event::Close => self.close(rollout, effects),
            Event::Remove => self.finish(Outcome::Removed, effects),
            Event::Retry { .. } => {}
        }
    }

    fn retry(&mut self, force: bool, rollout: &Rollout) {
        let failed = matches!(self.stage, Stage::Finished(outcome) if outcome.is_failure() || outcome == Outcome::Cancelled);
        if failed && rollout.phase().is_open() {
            self.force |= force;
            self.failures = 0;
            self.superseded_by = None;
            self.stage = Stage::Queued;
        }
    }

    fn hear(&mut self, report: &Report, rollout: &Rollout, now: Time, effects: &mut Vec<Effect>) {
        if self.starts == 0 && report.confirmed && report.image != self.image {
            self.previous = report.image;
        }
        let evidence = weigh(self, report, self.is_forced(rollout.spec()));
        match evidence {
            Evidence::Nothing => return,
            Evidence::Runs => {
                self.error = None;
                let offered = self.starts > 0;
                self.finish(if offered { Outcome::Succeeded } else { Outcome::Current }, effects);
                return;
            }
            Evidence::Follows => {
                self.stage = Stage::Updating;
                self.progress = report.progress;
            }
            Evidence::Forgot => {
                self.offer_again(rollout, effects);
                return;
            }
            Evidence::Failed => self.attempt_failed(Outcome::Failed, rollout, now, effects),
            Evidence::FailedForGood => self.finish(Outcome::Failed, effects),
            Evidence::Refused => self.finish(Outcome::Refused, effects),
            Evidence::Cancelled => self.finish(Outcome::Cancelled, effects),
            Evidence::RolledBack => self.finish(Outcome::RolledBack, effects),
        }
        if let Some(error) = reason(report, evidence) {
            self.error = Some(error);
        }
    }

    fn reach(&mut self, reachable: bool, rollout: &Rollout, effects: &mut Vec<Effect>) {
        let came = reachable && !self.reachable;
        self.reachable = reachable;
        // Nobody knows whether the offer reached it.
        if came && self.stage == Stage::Offered {
            self.offer_again(rollout, effects);
        }
    }

    fn offer_again(&self, rollout: &Rollout, effects: &mut Vec<Effect>) {
        effects.extend(self.standing_offer(rollout));
    }

    fn look_at_the_clock(&mut self, rollout: &Rollout, now: Time, effects: &mut Vec<Effect>) {
        let rules = &rollout.spec().attempts;
        // What lies further ahead than it was set was set by a clock that has been set back since.
        self.deadline = self.deadline.map(|deadline| deadline.min(now + rules.timeout));
        if !self.is_active() || self.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        self.withdraw(effects);
        if is_cancelling(rollout) {
            self.finish(Outcome::Cancelled, effects);
        } else if self.stage == Stage::Offered && !self.reachable {
            // It never heard the offer. That is no attempt, and no verdict.
            self.wait_again(rollout, now, effects);
        } else {
            self.attempt_failed(Outcome::TimedOut, rollout, now, effects);
        }
    }

    fn attempt_failed(&mut self, last: Outcome, rollout: &Rollout, now: Time, effects: &mut Vec<Effect>) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= rollout.spec().attempts.count || !rollout.phase().is_open() {
            self.finish(last, effects);
        } else {
            self.wait_again(rollout, now, effects);
        }
    }

    /// Back to the queue, if there still is one for it.
    fn wait_again(&mut self, rollout: &Rollout, now: Time, effects: &mut Vec<Effect>) {
        if self.superseded_by.is_some() {
            self.finish(Outcome::Superseded, effects);
        } else if rollout.phase().is_open() {
            self.queue_again(&rollout.spec().attempts, now);
        } else {
            self.finish(Outcome::Cancelled, effects);
        }
    }

    fn supersede(&mut self, by: crate::ids::RolloutId, effects: &mut Vec<Effect>) {
        self.superseded_by = Some(by);
        if self.stage == Stage::Queued {
            self.finish(Outcome::Superseded, effects);
        }
    }

    fn close(&mut self, rollout: &Rollout, effects: &mut Vec<Effect>) {
        match rollout.phase() {
            Phase::Finishing | Phase::Aborted { .. } if self.stage == Stage::Queued => {
                self.finish(Outcome::Cancelled, effects);
            }
            Phase::Aborted { cancel: true } => self.withdraw(effects),
            _ => {}
        }
    }

    fn withdraw(&self, effects: &mut Vec<Effect>) {
        if let Some(offer) = self.offer() {
            effects.push(Effect::Withdraw { device: self.device.clone(), offer });
        }
    }
}

fn is_cancelling(rollout: &Rollout) -> bool {
    rollout.phase() == Phase::Aborted { cancel: true }
}
