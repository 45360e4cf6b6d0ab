//! After a restart: confirm the new image or roll it back. What the old image then makes of it is in `aftermath.rs`.

use core::convert::Infallible;
use core::time::Duration;

use heapless::String;
use otaru_format::guards::Guards;
use otaru_format::status::{Code, UpdateState};

use super::worker::{ANNOUNCE, Worker};
use crate::board::{Board, Clock, Health, Unhealthy};
use crate::platform::Platform;
use crate::slots::TrialCause;
use crate::text;
use crate::timeout::within;

/// Pause before a confirmation is written once more that the flash did not take.
const CONFIRM_AGAIN: Duration = Duration::from_secs(60);

impl<P: Platform> Worker<'_, P> {
    /// Brings the device to rest on an image that is confirmed.
    pub(super) async fn settle(&mut self) {
        let kept = self.keep_guards().await;
        if self.boot.trial.is_some() {
            self.reports.on_trial();
            self.reports.state(UpdateState::Trial);
            match self.passes_trial().await {
                Ok(()) => self.confirm().await,
                Err((cause, words)) => {
                    self.roll_back(cause, &words).await;
                }
            }
        } else if let Some(failed) = self.boot.failed.clone() {
            self.tell_failed(&failed).await;
        } else {
            // Power may have gone between the confirmation and this. Guards that are lost are begun by a confirmation only.
            if kept {
                self.learn().await;
            }
            self.resume_retry().await;
        }
    }

    /// Mends a damaged copy of the guards, begins them on a device that is new, and tells when they are lost; says whether they are
    /// there.
    async fn keep_guards(&mut self) -> bool {
        let memory = &self.boot.memory;
        let mut guards = memory.load_guards(self.flash).await;
        let mut kept = guards.is_some();
        // As it was flashed: there is nothing to be forgotten yet.
        if !kept
            && memory.is_new(self.flash).await
            && matches!(self.boot.slots.was_updated(self.flash).await, Ok(false))
        {
            guards = Some(Guards::default());
        }
        if let Some(guards) = guards {
            kept |= memory.store_guards(self.flash, &guards).await;
        }
        self.reports.guards_lost(!kept);
        kept
    }

    /// The running image has proved good: what its release says holds from now on.
    async fn learn(&mut self) {
        if self.boot.memory.learn(self.flash, self.boot.image).await {
            self.reports.guards_lost(false);
        }
    }

    /// The new image must reach the broker and be found healthy within the deadline.
    async fn passes_trial(&mut self) -> Result<(), (TrialCause, String<64>)> {
        let deadline = self.clock.now() + self.config.trial_deadline;
        let text = text::cut;
        if !self.reports.announce(self.clock, self.config.trial_deadline).await {
            return Err((TrialCause::Unreachable, text("the new image did not reach the broker in time")));
        }
        let left = deadline.saturating_sub(self.clock.now());
        match within(self.clock, left, self.health.check()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Unhealthy(words))) => Err((TrialCause::Unhealthy, words)),
            Err(_) => Err((TrialCause::Unhealthy, text("the health check did not end in time"))),
        }
    }

    async fn confirm(&mut self) {
        // The trial stands until then, also over a restart. Nothing else may begin: a copy of the very command would end as done.
        let mut is_told = false;
        while self.boot.slots.confirm(self.flash).await.is_err() {
            if !is_told {
                self.reports.fault(
                    UpdateState::Trial,
                    Code::Flash,
                    "cannot write otadata; tried each minute",
                );
                is_told = true;
            }
            self.clock.sleep(CONFIRM_AGAIN).await;
        }
        self.learn().await;
        self.boot.memory.clear_pending(self.flash).await;
        self.boot.memory.clear_retry(self.flash).await;
        self.reports.state(UpdateState::Confirmed);
        self.reports.line(format_args!("Update confirmed: running {}.", self.boot.version));
        self.reports.announce(self.clock, ANNOUNCE).await;
    }

    #[expect(clippy::await_holding_refcell_ref, reason = "a reset ends everything that could want the board")]
    async fn roll_back(&mut self, cause: TrialCause, words: &str) -> Infallible {
        self.reports.line(format_args!("Rolling back: {words}"));
        self.reports.announce(self.clock, ANNOUNCE).await;
        self.board.borrow_mut().leave_message(words);
        if let Err(error) = self.boot.slots.retire(self.flash, cause).await {
            text::error(format_args!("roll back: {error}"));
        }
        self.board.borrow_mut().reset().await
    }
}
