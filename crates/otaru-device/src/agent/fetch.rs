//! Fetching what a URL leads to, told by its first byte: a release file (`release.rs`) or a bare image (`raw.rs`).

use otaru_format::digest::Digest;
use otaru_format::release::{HEADER_LEN, MAGIC, MAX_ENVELOPE};

use super::failure::Reason;
use super::plan::Plan;
use super::retries::Retries;
use super::stream::{Feeder, SlotLayout};
use super::workspace::ReleaseMemory;
use crate::http::{FetchError, Need, RemoteFile};
use crate::memory::Candidate;
use crate::platform::Platform;
use crate::report::Reports;

/// Bytes of a file that tell what else of it is wanted: a release's, at most.
const FRONT: u32 = (HEADER_LEN + MAX_ENVELOPE) as u32;

/// The file that is fetched, over as many attempts as the configuration allows.
type File<'f, P> = RemoteFile<
    'f,
    <P as Platform>::Net,
    <P as Platform>::Tls,
    <P as Platform>::Clock,
    Retries<'f, <P as Platform>::Clock, <P as Platform>::Rng>,
>;

/// A download on its way from its server to the flash side.
pub(super) struct Fetch<'f, 'g, P: Platform> {
    pub(super) file: File<'f, P>,
    pub(super) feeder: Feeder<'f>,
    pub(super) plan: &'f Plan<'f>,
    pub(super) reports: &'f Reports<'f>,
    pub(super) layout: SlotLayout<'f, 'g, P::Flash>,
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

impl<P: Platform> Fetch<'_, '_, P> {
    /// Fetches the image and hands all of it over to the flash side. A file that changes meanwhile is begun again, a bounded number
    /// of times.
    pub(super) async fn run(&mut self, memory: &mut ReleaseMemory) -> Result<Fetched, Reason> {
        loop {
            self.file.set_end(FRONT);
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
