//! The way of an update from a command to the restart: plan, fetch, write, verify, activate.

use core::convert::Infallible;

use embassy_futures::select::{Either, select};
use embedded_nal_async::{Dns, TcpConnect};
use embedded_storage_async::nor_flash::MultiwriteNorFlash;
use otaru_format::command::Offer;
use otaru_format::digest::Digest;
use otaru_format::image::HEAD_LEN;
use otaru_format::status::{Code, UpdateState};
use rand_core::RngCore;

use super::intake::Intake;
use super::plan::{self, Barred, Plan, Running};
use super::stream::{self, Feeder, Place, SharedFlash, Stop};
use super::workspace::Workspace;
use super::{ANNOUNCE, Failure, Worker};
use crate::backoff::Backoff;
use crate::board::{Board, Clock, Health};
use crate::http::{Download, FetchError};
use crate::job::Job;
use crate::memory::Pending;
use crate::report::Reports;
use crate::slots::{Region, SlotWriter, verify};
use crate::timeout::millis;
use crate::uplink::Uplink;

/// Progress that makes the count of failed attempts start again, in bytes.
const HEADWAY: u32 = 64 * 1024;
/// Least time between commands that are written to flash.
const COMMAND_WRITES: core::time::Duration = core::time::Duration::from_secs(10);
/// A server's `Retry-After` is followed up to here.
const LONGEST_RETRY_AFTER: core::time::Duration = core::time::Duration::from_secs(300);

/// How to get what `force` would give, on a device that wants signatures.
const FORCE_REFUSED: &str =
    "\"force\" counts for nothing here; sign the image with a higher sequence: otaru resign --sequence";

/// How the preparation went.
pub(super) enum Prepared {
    /// The image stands verified in the free slot.
    Ready,
    /// Nothing to do.
    AlreadyRunning,
}

