//! Updates that go well, and one that does not: an image, one that crashes, a signed release, a patch.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::limits::{START, UPDATE};
use super::story::{Run, said};

/// Time for which a device that has nothing to do is left alone before its memory is looked at.
const CALM: Duration = Duration::from_secs(5);

impl Run {
    pub(super) fn first_start(&mut self) -> Result<()> {
        let start = Instant::now();
        self.machine.power_on()?;
        let status =
            self.wait(START, "the first start", |status| status.version == self.images.first.version)?;
        ensure!(status.boot == "power_on", "the first start was {:?}", status.boot);
        said(start, &format!("{} is online with version {}", status.device, status.version));
        self.broker.wait(CALM, |_| false)?;
        self.look("idle", &self.images.first.elf.clone())
    }

    pub(super) fn update_and_confirm(&mut self) -> Result<()> {
        let start = Instant::now();
        self.publish(self.images.second.file)?;
        self.look_through_update("update from an image", &self.images.first.elf.clone())?;
        let status = self.confirmed(&self.images.second)?;
        ensure!(status.boot == "software", "the update's start was {:?}", status.boot);
        ensure!(self.broker.progress() > 3, "progress was reported {} times", self.broker.progress());
        self.took = start.elapsed();
        said(
            start,
            &format!("updated to {} and confirmed, {} bytes", status.version, self.images.second.image.len()),
        );
        self.console("update")
    }

    pub(super) fn crash_and_roll_back(&mut self) -> Result<()> {
        self.cold_start()?;
        let start = Instant::now();
        self.publish(self.images.crashing.file)?;
        let status = self.wait(UPDATE, "the roll back", |status| status.state == "rolled_back")?;
        ensure!(status.version == self.images.second.version, "version {} came back", status.version);
        ensure!(status.error_code == "panic", "the roll back's error is {:?}", status.error_code);
        ensure!(
            status.error_detail.contains("crashing on purpose"),
            "the panic's message is not in {:?}",
            status.error_detail
        );
        ensure!(status.failed_version == self.images.crashing.version, "{:?} failed", status.failed_version);
        said(start, &format!("{} rolled back: {}", status.failed_version, status.error_detail));
        self.console("roll-back")
    }

    pub(super) fn signed_and_compressed(&mut self) -> Result<()> {
        self.cold_start()?;
        let start = Instant::now();
        self.publish(self.images.release.file)?;
        self.look_through_update("update from a release", &self.images.second.elf.clone())?;
        let status = self.confirmed(&self.images.release)?;
        let bytes = fs::metadata(self.folder.join("www").join(self.images.release.file))?.len();
        let of = self.images.release.image.len();
        said(start, &format!("updated to {} from a signed release, {bytes} bytes for {of}", status.version));
        Ok(())
    }

    /// Goes back to the patch's base, and on again by the patch. The way back is by another version, or the patch's image
    /// would stand in the other slot still.
    pub(super) fn patched(&mut self) -> Result<()> {
        for update in [&self.images.first, &self.images.second] {
            self.update_to(update)?;
        }
        self.cold_start()?;
        let start = Instant::now();
        self.publish(self.images.delta.file)?;
        self.look_through_update("update by a patch", &self.images.second.elf.clone())?;
        let status = self.confirmed(&self.images.delta)?;
        let console = self.machine.console_since_mark()?;
        let taken = console.contains("release: a patch of") && !console.contains("release: the patch");
        ensure!(taken, "the patch was not taken, or of no use:\n{console}");
        said(start, &format!("updated to {} by a patch", status.version));
        Ok(())
    }
}
