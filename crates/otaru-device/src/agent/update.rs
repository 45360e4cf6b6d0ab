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
use super::stream::{self, Feeder, Pipe, Place, SharedFlash, Stop};
use super::{ANNOUNCE, Failure, Worker};
use crate::backoff::Backoff;
use crate::board::{Board, Clock, Health};
use crate::http::{Download, FetchError};
use crate::job::Job;
use crate::memory::Pending;
use crate::report::Reports;
use crate::slots::{READ_BACK, Region, SlotWriter, verify};
use crate::timeout::millis;
use crate::uplink::Uplink;

/// HTTP headers must fit here; body bytes pass through it too.
const HTTP_BUFFER: usize = 2048;
/// Progress that makes the count of failed attempts start again, in bytes.
const HEADWAY: u32 = 64 * 1024;
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
        Barred::refuse(barred.as_ref(), offer.image)?;
        let verified = self.remember(job).await;
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
            Barred::refuse(failed.as_ref(), Some(digest))?;
        }
        self.boot.memory.mark_verified(self.flash, digest).await;
        Ok(Prepared::Ready)
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
        let earlier = earlier.filter(|pending| pending.payload == job.payload);
        let pending = Pending {
            payload: job.payload.clone(),
            attempts: earlier.as_ref().map_or(0, |pending| pending.attempts.saturating_add(1)),
            verified: earlier.and_then(|pending| pending.verified),
        };
        self.boot.memory.store_pending(self.flash, &pending).await;
        pending.verified
    }

    /// The image may stand in the slot already: after a lost trial, or when two commands name it.
    async fn already_in_slot(&mut self, wanted: Option<Digest>) -> Option<Digest> {
        let wanted = wanted?;
        let region = self.boot.slots.region(self.boot.slots.target());
        let mut buf = [0; READ_BACK];
        let summary = verify(self.flash, &region, &mut buf).await.ok()?;
        if summary.digest != wanted {
            return None;
        }
        // What is not to run is left to the fetch to refuse.
        self.keep_secure_version(&region, &mut buf).await.ok().map(|()| wanted)
    }

    /// Reads the slot back and checks it as the bootloader will.
    async fn verify_slot(&mut self, streamed: Digest) -> Result<Digest, Failure> {
        self.reports.state(UpdateState::Verifying);
        let region = self.boot.slots.region(self.boot.slots.target());
        let mut buf = [0; READ_BACK];
        let summary = verify(self.flash, &region, &mut buf).await.map_err(|error| {
            Failure::new(Code::Flash, format_args!("what was written reads back wrong: {error}"))
        })?;
        if summary.digest != streamed {
            return Err(Failure::new(Code::Flash, format_args!("what was written reads back different")));
        }
        self.keep_secure_version(&region, &mut buf).await?;
        Ok(summary.digest)
    }

    /// The secure version of what stands in the slot: a manifest only says what it is.
    async fn keep_secure_version(
        &mut self,
        region: &Region,
        buf: &mut [u8; READ_BACK],
    ) -> Result<(), Failure> {
        let head = &mut buf[..HEAD_LEN];
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
        let plan = Plan {
            chip: self.board.borrow().chip(),
            project: (!self.config.allow_other_product && !offer.force && !self.boot.project.is_empty())
                .then_some(self.boot.project.as_str()),
            offered: offer.image,
            running: Running {
                image: self.boot.image,
                elf: self.boot.elf,
                version: &self.boot.version,
                secure_version: self.boot.secure_version,
            },
            barred,
            slot_len: region.len,
            keys: self.config.keys,
            allow_unsigned: self.config.allow_unsigned,
            allow_downgrade: self.config.allow_downgrade,
            trusted: self.boot.memory.load_trusted(self.flash).await,
        };
        let mut pipe = Pipe::new();
        let mut channel = pipe.channel();
        let (sender, receiver) = channel.split();
        let flash = SharedFlash::new(&mut *self.flash);
        let running = self.boot.slots.region(self.boot.slots.running());
        let place = Place { flash: &flash, target: region, running };
        let mut intake = Intake::new(Feeder::new(sender), &plan, self.reports, place, self.workspace);
        let way = Way {
            net: self.net,
            clock: self.clock,
            config: self.config,
            reports: self.reports,
            uplink: self.uplink,
        };
        let mut writer = SlotWriter::new(region);
        let outcome = {
            let fetch = fetch(way, self.rng, offer.url, &mut intake);
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
    intake: &mut Intake<'_, '_, '_, F>,
) -> Result<Infallible, Stop> {
    let Way { net, clock, config, reports, uplink } = way;
    let mut buffer = [0; HTTP_BUFFER];
    let mut download = Download::new(net, clock, config.http, url)
        .map_err(|error: FetchError<Stop>| Failure::refusal(error.code(), format_args!("{error}")))?;
    let mut backoff = Backoff::new(config.retry);
    let mut attempt: u8 = 1;
    let mut furthest = 0;
    loop {
        uplink.wait(clock).await;
        let end = match download.run(&mut buffer, intake).await {
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
        attempt = if uplink.is_up() { attempt.saturating_add(1) } else { 1 };
        let pause = match error.retry_after() {
            Some(asked) => asked.min(LONGEST_RETRY_AFTER),
            None => backoff.pause(rng),
        };
        log::warn!("download: {error}; attempt {attempt} in {} ms", millis(pause));
        let failure = Failure::new(error.code(), format_args!("{error}; retrying"));
        reports.fault(UpdateState::Retrying, failure.code, &failure.detail);
        reports.attempt(attempt);
        clock.sleep(pause).await;
    }
}