impl<N, C, F, B, H, R> Worker<'_, N, C, F, B, H, R>
where
    N: TcpConnect + Dns,
    C: Clock,
    F: MultiwriteNorFlash,
    B: Board,
    H: Health,
    R: RngCore,
{
    /// Everything up to activation. May be dropped at any await: nothing has been activated.
    pub(super) async fn prepare(&mut self, job: &Job, offer: &Offer<'_>) -> Result<Prepared, Failure> {
        self.reports.begin(offer.deployment);
        self.reports.line(format_args!("Starting OTA update..."));
        self.authorise(offer)?;
        if offer.image.is_some_and(|image| image == self.boot.image) {
            return Ok(Prepared::AlreadyRunning);
        }
        let barred = match offer.force {
            true => None,
            false => self.boot.memory.load_failed(self.flash).await.map(Barred::from),
        };
        // A release may bring it again, which only its sequence can tell.
        if self.config.keys.is_empty() {
            Barred::refuse(barred.as_ref(), offer.image, 0)?;
        }
        let verified = self.remember(job).await;
        self.settled(job);
        // What an unsigned offer names may be any old image that happens to stand in the slot.
        let known = verified.or(offer.image.filter(|_| self.config.allow_unsigned));
        let digest = match self.already_in_slot(known).await {
            Some(digest) => digest,
            None => match self.fetch_and_write(offer, barred).await? {
                None => return Ok(Prepared::AlreadyRunning),
                Some(digest) => self.verify_slot(digest).await?,
            },
        };
        if digest == self.boot.image {
            return Ok(Prepared::AlreadyRunning);
        }
        if offer.image.is_some_and(|image| image != digest) {
            return Err(Failure::new(
                Code::DigestMismatch,
                format_args!("the firmware at the URL is not the image that was offered: {digest}"),
            ));
        }
        if !offer.force {
            let failed = self.boot.memory.load_failed(self.flash).await.map(Barred::from);
            let sequence = self.boot.memory.sequence_of(self.flash, digest).await;
            Barred::refuse(failed.as_ref(), Some(digest), sequence)?;
        }
        self.boot.memory.mark_verified(self.flash, digest).await;
        // An image that is tried again is told by what happens to it now.
        if self.boot.memory.load_failed(self.flash).await.is_some_and(|failed| failed.digest == digest) {
            self.boot.memory.clear_failed(self.flash).await;
        }
        self.reach_broker().await;
        Ok(Prepared::Ready)
    }

    /// Waits, as long as it takes, until the broker accepts a report on the connection there is. Where it cannot be reached now, the
    /// new image could not prove itself either, and would be blamed for it.
    async fn reach_broker(&self) {
        if !self.reports.announce(self.clock, ANNOUNCE).await {
            self.reports.line(format_args!("Waiting for the broker to accept a report."));
            self.reports.until_accepted().await;
        }
    }

    /// One otadata record, then the restart. Not to be dropped half-way.
    #[expect(clippy::await_holding_refcell_ref, reason = "a reset ends everything that could want the board")]
    pub(super) async fn activate(&mut self) -> Result<(), Failure> {
        let target = self.boot.slots.target();
        self.boot
            .slots
            .activate(self.flash, target)
            .await
            .map_err(|error| Failure::new(Code::Flash, format_args!("otadata: {error}")))?;
        self.reports.line(format_args!("Update Complete. Restarting..."));
        self.reports.state(UpdateState::Restarting);
        self.reports.announce(self.clock, ANNOUNCE).await;
        let never: Infallible = self.board.borrow_mut().reset().await;
        match never {}
    }

    /// Notes the command, so that it is taken up again after a loss of power. Gives back what was already
    /// verified for this very command.
    async fn remember(&mut self, job: &Job) -> Option<Digest> {
        let earlier = self.boot.memory.load_pending(self.flash).await;
        if let Some(earlier) = earlier.filter(|pending| pending.payload == job.payload) {
            return earlier.verified;
        }
        self.pace().await;
        let payload = job.payload.clone();
        let pending = Pending { payload, attempts: 0, crashes: 0, power_losses: 0, verified: None };
        self.boot.memory.store_pending(self.flash, &pending).await;
        let history = self.inbox.history.borrow().clone();
        self.boot.memory.keep_history(self.flash, &history).await;
        None
    }

    /// Remembers which commands were followed, if that has changed.
    pub(super) async fn keep_history(&mut self) {
        let history = self.inbox.history.borrow().clone();
        if self.boot.memory.load_history(self.flash).await != history {
            self.pace().await;
            self.boot.memory.keep_history(self.flash, &history).await;
        }
    }

    /// Waits until flash may be written for a command again: whoever can publish commands shall not wear it out.
    async fn pace(&mut self) {
        if let Some(written) = self.written {
            self.clock.sleep((written + COMMAND_WRITES).saturating_sub(self.clock.now())).await;
        }
        self.written = Some(self.clock.now());
    }

    /// The image may stand in the slot already: after a lost trial, or when two commands name it.
    pub(super) async fn already_in_slot(&mut self, wanted: Option<Digest>) -> Option<Digest> {
        let wanted = wanted?;
        let region = self.boot.slots.region(self.boot.slots.target());
        let summary = verify(self.flash, &region, self.workspace.read_back()).await.ok()?;
        if summary.digest != wanted {
            return None;
        }
        // What is not to run is left to the fetch to refuse.
        self.keep_secure_version(&region).await.ok().map(|()| wanted)
    }

    /// Reads the slot back and checks it as the bootloader will.
    async fn verify_slot(&mut self, streamed: Digest) -> Result<Digest, Failure> {
        self.reports.state(UpdateState::Verifying);
        let region = self.boot.slots.region(self.boot.slots.target());
        let summary = verify(self.flash, &region, self.workspace.read_back()).await.map_err(|error| {
            Failure::new(Code::Flash, format_args!("what was written reads back wrong: {error}"))
        })?;
        if summary.digest != streamed {
            return Err(Failure::new(Code::Flash, format_args!("what was written reads back different")));
        }
        self.keep_secure_version(&region).await?;
        Ok(summary.digest)
    }

    /// The secure version of what stands in the slot: a manifest only says what it is.
    async fn keep_secure_version(&mut self, region: &Region) -> Result<(), Failure> {
        let head = &mut self.workspace.read_back()[..HEAD_LEN];
        let read = self.flash.read(region.offset, head).await;
        read.map_err(|error| Failure::new(Code::Flash, format_args!("{error:?}")))?;
        plan::keep_secure_version(self.boot.secure_version, plan::secure_version_of(head))
    }

    /// Refuses `force` where only signatures count: whoever may publish is trusted with when, not with what.
    fn authorise(&self, offer: &Offer<'_>) -> Result<(), Failure> {
        match offer.force && !self.config.allow_unsigned {
            true => Err(Failure::refusal(Code::Unsigned, format_args!("{FORCE_REFUSED}"))),
            false => Ok(()),
        }
    }

    /// Downloads into the slot, unless the running image is offered (`None`); network and flash work at the same
    /// time, joined by a few buffers.
    async fn fetch_and_write(
        &mut self,
        offer: &Offer<'_>,
        barred: Option<Barred>,
    ) -> Result<Option<Digest>, Failure> {
        let region = self.boot.slots.region(self.boot.slots.target());
        let guards = self.boot.memory.load_guards(self.flash).await;
        let plan = Plan {
            chip: self.board.borrow().chip(),
            project: (!self.config.allow_other_product && !offer.force && !self.boot.project.is_empty())
                .then_some(self.boot.project.as_str()),
            offered: offer.image,
            running: Running {
                image: self.boot.image,
                head: self.boot.head,
                version: &self.boot.version,
                secure_version: self.boot.secure_version,
            },
            barred,
            slot_len: region.len,
            keys: self.config.keys,
            allow_unsigned: self.config.allow_unsigned,
            allow_downgrade: self.config.allow_downgrade,
            guards_lost: guards.is_none(),
            guards: guards.unwrap_or_default(),
        };
        let Workspace { release, pipe, http } = &mut *self.workspace;
        let mut channel = pipe.channel();
        let (sender, receiver) = channel.split();
        let flash = SharedFlash::new(&mut *self.flash);
        let running = self.boot.slots.region(self.boot.slots.running());
        let place = Place { flash: &flash, target: region, running };
        let mut intake = Intake::new(Feeder::new(sender), &plan, self.reports, place, release);
        let way = Way {
            net: self.net,
            clock: self.clock,
            config: self.config,
            reports: self.reports,
            uplink: self.uplink,
        };
        let mut writer = SlotWriter::new(region);
        let outcome = {
            let fetch = fetch(way, self.rng, offer.url, http, &mut intake);
            let write = stream::drain(&flash, &mut writer, receiver);
            select(fetch, write).await
        };
        let candidate = intake.candidate();
        match outcome {
            Either::First(Err(Stop::SameAsRunning)) => Ok(None),
            Either::First(Err(Stop::Failed(failure))) => Err(failure),
            Either::First(Err(Stop::Complete | Stop::Seek(_))) => {
                Err(Failure::new(Code::BadRelease, format_args!("the release ends where it should not")))
            }
            Either::First(Ok(never)) => match never {},
            Either::Second(Err(error)) => Err(Failure::new(Code::Flash, format_args!("{error}"))),
            Either::Second(Ok(digest)) => {
                if let Some(candidate) = candidate {
                    self.boot.memory.store_candidate(self.flash, &candidate).await;
                }
                Ok(Some(digest))
            }
        }
    }
}

