//! The first thing a firmware does: count a trial boot, arm the watchdog, or go back to the old image.
//!
//! Call [`begin`] before anything that could crash. A bootloader built without roll back support starts a
//! new image for ever; this is what brings the old one back then.

use core::time::Duration;

use embedded_storage_async::nor_flash::MultiwriteNorFlash;
use heapless::String;
use otaru_format::digest::Digest;
use otaru_format::image::{HEAD_LEN, Head};

use crate::board::{Board, ResetReason};
use crate::config::Config;
use crate::memory::Memory;
use crate::report::Identity;
use crate::slots::{FailedTrial, READ_BACK, Region, SlotError, Slots, Trial, TrialCause, verify};
use crate::text;

/// What a boot found on flash.
#[derive(Debug)]
pub struct Boot {
    pub(crate) slots: Slots,
    pub(crate) memory: Memory,
    pub(crate) trial: Option<Trial>,
    pub(crate) failed: Option<FailedTrial>,
    pub(crate) project: String<32>,
    pub(crate) version: String<32>,
    pub(crate) elf: Digest,
    pub(crate) secure_version: u32,
    pub(crate) image: Digest,
}

impl Boot {
    /// The running image's version, as its descriptor has it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether this boot is a trial of a new image.
    pub fn is_trial(&self) -> bool {
        self.trial.is_some()
    }

    /// The slot this image runs from: 0 or 1, or 255 for the factory partition.
    pub fn slot(&self) -> u8 {
        self.slots.running().index()
    }

    /// Where the firmware may keep its own settings, if the layout has room for them; see [`Slots::settings`].
    pub fn settings(&self) -> Option<Region> {
        self.slots.settings()
    }

    pub(crate) fn identity<'a>(&self, config: &Config<'a>, board: &impl Board) -> Identity<'a> {
        Identity {
            device: config.device,
            chip: board.chip().name(),
            project: self.project.clone(),
            version: self.version.clone(),
            image: self.image,
            slot: self.slots.running().index(),
            boot: board.reset_reason().as_str(),
        }
    }
}

/// Looks at the slots. The board may come with its watchdog armed, as it should; it is stopped once all went well
/// and this is no trial. During a trial it counts the boot and arms the watchdog; after one boot too many it
/// rolls back and restarts, and does not return. A boot that ended because power went is not held against the
/// image.
///
/// # Errors
/// When the flash cannot be read or has no partition table with two app slots.
pub async fn begin<F: MultiwriteNorFlash, B: Board>(
    flash: &mut F,
    board: &mut B,
    config: &Config<'_>,
) -> Result<Boot, SlotError<F::Error>> {
    let slots = Slots::open(flash, board.running_address()).await?;
    let trial = slots.trial(flash).await?;
    if let Some(trial) = &trial {
        let ended_by_image = board.reset_reason() != ResetReason::PowerOn;
        if !trial.helped && trial.boots >= config.trial_boots && ended_by_image {
            slots.retire(flash, TrialCause::TooManyBoots { last: board.reset_reason() }).await?;
            board.reset().await;
        }
        board.arm_watchdog(config.trial_watchdog.max(Duration::from_secs(1)));
        slots.count_boot(flash).await?;
    }
    let failed = slots.failed_trial(flash).await?;
    let memory = Memory::open(slots.memory());
    let region = slots.region(slots.running());
    let mut head = [0; HEAD_LEN];
    flash.read(region.offset, &mut head).await.map_err(SlotError::Flash)?;
    let mut boot = Boot {
        slots,
        memory,
        trial,
        failed,
        project: String::new(),
        version: String::new(),
        elf: Digest::ZERO,
        secure_version: 0,
        image: Digest::ZERO,
    };
    if let Some(descriptor) = Head::parse(&head).ok().and_then(|head| head.descriptor) {
        boot.project = text::cut(descriptor.project());
        boot.version = text::cut(descriptor.version());
        boot.elf = descriptor.elf_sha256();
        boot.secure_version = descriptor.secure_version();
    }
    let mut buf = [0; READ_BACK];
    if let Ok(summary) = verify(flash, &region, &mut buf).await {
        boot.image = summary.digest;
    }
    if boot.trial.is_none() {
        board.disarm_watchdog();
    }
    Ok(boot)
}
