//! The way of an update from a command to the restart: plan, fetch, write, verify, activate.

use core::convert::Infallible;
use core::pin::pin;

use embassy_futures::select::{Either, select};
use embedded_storage_async::nor_flash::{MultiwriteNorFlash, ReadNorFlash};
use otaru_format::command::Offer;
use otaru_format::digest::Digest;
use otaru_format::image::HEAD_LEN;
use otaru_format::status::{Code, UpdateState};

use super::boot::Boot;
use super::failure::{Failure, Reason};
use super::fetch::{Fetch, Fetched};
use super::plan::{FailedImage, Plan, Products, Running};
use super::release::judge_slot;
use super::retries::Retries;
use super::stream::{self, Feeder, SharedFlash, SlotLayout};
use super::worker::{ANNOUNCE, Worker};
use super::workspace::Workspace;
use crate::board::{Board, Clock};
use crate::config::Config;
use crate::dial::Dialer;
use crate::http::RemoteFile;
use crate::job::Job;
use crate::memory::Pending;
use crate::platform::Platform;
use crate::report::Reports;
use crate::slots::{Region, SlotWriter, verify};
use crate::uplink::Uplink;

/// Least time between commands that are written to flash.
const COMMAND_WRITES: core::time::Duration = core::time::Duration::from_secs(10);

/// Sentence that names the way to what `force` would give, on a device that wants signatures.
const FORCE_REFUSED: &str =
    "\"force\" counts for nothing here; sign the image with a higher sequence: otaru resign --sequence";

/// Result of the preparation.
pub(super) enum Prepared {
    /// The image stands verified in the free slot.
    Ready,
    /// Nothing to do.
    AlreadyRunning,
}