/// What a download goes through.
struct Way<'w, N, C> {
    net: &'w N,
    clock: &'w C,
    config: &'w crate::config::Config<'w>,
    reports: &'w Reports<'w>,
    uplink: &'w Uplink,
}

/// Fetches until the body is complete, over as many attempts as make headway. Ends only in failure: success
/// is the writer's to tell.
async fn fetch<N: TcpConnect + Dns, C: Clock, F: MultiwriteNorFlash>(
    way: Way<'_, N, C>,
    rng: &mut impl RngCore,
    url: &str,
    buffer: &mut [u8],
    intake: &mut Intake<'_, '_, '_, F>,
) -> Result<Infallible, Stop> {
    let Way { net, clock, config, reports, uplink } = way;
    let mut download = Download::new(net, clock, config.http, url)
        .map_err(|error: FetchError<Stop>| Failure::refusal(error.code(), format_args!("{error}")))?;
    let mut backoff = Backoff::new(config.retry);
    let mut attempt: u8 = 1;
    let mut furthest = 0;
    loop {
        uplink.wait(clock).await;
        let end = match download.run(buffer, intake).await {
            Err(FetchError::Sink(Stop::Complete)) => match intake.end().await {
                Ok(never) => return Ok(never),
                Err(stop) => Err(FetchError::Sink(stop)),
            },
            Err(FetchError::Sink(stop)) => Err(FetchError::Sink(stop)),
            // Whole by its own account and hashes: what the server still owes is of no interest.
            _ if intake.is_complete() => return intake.end().await,
            end => end,
        };
        let error = match end {
            Err(FetchError::Sink(Stop::Seek(offset))) => {
                download.seek(offset);
                continue;
            }
            Err(FetchError::Sink(stop)) => return Err(stop),
            Ok(()) => FetchError::Truncated,
            Err(error) => error,
        };
        if download.offset() >= furthest + HEADWAY {
            furthest = download.offset();
            attempt = 0;
            backoff.reset();
        }
        if !error.is_transient() || attempt >= config.attempts {
            return Err(Failure::new(error.code(), format_args!("{error}")).into());
        }
        // While the device itself is off the network, the server has not failed.
        attempt = attempt.saturating_add(1);
        if !uplink.is_up() {
            attempt = 1;
            backoff.reset();
        }
        let pause = match error.retry_after() {
            Some(asked) => asked.min(LONGEST_RETRY_AFTER),
            None => backoff.pause(rng),
        };
        log::warn!("download: {error}; attempt {attempt} in {} ms", millis(pause));
        let failure = Failure::new(error.code(), format_args!("{error}; retrying"));
        reports.fault(UpdateState::Retrying, failure.code, &failure.detail);
        reports.attempt(attempt);
        match error.retry_after() {
            Some(_) => clock.sleep(pause).await,
            None => _ = uplink.pause(clock, pause).await,
        }
    }
}
