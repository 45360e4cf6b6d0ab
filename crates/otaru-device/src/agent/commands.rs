//! The worker's loop: one command after another, whether it counts, and how it ends.

use core::convert::Infallible;

use embassy_futures::select::{Either, Either3, select, select3};
use otaru_format::command::{Command, Offer, SCRATCH};
use otaru_format::status::{Code, UpdateState};

use super::again;
use super::failure::Failure;
use super::update::Prepared;
use super::worker::{ANNOUNCE, Worker};
use crate::board::{Board, Clock, ResetReason};
use crate::history::{CommandId, PassedOver};
use crate::job::{Job, Preemption};
use crate::memory::Pending;
use crate::platform::Platform;
use crate::text;

/// Starts that ended in a crash before an update is given up.
const MAX_CRASHES: u8 = 3;

/// Reason for a resting worker to go on.
#[expect(clippy::large_enum_variant, reason = "there is no allocator to put a command apart")]
enum Rest {
    Command(Job),
    /// An image is to be tried once more.
    Trial,
    /// The history has changed, and may be written.
    History,
}

impl<P: Platform> Worker<'_, P> {
    pub(super) async fn run(&mut self) -> Infallible {
        *self.inbox.history.borrow_mut() = self.boot.memory.load_history(self.flash).await;
        self.settle().await;
        let mut interrupted = self.resume_interrupted().await;
        loop {
            let job = match interrupted.take() {
                Some(job) => job,
                None => match self.rest().await {
                    Rest::Command(job) => job,
                    Rest::Trial => {
                        self.try_again().await;
                        continue;
                    }
                    Rest::History => {
                        self.keep_history().await;
                        continue;
                    }
                },
            };
            // In one place: each would have room of its own for the largest of futures, here and on the stack.
            self.handle(&job).await;
        }
    }

    /// Waits for something to do.
    async fn rest(&self) -> Rest {
        let trial = again::due(self.retry.as_ref(), self.reports, self.clock);
        let history = async {
            match self.unkept {
                true => self.clock.sleep(self.pause_left()).await,
                false => core::future::pending().await,
            }
        };
        match select3(self.inbox.take(), trial, history).await {
            Either3::First(job) => Rest::Command(job),
            Either3::Second(()) => Rest::Trial,
            Either3::Third(()) => Rest::History,
        }
    }

    /// Carries out one command, unless another takes its place.
    async fn handle(&mut self, job: &Job) {
        let mut scratch = [0; SCRATCH];
        match job.command(&mut scratch) {
            Ok(Command::Update(offer)) => {
                if self.counts(job, &offer) {
                    self.update(job, &offer).await;
                }
            }
            Ok(Command::Cancel) => self.cancel().await,
            // The session answers it.
            Ok(Command::Report(_)) => {}
            Err(error) => {
                let failure = Failure::from(error);
                self.reports.begin(None);
                self.reports.fault(UpdateState::Refused, failure.code, &failure.detail);
            }
        }
        self.settled(job);
    }

    /// Whether a command is to be followed; a person is told if it is not.
    fn counts(&self, job: &Job, offer: &Offer<'_>) -> bool {
        let mut history = self.inbox.history.borrow_mut();
        let why = match history.judge(job.id(), job.origin, offer.order) {
            Ok(()) if job.origin.is_copy() && self.would_loop() => PassedOver::GivenUp.as_str(),
            Ok(()) if self.waits_for(job) => {
                "Passed over: a copy of the command whose image is to be tried again."
            }
            Ok(()) => return true,
            Err(why) => {
                if why == PassedOver::Superseded {
                    history.supersede(job.id(), true);
                }
                why.as_str()
            }
        };
        self.reports.line(format_args!("{why}"));
        false
    }

    /// Whether a copy of a command may be what brought this start about, where no memory tells.
    fn would_loop(&self) -> bool {
        let reason = self.board.borrow().reset_reason();
        let went_down = reason.is_crash() || reason == ResetReason::Brownout || self.boot.failed.is_some();
        went_down && !self.boot.memory.is_there()
    }

    async fn cancel(&mut self) {
        let pending = self.boot.memory.load_pending(self.flash).await.map(|pending| pending.id());
        self.boot.memory.clear_pending(self.flash).await;
        match self.drop_retry().await.or(pending) {
            Some(command) => self.cancelled(command).await,
            None => self.reports.line(format_args!("Nothing to cancel.")),
        }
    }

    /// A command is cancelled, and its copies with it.
    async fn cancelled(&mut self, command: CommandId) {
        self.reports.state(UpdateState::Cancelled);
        self.reports.line(format_args!("Update cancelled."));
        self.inbox.history.borrow_mut().given_up = Some(command);
        self.keep_history().await;
    }

    async fn update(&mut self, job: &Job, offer: &Offer<'_>) {
        let waiting = self.retry.take();
        // If its trials were counted before, they are from now on counted anew.
        self.boot.memory.end_retry(self.flash, Some(job.id())).await;
        let (inbox, reports) = (self.inbox, self.reports);
        let mut before = inbox.history.borrow().clone();
        inbox.begin(job, offer.order);
        let outcome = match select(self.prepare(job, offer), inbox.preempted(job)).await {
            Either::First(Ok(Prepared::Ready)) => self.activate().await,
            Either::First(Ok(Prepared::AlreadyRunning)) => {
                reports.state(UpdateState::Current);
                reports.line(format_args!("Already running this firmware."));
                Ok(())
            }
            Either::First(Err(failure)) => Err(failure),
            // Nothing was activated yet, so the slot's half is simply left.
            Either::Second(Preemption::Cancel) => {
                self.boot.memory.clear_pending(self.flash).await;
                self.cancelled(job.id()).await;
                Ok(())
            }
            Either::Second(Preemption::Update) => {
                reports.line(format_args!("A newer command takes over."));
                self.drop_retry().await;
                return;
            }
        };
        self.boot.memory.clear_pending(self.flash).await;
        let refused = outcome.as_ref().is_err_and(|failure| failure.refused);
        if outcome.is_err() {
            // An order is trusted once firmware has come of it: it bars all that are lower.
            inbox.history.borrow_mut().order = before.order;
        }
        if refused {
            // What was not taken replaces nothing.
            before.refused = Some(job.id());
            *inbox.history.borrow_mut() = before;
            self.retry = waiting.filter(|waiting| waiting.command != Some(job.id()));
        } else {
            self.drop_retry().await;
        }
        if let Err(failure) = outcome {
            let state = if refused { UpdateState::Refused } else { UpdateState::Failed };
            reports.fault(state, failure.code, &failure.detail);
        }
        reports.announce(self.clock, ANNOUNCE).await;
        self.keep_history().await;
    }

    /// Takes up an update again that a restart interrupted, a bounded number of times, and fewer where the restart was a crash.
    async fn resume_interrupted(&mut self) -> Option<Job> {
        let mut pending = self.boot.memory.load_pending(self.flash).await?;
        let reason = self.board.borrow().reset_reason();
        // Whoever switches a device off is no reason to give up. A dip of the voltage may be the update's own doing.
        let counts = !matches!(reason, ResetReason::PowerOn | ResetReason::Usb);
        pending.attempts = pending.attempts.saturating_add(counts.into());
        pending.crashes = pending.crashes.saturating_add(reason.is_crash().into());
        // Those in a trial have a limit of their own.
        let attempts = pending.attempts.saturating_sub(pending.power_losses);
        let end = match &pending {
            Pending { crashes: MAX_CRASHES.., .. } => {
                Some((Code::Crashed, "the update crashed this firmware again and again"))
            }
            _ if attempts > self.config.resumptions || attempts == u8::MAX => {
                Some((Code::Interrupted, "the update was interrupted too often"))
            }
            _ => None,
        };
        if let Some((code, words)) = end {
            self.forbid_copies(Some(pending.id())).await;
            self.boot.memory.clear_pending(self.flash).await;
            let failure = Failure::new(code, format_args!("{words}; publish the command again to retry"));
            self.reports.fault(UpdateState::Failed, code, &failure.detail);
            return None;
        }
        self.boot.memory.store_pending(self.flash, &pending).await;
        text::info(format_args!("update: resuming after an interruption ({attempts} that count so far)"));
        Some(Job::resumed(pending.payload))
    }
}