impl<P: Platform> Worker<'_, P> {
    /// Everything up to activation. May be dropped at any await: nothing has been activated.
    pub(super) async fn prepare(&mut self, job: &Job, offer: &Offer<'_>) -> Result<Prepared, Failure> {
        self.reports.begin(offer.deployment);
        self.reports.line(format_args!("Starting OTA update..."));
        self.authorise(offer)?;
        if offer.image.is_some_and(|image| image == self.boot.image) {
            return Ok(Prepared::AlreadyRunning);
        }
        let verified = self.remember(job).await;
        self.settled(job);
        let Some(digest) = self.obtain(offer, verified).await? else { return Ok(Prepared::AlreadyRunning) };
        self.boot.memory.mark_verified(self.flash, digest).await;
        // An image that is tried again is told by what happens to it now.
        forget_trial(self.boot, self.flash).await?;
        if self.boot.memory.load_failed(self.flash).await.is_some_and(|failed| failed.digest == digest) {
            self.boot.memory.clear_failed(self.flash).await;
        }
        self.reach_broker().await;
        Ok(Prepared::Ready)
    }

    /// Waits, as long as it takes, until the broker accepts a report on the connection there is. Where it cannot be reached now, the
    /// new image could not prove itself either, and would be blamed for it.
    async fn reach_broker(&self) {
        self.reports.prove();
        if !self.reports.announce(self.clock, ANNOUNCE).await {
            self.reports.line(format_args!("Waiting for the broker to accept a report."));
            self.reports.until_accepted().await;
        }
    }

    /// One otadata record, then the restart. Not to be dropped half-way.
    #[expect(clippy::await_holding_refcell_ref, reason = "a reset ends everything that could want the board")]
    pub(super) async fn activate(&mut self) -> Result<(), Failure> {
        self.boot.memory.forget_sequence(self.flash).await;
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
        self.boot.memory.store_history(self.flash, &history).await;
        None
    }

    /// Remembers which commands were followed, as soon as flash may be written for that again.
    pub(super) async fn keep_history(&mut self) {
        let history = self.inbox.history.borrow().clone();
        let changed = !self.boot.memory.holds_history(self.flash, &history).await;
        self.unkept = changed && !self.pause_left().is_zero();
        if changed && !self.unkept {
            self.written = Some(self.clock.now());
            self.boot.memory.store_history(self.flash, &history).await;
        }
    }

    /// Time until flash may be written for a command again.
    pub(super) fn pause_left(&self) -> core::time::Duration {
        self.written.map_or(core::time::Duration::ZERO, |written| {
            (written + COMMAND_WRITES).saturating_sub(self.clock.now())
        })
    }

    /// Waits until flash may be written for a command again: whoever can publish commands shall not wear it out.
    async fn pace(&mut self) {
        self.clock.sleep(self.pause_left()).await;
        self.written = Some(self.clock.now());
    }

    /// Brings the image into the slot, unless it stands there or runs already (`None`).
    async fn obtain(
        &mut self,
        offer: &Offer<'_>,
        verified: Option<Digest>,
    ) -> Result<Option<Digest>, Failure> {
        let failed = self.boot.memory.load_failed(self.flash).await.map(FailedImage::from);
        let plan = Plan {
            offered: offer.image,
            failed,
            guards: self.boot.memory.load_guards(self.flash).await,
            ..Plan::of(self.config, self.boot, &*self.board.borrow(), offer.force)
        };
        let failure = |reason| plan.failure(reason);
        let slot = self.boot.slots.region(self.boot.slots.target());
        // An unsigned offer may name any old image that happens to stand in the slot.
        let known = verified.or(offer.image.filter(|_| self.config.allow_unsigned));
        // One that failed may come in a later release only, which is to be looked at.
        if let Some(image) = known.filter(|image| !plan.is_barred(*image, None))
            && stands(self.flash, slot, self.workspace.read_back(), &plan, verified.is_none(), image).await
        {
            return Ok(Some(image).filter(|image| *image != self.boot.image));
        }
        forget_trial(self.boot, self.flash).await?;
        let Self { dialer, clock, config, reports, uplink, .. } = *self;
        let context = FetchContext::<P> { dialer, clock, config, reports, uplink };
        let slots = [slot, self.boot.slots.region(self.boot.slots.running())];
        let fetched =
            fetch_and_write(context, self.rng, self.flash, self.workspace, slots, offer.url, &plan).await;
        let Fetched { image, release } = fetched.map_err(failure)?;
        if let Some(release) = &release {
            self.boot.memory.store_candidate(self.flash, release).await;
        }
        let Some(digest) = image else {
            // What runs was confirmed long ago, but maybe not by this release: it may close the way back, and revoke keys.
            self.boot.memory.learn(self.flash, self.boot.image).await;
            return Ok(None);
        };
        self.reports.state(UpdateState::Verifying);
        let verdict = match inspect(self.flash, slot, self.workspace.read_back(), &plan, false).await {
            Err(reason) => Err(reason),
            Ok(found) if found != digest => Err(Reason::ReadBack),
            Ok(_) if offer.image.is_some_and(|image| image != digest) => {
                Err(Reason::Mismatch { written: true })
            }
            Ok(_) if digest == self.boot.image => return Ok(None),
            Ok(_) => plan.admit_again(digest, release.map(|release| release.sequence)),
        };
        verdict.map(|()| Some(digest)).map_err(failure)
    }

    /// Whether this image stands in the slot, and can run here. It was admitted before.
    pub(super) async fn is_in_slot(&mut self, image: Digest) -> bool {
        let plan = Plan::of(self.config, self.boot, &*self.board.borrow(), true);
        let slot = self.boot.slots.region(self.boot.slots.target());
        stands(self.flash, slot, self.workspace.read_back(), &plan, false, image).await
    }

    /// Refuses `force` where only signatures count: whoever may publish is trusted with when, not with what.
    fn authorise(&self, offer: &Offer<'_>) -> Result<(), Failure> {
        match offer.force && !self.config.allow_unsigned {
            true => Err(Failure::refusal(Code::Unsigned, format_args!("{FORCE_REFUSED}"))),
            false => Ok(()),
        }
    }
}

