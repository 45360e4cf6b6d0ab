//! Fetching what a URL leads to, told by its first byte: a release file (`release.rs`) or a bare image (`raw.rs`).

use embedded_nal_async::{Dns, TcpConnect};
use embedded_storage_async::nor_flash::MultiwriteNorFlash;
use otaru_format::digest::Digest;
use otaru_format::release::MAGIC;

use super::failure::Reason;
use super::plan::Plan;
use super::stream::{Feeder, SlotLayout};
use super::workspace::ReleaseMemory;
use crate::board::Clock;
use crate::http::{FetchError, Need, RemoteFile, RetryPolicy};
use crate::memory::Candidate;
use crate::report::Reports;

/// A download on its way from its server to the flash side.
pub(super) struct Fetch<'f, 'g, N: TcpConnect, C, P, F> {
    pub(super) file: RemoteFile<'f, N, C, P>,
    pub(super) feeder: Feeder<'f>,
    pub(super) plan: &'f Plan<'f>,
    pub(super) reports: &'f Reports<'f>,
    pub(super) layout: SlotLayout<'f, 'g, F>,
    /// Bad blocks so far.
    pub(super) bad_blocks: u8,
}

/// An image that was fetched.
pub(super) struct Fetched {
    /// `None` when it is the one that runs; then nothing was written.
    pub(super) image: Option<Digest>,
    /// Facts to remember of the release that brought it, if one did, once the image is confirmed.
    pub(super) release: Option<Candidate>,
}

impl<N, C, P, F> Fetch<'_, '_, N, C, P, F>
where
    N: TcpConnect + Dns,
    C: Clock,
    P: RetryPolicy,
    F: MultiwriteNorFlash,
{
    /// Fetches the image and hands all of it over to the flash side. A file that changes meanwhile is begun again, a bounded number
    /// of times.
    pub(super) async fn run(&mut self, memory: &mut ReleaseMemory) -> Result<Fetched, Reason> {
        loop {
            let end = match self.file.fill(Need::More).await {
                Ok(_) if self.is_release() => self.fetch_release(memory).await,
                Ok(_) => self.fetch_raw().await,
                Err(error) => Err(error.into()),
            };
            if !matches!(end, Err(Reason::Fetch(FetchError::StartOver))) {
                self.file.close();
                return end;
            }
            self.feeder.seek(0).await;
        }
    }

    /// Returns whether the file is a release, now that its first byte is here.
    fn is_release(&mut self) -> bool {
        let is_release = self.file.piece().first() == Some(&MAGIC[0]);
        self.file.set_checked(is_release);
        is_release
    }

    /// Reports progress: bytes of the image that are here or on their way, of how many there will be.
    pub(super) fn tell_progress(&self, have: u32, total: u32) {
        if total > 0 {
            let percent = u64::from(have) * 100 / u64::from(total);
            self.reports.progress(u8::try_from(percent.min(100)).unwrap_or(100));
        }
    }
}
