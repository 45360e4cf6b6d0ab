//! Faults, a program's own and nobody's: a broker that is away, a crash in an update, a program that
//! lets nothing else run.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::limits::{START, UPDATE};
use super::story::{Run, Shown, said};

/// Time for which a device is watched that must stay as it is.
const STAYS: Duration = Duration::from_secs(30);
/// Crashed starts after which an update is given up.
const CRASHES: usize = 3;

impl Run {
    /// The broker is away when a new image starts: the old one returns and says so, and the image is not barred.
    pub(super) fn broker_away_in_a_trial(&mut self) -> Result<Shown> {
        self.cold_start()?;
        let start = Instant::now();
        let before = self.broker.last().context("no report")?.version;
        let update = &self.images.impatient;
        self.publish(update.file)?;
        self.wait_line(UPDATE, "the trial", &["otaru-firmware", update.version])?;
        self.broker.stop();
        self.wait_line(UPDATE, "the end of the trial", &["Rolling back"])?;
        self.machine.mark();
        self.wait_line(START, "the old image", &["otaru-firmware", &before])?;
        self.broker.start_again()?;
        let update = &self.images.impatient;
        let status = self.wait(START, "the old image's report", |status| {
            status.version == before && !status.error_code.is_empty()
        })?;
        ensure!(status.error_code == "unreachable", "the error is {:?}", status.error_code);
        said(
            start,
            &format!("{} went back, as the broker was away: {}", update.version, status.error_detail),
        );
        let start = Instant::now();
        let status = self.update_to(update)?;
        said(start, &format!("{} is no worse for it: updated to it and confirmed", status.version));
        Ok(Shown::Yes)
    }

    /// The running image crashes whenever an update has come far. That must end, and the device stay up. It spoils the
    /// flash, so it works on a copy.
    pub(super) fn crashes_in_an_update(&mut self) -> Result<Shown> {
        let aside = self.put_aside()?;
        self.cold_start()?;
        let version = self.images.impatient.version;
        if self.broker.last().is_none_or(|status| status.version != version) {
            self.update_to(&self.images.impatient)?;
            self.cold_start()?;
        }
        let start = Instant::now();
        self.publish(self.images.second.file)?;
        let status =
            self.wait(UPDATE, "the end of an update that crashes", |status| status.state == "failed")?;
        ensure!(status.error_code == "crashed", "the error is {:?}", status.error_code);
        ensure!(status.version == version, "{} runs", status.version);
        let crashes = self.crashes()?;
        ensure!(crashes == CRASHES, "{crashes} crashes before the update was given up, instead of {CRASHES}");
        let another = self.broker.wait(STAYS, |status| status.state != "failed")?;
        ensure!(another.is_none(), "something was begun again: {another:?}");
        ensure!(self.crashes()? == CRASHES, "it crashed again");
        said(start, &format!("given up after {crashes} crashes in it: {}", status.error_detail));
        self.take_back(&aside)?;
        Ok(Shown::Yes)
    }

    fn crashes(&self) -> Result<usize> {
        Ok(self.machine.console_since_mark()?.matches("panicked: ").count())
    }

    /// A new image's health check lets nothing else run: the watchdog ends it, and the old image returns.
    pub(super) fn check_that_blocks(&mut self) -> Result<Shown> {
        self.back_to_the_first()?;
        let start = Instant::now();
        let update = &self.images.blocking_check;
        self.publish(update.file)?;
        let status = self.wait(2 * UPDATE, "the roll back", |status| status.state == "rolled_back")?;
        ensure!(status.error_code == "watchdog", "the roll back's error is {:?}", status.error_code);
        ensure!(status.failed_version == update.version, "{:?} failed", status.failed_version);
        said(
            start,
            &format!("a health check that blocks was ended by the watchdog: {}", status.error_detail),
        );
        Ok(Shown::Yes)
    }

    /// A confirmed image lets nothing else run: the watchdog resets it.
    pub(super) fn program_that_blocks(&mut self) -> Result<Shown> {
        let aside = self.put_aside()?;
        self.cold_start()?;
        let start = Instant::now();
        self.update_to(&self.images.blocking)?;
        self.wait_line(UPDATE, "the hang", &["hanging on purpose"])?;
        let hung = Instant::now();
        let status = self.wait(UPDATE, "a start after the hang", |status| status.boot == "watchdog")?;
        let after = hung.elapsed().as_secs_f64();
        ensure!(status.version == self.images.blocking.version, "{} runs", status.version);
        ensure!(status.confirmed, "it is on trial again");
        said(
            start,
            &format!("{}, confirmed, hung; reset and online again {after:.1} s later", status.version),
        );
        self.take_back(&aside)?;
        Ok(Shown::Yes)
    }

    /// The first firmware runs and has its broker, whatever was before.
    pub(super) fn back_to_the_first(&mut self) -> Result<()> {
        self.machine.cut()?;
        self.broker.start_again()?;
        std::fs::copy(&self.images.flash, self.machine.flash())?;
        self.cold_start()
    }
}
