//! What a URL leads to, told by its first byte: a release file or a bare image.

use core::convert::Infallible;

use embedded_storage_async::nor_flash::MultiwriteNorFlash;
use otaru_format::release::MAGIC;

use super::plan::Plan;
use super::raw::Raw;
use super::release::Release;
use super::stream::{Feeder, Place, Stop};
use super::workspace::ReleaseMemory;
use crate::http::{Restart, Sink};
use crate::memory::Candidate;
use crate::report::Reports;

enum Kind {
    Unknown,
    Raw,
    Release,
}

/// The network side: takes a download's bytes, decides whether they are wanted, and feeds the flash side.
pub(super) struct Intake<'f, 'w, 'g, F> {
    feeder: Feeder<'f>,
    plan: &'f Plan<'f>,
    reports: &'f Reports<'f>,
    place: Place<'f, 'g, F>,
    kind: Kind,
    raw: Raw,
    release: Release<'w>,
}

impl<'f, 'w, 'g, F> Intake<'f, 'w, 'g, F> {
    pub(super) fn new(
        feeder: Feeder<'f>,
        plan: &'f Plan<'f>,
        reports: &'f Reports<'f>,
        place: Place<'f, 'g, F>,
        memory: &'w mut ReleaseMemory,
    ) -> Self {
        let (raw, release) = (Raw::new(place.target.len), Release::new(memory));
        Self { feeder, plan, reports, place, kind: Kind::Unknown, raw, release }
    }

    /// Whether the image has arrived whole, by its own account. `ended` says that the file has come to its end.
    pub(super) fn is_complete(&self, ended: bool) -> bool {
        matches!(self.kind, Kind::Raw) && self.raw.is_complete(ended, self.feeder.total)
    }

    /// What to remember of the release once its image is confirmed; nothing of a bare image.
    pub(super) fn candidate(&self) -> Option<Candidate> {
        matches!(self.kind, Kind::Release).then(|| self.release.candidate()).flatten()
    }

    fn tell_progress(&self) {
        let (have, total) = match self.kind {
            Kind::Release => match self.release.progress() {
                Some(progress) => progress,
                None => return,
            },
            _ => (self.raw.received(), self.feeder.total.unwrap_or(0)),
        };
        if total > 0 {
            let percent = u64::from(have) * 100 / u64::from(total);
            self.reports.progress(u8::try_from(percent.min(100)).unwrap_or(100));
        }
    }
}

impl<F: MultiwriteNorFlash> Intake<'_, '_, '_, F> {
    /// Everything is here: makes the image of it where that is still to be done, hands the last buffer over, and leaves it
    /// to the flash side to tell how that went.
    pub(super) async fn end(&mut self) -> Result<Infallible, Stop> {
        match self.kind {
            Kind::Release => {
                self.release.finish(&mut self.feeder, self.place, self.reports).await?;
            }
            _ => self.raw.finish(self.plan, &mut self.feeder).await?,
        }
        core::future::pending().await
    }
}

impl<F: MultiwriteNorFlash> Sink for Intake<'_, '_, '_, F> {
    type Error = Stop;

    async fn begin(&mut self, total: Option<u32>) -> Result<(), Stop> {
        if !matches!(self.kind, Kind::Release) {
            self.feeder.total = total;
        }
        Ok(())
    }

    async fn data(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Stop> {
        if let (Kind::Unknown, Some(first)) = (&self.kind, bytes.first()) {
            self.kind = if *first == MAGIC[0] { Kind::Release } else { Kind::Raw };
        }
        match self.kind {
            Kind::Release => {
                let before = self.release.damage();
                let taken = self.release.take(offset, bytes, self.plan, &mut self.feeder, self.place).await;
                let (count, block) = self.release.damage();
                if count > before.0 {
                    self.reports.line(format_args!("Block {block} arrived damaged."));
                }
                taken?;
            }
            _ => self.raw.take(bytes, self.plan, &mut self.feeder, self.reports).await?,
        }
        self.tell_progress();
        Ok(())
    }

    async fn restart(&mut self, why: Restart) -> Result<(), Stop> {
        if matches!((&self.kind, why), (Kind::Release, Restart::NoRanges)) {
            // What is known of the file still holds; the bytes that are here are passed over.
            return Ok(());
        }
        self.kind = Kind::Unknown;
        self.raw.restart();
        self.release.restart();
        self.feeder.seek(0).await;
        Ok(())
    }
}
