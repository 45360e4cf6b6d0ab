//! After a restart: confirm the new image, roll it back, or tell how the last one failed.

use core::convert::Infallible;

use embedded_nal_async::{Dns, TcpConnect};
use embedded_storage_async::nor_flash::MultiwriteNorFlash;
use heapless::String;
use otaru_format::digest::Digest;
use otaru_format::image::{HEAD_LEN, Head};
use otaru_format::status::{Code, UpdateState};
use rand_core::RngCore;

use super::{ANNOUNCE, Failure, Worker};
use crate::board::{Board, Clock, Health, ResetReason};
use crate::memory::Failed;
use crate::slots::{FailedTrial, TrialCause, verify};
use crate::text;
use crate::timeout::within;

impl<N, C, F, B, H, R> Worker<'_, N, C, F, B, H, R>
where
    N: TcpConnect + Dns,
    C: Clock,
    F: MultiwriteNorFlash,
    B: Board,
    H: Health,
    R: RngCore,
{
    /// Brings the device to rest on an image that is confirmed.
    pub(super) async fn settle(&mut self) {
        if self.boot.trial.is_some() {
            self.reports.confirmed(false);
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
            // Power may have gone between the confirmation and this.
            self.boot.memory.learn(self.flash, self.boot.image).await;
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
            Ok(Err(words)) => Err((TrialCause::Unhealthy, words)),
            Err(_) => Err((TrialCause::Unhealthy, text("the health check did not end in time"))),
        }
    }

    async fn confirm(&mut self) {
        if let Err(error) = self.boot.slots.confirm(self.flash).await {
            // The trial record still stands: the next boot tries again.
            self.reports.fault(
                UpdateState::Trial,
                Code::Flash,
                Failure::new(Code::Flash, format_args!("{error}")).detail.as_str(),
            );
            return;
        }
        self.board.borrow_mut().disarm_watchdog();
        self.boot.memory.learn(self.flash, self.boot.image).await;
        self.boot.memory.clear_pending(self.flash).await;
        self.reports.confirmed(true);
        self.reports.state(UpdateState::Confirmed);
        self.reports.line(format_args!("Update confirmed: running {}.", self.boot.version));
        self.reports.announce(self.clock, ANNOUNCE).await;
    }

    #[expect(clippy::await_holding_refcell_ref, reason = "a reset ends everything that could want the board")]
    async fn roll_back(&mut self, cause: TrialCause, words: &str) -> Infallible {
        self.reports.line(format_args!("Rolling back: {words}"));
        self.reports.announce(self.clock, ANNOUNCE).await;
        self.board.borrow_mut().leave_words(words);
        if let Err(error) = self.boot.slots.retire(self.flash, cause).await {
            log::error!("roll back: {error}");
        }
        self.board.borrow_mut().reset().await
    }

    /// The old image tells why the new one is gone, the first time and after every boot until a command.
    async fn tell_failed(&mut self, trial: &FailedTrial) {
        let failed = self.find_failed(trial).await;
        if let Some(failed) = &failed {
            self.reports.failed_image(failed.version.clone(), failed.digest, failed.boots);
            self.reports.fault(UpdateState::RolledBack, failed.code, &failed.detail);
        }
        self.reports.is_sure();
        if failed.is_none() {
            return;
        }
        self.reports.announce(self.clock, ANNOUNCE).await;
        if let Err(error) = self.boot.slots.repair(self.flash).await {
            log::error!("otadata: {error}");
        }
    }

    /// What failed, as it is remembered or found out; `None` when nothing did.
    async fn find_failed(&mut self, trial: &FailedTrial) -> Option<Failed> {
        let region = self.boot.slots.region(trial.slot);
        let digest = match verify(self.flash, &region, self.workspace.read_back()).await {
            Ok(summary) => Some(summary.digest),
            Err(_) => None,
        };
        let known = self.boot.memory.load_failed(self.flash).await;
        match known.filter(|known| Some(known.digest) == digest) {
            Some(known) => Some(known),
            None => self.diagnose(trial, digest).await,
        }
    }

    /// What ended the trial; `None` when it was only power, and the update is simply begun again.
    async fn diagnose(&mut self, trial: &FailedTrial, digest: Option<Digest>) -> Option<Failed> {
        let reason = self.board.borrow().reset_reason();
        let mut words_buf = [0; 128];
        let words = self.board.borrow_mut().last_words(&mut words_buf).map(text::cut::<128>);
        let pending = self.boot.memory.load_pending(self.flash).await;
        let power = matches!(reason, ResetReason::PowerOn | ResetReason::Brownout);
        if trial.cause.is_none() && power && pending.is_some() && digest.is_some() {
            log::info!("trial: interrupted by power, not counted as a failure");
            return None;
        }
        // Where the agent counted the boots, the reset that ended the last of them is in the record.
        let last = match trial.cause {
            Some(TrialCause::TooManyBoots { last }) => last,
            _ => reason,
        };
        let code = match (trial.cause, last) {
            (Some(TrialCause::Unhealthy), _) => Code::Unhealthy,
            (Some(TrialCause::Unreachable), _) => Code::Unreachable,
            (None, _) if digest.is_none() => Code::BootloaderRejected,
            // Activated, restarted, and never started: the bootloader would not have it.
            (None, ResetReason::Software) if trial.boots == 0 => Code::BootloaderRejected,
            (_, ResetReason::Panic) => Code::Panic,
            (_, ResetReason::Watchdog) => Code::Watchdog,
            (_, ResetReason::Brownout) => Code::Brownout,
            (Some(TrialCause::TooManyBoots { .. }), _) => Code::TrialBoots,
            (_, ResetReason::PowerOn) => Code::PowerLoss,
            _ => Code::Unknown,
        };
        let text = words.as_deref().unwrap_or("no last words");
        let detail = Failure::new(
            code,
            format_args!("{text} (boots: {}, last reset: {})", trial.boots, last.as_str()),
        );
        let (version, elf) = self.describe(trial).await;
        let failed = Failed {
            digest: digest.unwrap_or(Digest::ZERO),
            elf,
            version,
            boots: trial.boots,
            code,
            detail: text::cut(&detail.detail),
        };
        self.boot.memory.store_failed(self.flash, &failed).await;
        self.boot.memory.clear_pending(self.flash).await;
        Some(failed)
    }

    async fn describe(&mut self, trial: &FailedTrial) -> (String<32>, Digest) {
        let region = self.boot.slots.region(trial.slot);
        let mut head = [0; HEAD_LEN];
        if self.flash.read(region.offset, &mut head).await.is_err() {
            return (String::new(), Digest::ZERO);
        }
        match Head::parse(&head).ok().and_then(|head| head.descriptor) {
            Some(d) => (text::cut(d.version()), d.elf_sha256()),
            None => (String::new(), Digest::ZERO),
        }
    }
}
