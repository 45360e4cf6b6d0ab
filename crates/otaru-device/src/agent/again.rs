//! A new image that did not reach the broker is tried again: the broker may have been away, and it may have moved.
//!
//! The old image waits until the broker has taken reports for a while without an interruption, longer each time, and then starts the
//! new one once more, from the slot. Where it does not get through itself, it does so once a day. After [`MAX_TRIALS`] trials it is over.

use core::time::Duration;

use otaru_format::status::{Code, MAX_TRIALS, UpdateState};

use super::boot::MAX_POWER_LOSSES;
use super::failure::Failure;
use super::worker::{ANNOUNCE, Worker};
use crate::board::Clock;
use crate::history::CommandId;
use crate::job::Job;
use crate::memory::{Failed, Retry};
use crate::platform::Platform;
use crate::report::Reports;
use crate::text;
use crate::uplink::CHECK;

/// Time for which the broker must take reports before the next trial.
const PAUSES: [Duration; MAX_TRIALS as usize - 1] =
    [Duration::from_secs(600), Duration::from_secs(3600), Duration::from_secs(6 * 3600), DAY];
/// Time since the start after which the next trial is due in any case.
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Retry {
    /// Time for which the broker must take reports before the next trial; `None` when there is none.
    pub(super) fn pause(&self) -> Option<Duration> {
        PAUSES.get(usize::from(self.tries).checked_sub(1)?).copied()
    }
}

impl<P: Platform> Worker<'_, P> {
    /// Counts a trial that did not reach the broker, and tells what follows. `trial` is the sequence of its otadata record.
    pub(super) async fn tell_unreachable(&mut self, failed: &Failed, trial: u32) {
        if !self.boot.memory.is_there() {
            // Nobody could count the trials.
            return self.reports.fault(UpdateState::RolledBack, Code::Unreachable, &failed.detail);
        }
        let retry = self.count_trial(failed, trial).await;
        self.tell_retry(retry);
    }

    /// Tells that an image is to be tried again, or no more.
    fn tell_retry(&mut self, retry: Retry) {
        self.reports.attempt(retry.tries);
        let Some(pause) = retry.pause() else {
            let detail = "the new image never reached the broker; publish the command again to retry";
            return self.reports.fault(UpdateState::Failed, Code::Unreachable, detail);
        };
        let minutes = pause.as_secs() / 60;
        let next = retry.tries + 1;
        let text = format_args!(
            "the new image did not reach the broker; trial {next} of {MAX_TRIALS} comes once this one was connected for {minutes} min"
        );
        let failure = Failure::new(Code::Unreachable, text);
        self.reports.fault(UpdateState::Retrying, Code::Unreachable, &failure.detail);
        self.reports.prove();
        self.retry = Some(retry);
    }

    async fn count_trial(&mut self, failed: &Failed, trial: u32) -> Retry {
        let memory = &self.boot.memory;
        let pending = memory.load_pending(self.flash).await.map(|pending| pending.id());
        let known = memory.load_retry(self.flash).await.filter(|known| known.image == failed.digest);
        let retry = match known {
            Some(known) if known.trial == trial => known,
            known => {
                // Another command for the same image begins a new count.
                let known = known.filter(|known| pending.is_none() || known.command == pending);
                let known = known.unwrap_or(Retry::settled(failed.digest, pending, trial));
                let retry = Retry { trial, tries: known.tries.saturating_add(1), ..known };
                memory.store_retry(self.flash, &retry).await;
                retry
            }
        };
        if retry.tries > 0 && pending.is_some() && pending == retry.command {
            self.boot.memory.clear_pending(self.flash).await;
        }
        if retry.tries >= MAX_TRIALS {
            self.forbid_copies(retry.command).await;
        }
        retry
    }

    /// Goes on waiting where no record of the trial is left: power went while one was written.
    pub(super) async fn resume_retry(&mut self) {
        let memory = &self.boot.memory;
        let retry = memory.load_retry(self.flash).await.filter(|retry| retry.pause().is_some());
        let Some(retry) = retry else { return };
        if memory.load_pending(self.flash).await.is_none() && self.is_in_slot(retry.image).await {
            self.tell_retry(retry);
        }
    }

    /// Counts a repeated trial that power ended, apart from the others; says whether the image gets another. `retry` has a pause.
    pub(super) async fn waits_on_after_power_loss(&mut self, retry: Retry, trial: u32) -> bool {
        let ended = u8::from(retry.trial != trial);
        let retry = Retry { trial, power_losses: retry.power_losses.saturating_add(ended), ..retry };
        if retry.power_losses >= MAX_POWER_LOSSES {
            return false;
        }
        self.boot.memory.store_retry(self.flash, &retry).await;
        self.tell_retry(retry);
        true
    }

    /// Whether this is a copy of the command whose image waits for its next trial.
    pub(super) fn waits_for(&self, job: &Job) -> bool {
        let command = self.retry.as_ref().and_then(|retry| retry.command);
        job.origin.is_copy() && command == Some(job.id())
    }

    /// Starts the image once more, from the slot.
    pub(super) async fn try_again(&mut self) {
        let Some(retry) = self.retry.take() else { return };
        if !self.is_in_slot(retry.image).await {
            self.boot.memory.end_retry(self.flash, None).await;
            let detail = "the image to be tried again is not in the slot any more; publish the command again";
            self.reports.fault(UpdateState::Failed, Code::Unreachable, detail);
            return;
        }
        text::info(format_args!("update: trial {} of {MAX_TRIALS}", retry.tries + 1));
        if let Err(failure) = self.activate().await {
            self.reports.fault(UpdateState::Failed, failure.code, &failure.detail);
        }
        self.reports.announce(self.clock, ANNOUNCE).await;
    }

    /// Gives up the trial that was to come; tells whose it was, if there was one.
    pub(super) async fn drop_retry(&mut self) -> Option<CommandId> {
        self.boot.memory.end_retry(self.flash, None).await;
        self.retry.take()?.command
    }

    /// Ends a command for good, after a trial from which nothing follows.
    pub(super) async fn give_up(&mut self, command: Option<CommandId>, trial: Retry) {
        self.boot.memory.store_retry(self.flash, &trial).await;
        self.forbid_copies(command).await;
        self.boot.memory.clear_pending(self.flash).await;
    }

    /// From now on only a fresh publication starts this command.
    pub(super) async fn forbid_copies(&mut self, command: Option<CommandId>) {
        self.inbox.history.borrow_mut().given_up = command;
        let history = self.inbox.history.borrow().clone();
        self.boot.memory.store_history(self.flash, &history).await;
    }
}

/// Waits until the next trial is due; for ever when there is none.
pub(super) async fn due<C: Clock>(retry: Option<&Retry>, reports: &Reports<'_>, clock: &C) {
    let Some(pause) = retry.and_then(Retry::pause) else { return core::future::pending().await };
    loop {
        let now = clock.now();
        if now >= DAY || reports.accepted_since().is_some_and(|since| now >= since + pause) {
            return;
        }
        clock.sleep(CHECK).await;
    }
}
