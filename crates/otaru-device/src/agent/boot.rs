//! The first thing a firmware does: arm the watchdog, and count a trial boot or go back to the old image.
//!
//! Call [`begin`] before anything that could crash. A bootloader built without roll back support starts a
//! new image for ever; this is what brings the old one back then.

use core::time::Duration;

use embedded_storage_async::nor_flash::MultiwriteNorFlash;
use heapless::String;
use otaru_format::digest::Digest;
use otaru_format::image::{HEAD_LEN, Head};

use crate::board::Board;
use crate::config::Config;
use crate::memory::Memory;
use crate::report::Identity;
use crate::slots::{FailedTrial, READ_BACK, Region, Slot, SlotError, Slots, Trial, TrialCause, verify};
use crate::text;

/// Starts of one image on trial that may end for an outside reason. One whose radio draws more than the supply gives would otherwise
/// start for ever.
pub(super) const MAX_POWER_LOSSES: u8 = 20;

/// The shortest time of the watchdog: the longest erase stands still for two seconds, four times over.
const WATCHDOG: Duration = Duration::from_secs(8);

/// Findings of a boot on flash.
#[derive(Debug)]
pub struct Boot {
    pub(crate) slots: Slots,
    pub(crate) memory: Memory,
    pub(crate) trial: Option<Trial>,
    pub(crate) failed: Option<FailedTrial>,
    pub(crate) project: String<32>,
    /// Product of the release that runs or was confirmed last, or else the project.
    product: String<32>,
    pub(crate) version: String<32>,
    /// SHA-256 of the running image's first bytes, header and descriptor.
    pub(crate) head: Digest,
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

    /// Returns the slot this image runs from.
    pub const fn slot(&self) -> Slot {
        self.slots.running()
    }

    /// Returns the region for the firmware's own settings, if the layout has room for them; see [`Slots::settings`].
    pub fn settings(&self) -> Option<Region> {
        self.slots.settings()
    }

    /// The product that firmware must be for; empty when nothing tells it.
    pub(crate) fn product<'b>(&'b self, config: &Config<'b>) -> &'b str {
        config.product.unwrap_or(&self.product)
    }

    async fn find_product<F: MultiwriteNorFlash>(&mut self, flash: &mut F, head: &[u8]) {
        let brought = self.memory.load_candidate(flash).await.filter(|release| release.image == self.image);
        let product = match brought {
            Some(release) => Some(release.product),
            None => self.memory.load_guards(flash).await.map(|guards| guards.product),
        };
        self.product = product.filter(|product| !product.is_empty()).unwrap_or_else(|| {
            let descriptor = Head::parse(head).ok().and_then(|head| head.descriptor);
            let name = descriptor.and_then(|descriptor| descriptor.product()).unwrap_or_default();
            text::cut(name)
        });
    }

    /// Returns who reports; `trusts` names the CAs that are trusted over TLS.
    pub(crate) fn identity<'a>(
        &self,
        config: &Config<'a>,
        board: &impl Board,
        trusts: &'a str,
    ) -> Identity<'a> {
        Identity {
            device: config.device,
            trusts,
            chip: board.chip().name(),
            project: self.project.clone(),
            product: text::cut(self.product(config)),
            version: self.version.clone(),
            image: self.image,
            slot: self.slots.running().number(),
            boot: board.reset_reason().as_str(),
        }
    }
}

/// Arms the watchdog, which from then on must be fed and is by the running agent, and looks at the slots. The board may
/// come with it armed, as it should. During a trial it counts the boot; after one boot too many it
/// rolls back and restarts, and does not return. Boots that power, brownout or USB ended are counted apart, and bar nothing.
///
/// # Errors
/// Returns an error if the flash cannot be read or written, if the partition table does not have two OTA slots, if this program
/// runs from none of its partitions, or if the chip encrypts its flash. The watchdog is armed even then: feed it while
/// reporting the error. [`SlotError::is_lasting`] tells whether a restart may help.
pub async fn begin<F: MultiwriteNorFlash, B: Board>(
    flash: &mut F,
    board: &mut B,
    config: &Config<'_>,
) -> Result<Boot, SlotError<F::Error>> {
    board.arm_watchdog(config.watchdog.max(WATCHDOG));
    if board.encrypts_flash() {
        return Err(SlotError::Encrypted);
    }
    let slots = Slots::open(flash, board.running_address()).await?;
    let trial = slots.trial(flash).await?;
    if let Some(trial) = &trial {
        let last = board.reset_reason();
        let cause = match last.is_outside() {
            true if trial.outside + 1 >= MAX_POWER_LOSSES => Some(TrialCause::PowerLoss { last }),
            false if trial.boots >= config.trial_boots => Some(TrialCause::TooManyBoots { last }),
            _ => None,
        };
        if let Some(cause) = cause.filter(|_| !trial.helped) {
            slots.retire(flash, cause).await?;
            board.reset().await;
        }
        slots.count_boot(flash, last).await?;
    }
    let failed = slots.failed_trial(flash).await?;
    let memory = Memory::open(slots.memory(), slots.guards());
    let region = slots.region(slots.running());
    let mut head = [0; HEAD_LEN];
    flash.read(region.offset, &mut head).await.map_err(SlotError::Flash)?;
    let mut boot = Boot {
        slots,
        memory,
        trial,
        failed,
        project: String::new(),
        product: String::new(),
        version: String::new(),
        head: Digest::of(&head),
        secure_version: 0,
        image: Digest::ZERO,
    };
    if let Some(descriptor) = Head::parse(&head).ok().and_then(|head| head.descriptor) {
        boot.project = text::cut(descriptor.project());
        boot.version = text::cut(descriptor.version());
        boot.secure_version = descriptor.secure_version();
    }
    let mut buf = [0; READ_BACK];
    if let Ok(summary) = verify(flash, &region, &mut buf).await {
        boot.image = summary.digest;
    }
    boot.find_product(flash, &head).await;
    board.feed_watchdog();
    Ok(boot)
}
