//! After a trial that went wrong: the old image finds out why, tells it, and bars the new one, tries it again, or does neither.
//!
//! Barred is only what the new image did itself. Where it did not reach the broker, or power went, the cause is outside.

use embedded_storage_async::nor_flash::ReadNorFlash as _;
use heapless::String;
use otaru_format::digest::Digest;
use otaru_format::image::{HEAD_LEN, Head};
use otaru_format::status::{Code, UpdateState};

use super::boot::MAX_POWER_LOSSES;
use super::worker::{ANNOUNCE, Worker};
use crate::board::{Board, ResetReason};
use crate::memory::{Failed, Pending, Retry};
use crate::platform::Platform;
use crate::slots::{FailedTrial, TrialCause, verify};
use crate::text;

impl<P: Platform> Worker<'_, P> {
    /// The old image tells why the new one is gone, the first time and after every boot until a command.
    pub(super) async fn tell_failed(&mut self, trial: &FailedTrial) {
        let failed = self.find_failed(trial).await;
        if let Some(failed) = &failed {
            self.reports.failed_image(failed.version.clone(), failed.digest, failed.boots);
            match failed.code {
                Code::Unreachable => self.tell_unreachable(failed, trial.seq).await,
                _ => self.reports.fault(UpdateState::RolledBack, failed.code, &failed.detail),
            }
        }
        self.reports.mark_ready();
        if failed.is_none() {
            return;
        }
        self.reports.announce(self.clock, ANNOUNCE).await;
        if let Err(error) = self.boot.slots.repair(self.flash).await {
            text::error(format_args!("otadata: {error}"));
        }
    }

    /// The failure, as it is remembered or found out; `None` when there was none.
    async fn find_failed(&mut self, trial: &FailedTrial) -> Option<Failed> {
        let region = self.boot.slots.region(trial.slot);
        let digest = match verify(self.flash, &region, self.workspace.read_back()).await {
            Ok(summary) => Some(summary.digest),
            Err(_) => None,
        };
        let known = self.boot.memory.load_failed(self.flash).await;
        match known.filter(|known| Some(known.digest) == digest) {
            Some(known) => {
                // Power may have gone between this note and the other.
                let pending = self.boot.memory.load_pending(self.flash).await;
                if pending.is_some_and(|pending| pending.verified == digest) {
                    self.boot.memory.clear_pending(self.flash).await;
                }
                Some(known)
            }
            None => self.diagnose(trial, digest).await,
        }
    }

    /// Finds out what ended the trial; `None` when it was only power, and the update is simply begun again.
    async fn diagnose(&mut self, trial: &FailedTrial, digest: Option<Digest>) -> Option<Failed> {
        let reason = self.board.borrow().reset_reason();
        let memory = &self.boot.memory;
        let pending = memory.load_pending(self.flash).await;
        let command = pending.as_ref().map(Pending::id);
        let retry = memory.load_retry(self.flash).await;
        let settled = retry.as_ref().is_some_and(|retry| retry.has_settled(trial.seq));
        // Where the agent counted the boots, the reset that ended the last of them is in the record.
        let last = match trial.cause {
            Some(TrialCause::TooManyBoots { last } | TrialCause::PowerLoss { last }) => last,
            _ => reason,
        };
        let image = digest.unwrap_or(Digest::ZERO);
        // Whether the memory counts the losses of power, and not the record.
        let mut counted = false;
        // The agent did not end it, and its image is whole: a bootloader that rolls back did, or a crash.
        if trial.cause.is_none() && digest.is_some() {
            if settled {
                return None;
            }
            let retry = retry.filter(|retry| retry.image == image && retry.pause().is_some());
            let goes_on = match (pending, retry) {
                _ if !reason.is_outside() => false,
                (Some(pending), _) => {
                    counted = true;
                    self.goes_on_after_power_loss(pending, trial.seq, image).await
                }
                (None, Some(retry)) => {
                    counted = true;
                    self.waits_on_after_power_loss(retry, trial.seq).await
                }
                (None, None) => false,
            };
            if goes_on {
                text::info(format_args!("trial: interrupted by power, not counted as a failure"));
                return None;
            }
        }
        let code = code_of(trial, last, digest.is_some());
        // A bootloader that goes back at each loss of power leaves a record of one start; here the count is full.
        let boots = if counted { MAX_POWER_LOSSES } else { trial.boots };
        let (version, head) = self.describe(trial).await;
        let candidate = self.boot.memory.load_candidate(self.flash).await.filter(|c| c.image == image);
        let failed = Failed {
            digest: image,
            head,
            sequence: candidate.map_or(0, |candidate| candidate.sequence),
            version,
            boots,
            code,
            detail: self.explain(code, boots, last),
        };
        match code {
            Code::Unreachable => {}
            // Not barred, but no copy of the command is to start it over and over again.
            Code::PowerLoss if !settled => {
                self.give_up(command, Retry::settled(image, command, trial.seq)).await
            }
            Code::PowerLoss => {}
            _ => {
                self.boot.memory.store_failed(self.flash, &failed).await;
                self.boot.memory.clear_pending(self.flash).await;
            }
        }
        Some(failed)
    }

    /// Counts a trial that power ended; says whether the image gets another.
    async fn goes_on_after_power_loss(&mut self, pending: Pending, trial: u32, image: Digest) -> bool {
        let power_losses = pending.power_losses.saturating_add(1);
        if power_losses >= MAX_POWER_LOSSES {
            return false;
        }
        let command = Some(pending.id());
        self.boot.memory.store_pending(self.flash, &Pending { power_losses, ..pending }).await;
        self.boot.memory.store_retry(self.flash, &Retry::settled(image, command, trial)).await;
        true
    }

    fn explain(&mut self, code: Code, boots: u8, last: ResetReason) -> String<128> {
        let mut buf = [0; 96];
        let mut board = self.board.borrow_mut();
        let words = match code {
            Code::PowerLoss => "power went in each of its starts",
            _ => board.take_crash_message(&mut buf).unwrap_or("it left no message"),
        };
        text::format(format_args!("{words} (boots: {boots}, last reset: {})", last.as_str()))
    }

    async fn describe(&mut self, trial: &FailedTrial) -> (String<32>, Digest) {
        let region = self.boot.slots.region(trial.slot);
        let mut head = [0; HEAD_LEN];
        if self.flash.read(region.offset, &mut head).await.is_err() {
            return (String::new(), Digest::ZERO);
        }
        let descriptor = Head::parse(&head).ok().and_then(|head| head.descriptor);
        let version = descriptor.map(|descriptor| text::cut(descriptor.version()));
        (version.unwrap_or_default(), Digest::of(&head))
    }
}

/// The reason of a trial's end. `whole` says whether its slot holds a good image.
const fn code_of(trial: &FailedTrial, last: ResetReason, whole: bool) -> Code {
    match (trial.cause, last) {
        (Some(TrialCause::Unhealthy), _) => Code::Unhealthy,
        (Some(TrialCause::Unreachable), _) => Code::Unreachable,
        (Some(TrialCause::PowerLoss { .. }), _) => Code::PowerLoss,
        (None, _) if !whole => Code::BootloaderRejected,
        // Activated, restarted, and never started: the bootloader would not have it.
        (None, ResetReason::Software) if trial.boots == 0 => Code::BootloaderRejected,
        (_, ResetReason::Panic) => Code::Panic,
        (_, ResetReason::Watchdog) => Code::Watchdog,
        (Some(TrialCause::TooManyBoots { .. }), _) => Code::TrialBoots,
        (_, reason) if reason.is_outside() => Code::PowerLoss,
        _ => Code::Unknown,
    }
}