impl<'p> Plan<'p> {
    /// Collects the demands of this device on any firmware. `force` lifts what a command may lift.
    fn of(config: &'p Config<'p>, boot: &'p Boot, board: &impl Board, force: bool) -> Self {
        Self {
            chip: board.chip(),
            revision: board.chip_revision(),
            flash_size: board.flash_size(),
            products: Products {
                own: boot.product(config),
                others: config.products,
                any: config.allow_other_product || force,
            },
            offered: None,
            running: Running {
                image: boot.image,
                head: boot.head,
                version: &boot.version,
                secure_version: boot.secure_version,
            },
            failed: None,
            slot_len: boot.slots.region(boot.slots.target()).len,
            keys: config.keys,
            allow_unsigned: config.allow_unsigned,
            allow_downgrade: config.allow_downgrade,
            force,
            guards: None,
        }
    }
}

/// Ends what otadata says of the last trial: the slot is about to hold something else, or to be tried anew.
async fn forget_trial<F: MultiwriteNorFlash>(boot: &Boot, flash: &mut F) -> Result<(), Failure> {
    boot.memory.forget_sequence(flash).await;
    let forgotten = boot.slots.forget_trial(flash).await;
    forgotten.map_err(|error| Failure::new(Code::Flash, format_args!("otadata: {error}")))
}

/// Downloads into the slot, unless the image is the running one; network and flash work at the same time, joined by a few buffers.
async fn fetch_and_write<P: Platform>(
    context: FetchContext<'_, P>,
    rng: &mut P::Rng,
    flash: &mut P::Flash,
    workspace: &mut Workspace,
    [target, running]: [Region; 2],
    url: &str,
    plan: &Plan<'_>,
) -> Result<Fetched, Reason> {
    let FetchContext { dialer, clock, config, reports, uplink } = context;
    let Workspace { release, pipe, http } = workspace;
    let mut channel = pipe.channel();
    let (sender, receiver) = channel.split();
    let flash = SharedFlash::new(flash);
    let retries = Retries::new(clock, config, reports, uplink, rng);
    let mut fetch = Fetch::<P> {
        file: RemoteFile::new(dialer, clock, config.http, config.hosts, url, retries, http),
        feeder: Feeder::new(sender),
        plan,
        reports,
        layout: SlotLayout { flash: &flash, target, running },
        bad_blocks: 0,
    };
    let mut writer = SlotWriter::new(target);
    let mut write = pin!(stream::drain(&flash, &mut writer, receiver));
    let fetched = match select(fetch.run(release), &mut write).await {
        Either::First(fetched) => fetched?,
        // It ends after the last byte, or in failure.
        Either::Second(end) => return Err(end.err().map_or(Reason::Flash, Reason::from)),
    };
    if fetched.image.is_some() {
        write.await?;
    }
    Ok(fetched)
}

/// Reads the slot back and checks it as the bootloader will, and by the plan: a manifest only says what an image is. `bare` says
/// that no release vouches for it.
async fn inspect<F: ReadNorFlash>(
    flash: &mut F,
    slot: Region,
    buf: &mut [u8],
    plan: &Plan<'_>,
    bare: bool,
) -> Result<Digest, Reason> {
    let summary = verify(flash, &slot, buf).await.map_err(|_| Reason::ReadBack)?;
    judge_slot(flash, slot, buf, plan).await?;
    if bare {
        plan.judge_bare(&buf[..HEAD_LEN], false)?;
    }
    Ok(summary.digest)
}

/// Whether this image stands in the slot, and passes [`inspect`].
async fn stands<F: ReadNorFlash>(
    flash: &mut F,
    slot: Region,
    buf: &mut [u8],
    plan: &Plan<'_>,
    bare: bool,
    image: Digest,
) -> bool {
    inspect(flash, slot, buf, plan, bare).await.is_ok_and(|found| found == image)
}

/// Parts of the agent that a download needs.
struct FetchContext<'w, P: Platform> {
    dialer: Dialer<'w, P::Net, P::Tls>,
    clock: &'w P::Clock,
    config: &'w Config<'w>,
    reports: &'w Reports<'w>,
    uplink: &'w Uplink,
}
