//! Takes events: what becomes of a deployment when something happens to it.

use otaru_format::status::{Code, Fault, UpdateState};

use super::event::Event;
use super::evidence::{Evidence, reason, weigh};
use super::row::Deployment;
use crate::effect::Effect;
use crate::ids::RolloutId;
use crate::report::Report;
use crate::rollout::{Phase, Rollout};
use crate::stage::{Outcome, Stage};
use crate::time::{Span, Time};

/// Time for which a device that tries the image again may be silent. Where neither image reaches the broker it tries five times,
/// a day apart.
const SILENCE: Span = Span::hours(6 * 24);
/// Repetitions of one attempt's offer. Each may be the beginning of another crash.
const MAX_REPEATS: u32 = 10;

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
            Event::Reachable(reachable) => self.reach(*reachable, rollout, now, effects),
            Event::Tick => self.look_at_the_clock(rollout, now, effects),
            Event::Supersede(by) => self.supersede(*by, effects),
            Event::Close => self.close(rollout, now, effects),
            Event::Remove => self.finish(Outcome::Removed, effects),
            Event::Retry { .. } => {}
        }
    }

    fn retry(&mut self, force: bool, rollout: &Rollout) {
        let Stage::Finished(outcome) = self.stage else { return };
        if outcome.may_be_retried() && rollout.phase().is_open() {
            self.force |= force;
            self.failures = 0;
            self.returns = 0;
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
            Evidence::Elsewhere => {
                self.follow_on(rollout, now);
                return;
            }
            Evidence::Runs => {
                self.error = None;
                let offered = self.starts > 0;
                self.finish(if offered { Outcome::Succeeded } else { Outcome::Current }, effects);
                return;
            }
            Evidence::Follows => {
                self.follow_on(rollout, now);
                self.progress = report.progress;
                self.activated = matches!(report.state, UpdateState::Restarting | UpdateState::Trial);
            }
            Evidence::TriesAgain => {
                self.wait_for_trials(now, effects);
                self.trials = report.attempt;
            }
            Evidence::Forgot => {
                self.remind(rollout, now, effects);
                return;
            }
            Evidence::Crashed => self.repeats = MAX_REPEATS,
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

    /// The device is, or may be, on its way with the image.
    fn follow_on(&mut self, rollout: &Rollout, now: Time) {
        if self.stage == Stage::Retrying {
            self.deadline = Some(now + rollout.spec().attempts.timeout);
            self.trials = 0;
        }
        self.stage = Stage::Updating;
    }

    /// The device goes on by itself, and takes its time; a rollout that comes first does not wait for it.
    fn wait_for_trials(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.superseded_by.is_some() {
            self.withdraw(effects);
            return self.finish(Outcome::Superseded, effects);
        }
        self.stage = Stage::Retrying;
        self.progress = None;
        self.deadline = Some(now + SILENCE);
    }

    fn reach(&mut self, reachable: bool, rollout: &Rollout, now: Time, effects: &mut Vec<Effect>) {
        let came = reachable && !self.reachable;
        self.reachable = reachable;
        match self.stage {
            // Nobody knows whether the offer reached it.
            Stage::Offered if came => {
                self.offer_again(rollout, effects);
            }
            Stage::Retrying => self.deadline = Some(now + SILENCE),
            _ => {}
        }
    }

    /// Says whether it was often enough.
    fn offer_again(&mut self, rollout: &Rollout, effects: &mut Vec<Effect>) -> bool {
        let Some(offer) = self.standing_offer(rollout) else { return false };
        if self.repeats >= MAX_REPEATS {
            return true;
        }
        self.repeats += 1;
        effects.push(offer);
        false
    }

    /// A device that restarted and forgot is told again, unless it always does.
    fn remind(&mut self, rollout: &Rollout, now: Time, effects: &mut Vec<Effect>) {
        self.follow_on(rollout, now);
        self.activated = false;
        if self.offer_again(rollout, effects) {
            let detail = format!("the device restarted {MAX_REPEATS} times and knew of nothing");
            self.error = Some(Fault { code: Code::Interrupted, detail });
            self.withdraw(effects);
            self.attempt_failed(Outcome::Failed, rollout, now, effects);
        }
    }

    fn look_at_the_clock(&mut self, rollout: &Rollout, now: Time, effects: &mut Vec<Effect>) {
        let rules = &rollout.spec().attempts;
        // What lies further ahead than it was set was set by a clock that has been set back since.
        let longest = if self.stage == Stage::Retrying { SILENCE } else { rules.timeout };
        self.deadline = self.deadline.map(|deadline| deadline.min(now + longest));
        if !self.is_active() || self.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        let may_be_trying = self.stage == Stage::Updating && self.activated && !self.reachable;
        let tries = self.stage == Stage::Retrying && self.reachable;
        if (may_be_trying || tries) && !is_cancelling(rollout) {
            return self.wait_for_trials(now, effects);
        }
        self.withdraw(effects);
        if is_cancelling(rollout) {
            self.finish(Outcome::Cancelled, effects);
        } else if self.stage == Stage::Retrying {
            // It started the image, and neither that nor the old one was heard since.
            self.finish(Outcome::TimedOut, effects);
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

    fn supersede(&mut self, by: RolloutId, effects: &mut Vec<Effect>) {
        self.superseded_by = Some(by);
        match self.stage {
            Stage::Queued => self.finish(Outcome::Superseded, effects),
            // What comes first does not wait for days.
            Stage::Retrying => {
                self.withdraw(effects);
                self.finish(Outcome::Superseded, effects);
            }
            _ => {}
        }
    }

    fn close(&mut self, rollout: &Rollout, now: Time, effects: &mut Vec<Effect>) {
        match rollout.phase() {
            Phase::Finishing | Phase::Aborted { .. } if self.stage == Stage::Queued => {
                self.finish(Outcome::Cancelled, effects);
            }
            Phase::Aborted { cancel: true } => {
                let end = now + rollout.spec().attempts.timeout;
                self.deadline = self.deadline.map(|deadline| deadline.min(end));
                self.withdraw(effects);
            }
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
