//! A release file: the signed manifest first, then the payload that costs least: a patch for the image that runs
//! ([`super::patch`]), or the blocks that the slot does not hold yet ([`super::frames`]).
//!
//! Nothing is erased before the signature is checked, and no block is begun before the one in front of it has
//! proved right; so what is in the slot up to the first block that does not match is good, also after a loss of
//! power, and needs no journal.

#[cfg(feature = "lzma")]
use embedded_storage_async::nor_flash::NorFlash as _;
use embedded_storage_async::nor_flash::ReadNorFlash;
use otaru_format::digest::Digest;
use otaru_format::image::HEAD_LEN;
use otaru_format::partition::{self, TABLE_OFFSET};
use otaru_format::release::{Envelope, HEADER_LEN, MAX_ENVELOPE, Manifest, envelope_len};
#[cfg(feature = "lzma")]
use otaru_format::release::{Payload, PayloadKind};
use sha2::{Digest as _, Sha256};

use super::failure::Reason;
use super::fetch::{Fetch, Fetched};
#[cfg(feature = "lzma")]
use super::frames::smallest;
#[cfg(feature = "lzma")]
use super::patch::{self, Patch};
use super::plan::{Admission, Plan};
use super::stream::CHUNK;
#[cfg(feature = "lzma")]
use super::workspace::Memory;
use super::workspace::ReleaseMemory;
use crate::http::Need;
use crate::memory::Candidate;
use crate::platform::Platform;
use crate::slots::Region;
use crate::text;

/// Bytes that flash is read by, at most.
const WORD: usize = 32;

impl<P: Platform> Fetch<'_, '_, P> {
    /// Fetches a release's image, as much of it as the slot does not hold.
    pub(super) async fn fetch_release(&mut self, memory: &mut ReleaseMemory) -> Result<Fetched, Reason> {
        let ReleaseMemory { file, memory } = memory;
        let bytes = self.read_envelope(file).await?;
        let envelope = Envelope::parse(bytes)?;
        let (manifest, admission) = self.plan.admit_release(&envelope)?;
        self.file.vouch(envelope.key_id().is_some() || self.plan.offered.is_some())?;
        let release = Some(candidate(&envelope, &manifest));
        if admission == Admission::AlreadyRunning {
            return Ok(Fetched { image: None, release });
        }
        let payloads = (HEADER_LEN + bytes.len()) as u32;
        let count = manifest.block_count();
        self.feeder.total = Some(manifest.size);
        let good = self.intact_blocks(&manifest).await?;
        if good > 0 {
            let mut flash = self.layout.flash.lock().await;
            judge_slot(&mut **flash, self.layout.target, self.feeder.buffer().await, self.plan).await?;
        }
        if good > 0 && good < count {
            text::info(format_args!("release: {good} of {count} blocks stand in the slot already"));
        }
        #[cfg(feature = "lzma")]
        let good = match self.useful_patch(&manifest, good) {
            Some((payload, stage)) => {
                self.fetch_patch(&manifest, good, (&payload, stage, payloads), memory).await?
            }
            None => good,
        };
        if good < count {
            self.fetch_blocks(&manifest, good, payloads, memory).await?;
        }
        self.feeder.finish().await;
        Ok(Fetched { image: Some(manifest.image), release })
    }

    /// Reads header and envelope, and returns the envelope's bytes.
    async fn read_envelope<'m>(
        &mut self,
        file: &'m mut [u8; HEADER_LEN + MAX_ENVELOPE],
    ) -> Result<&'m [u8], Reason> {
        let (mut have, mut end) = (0, HEADER_LEN);
        while have < end {
            let count = self.file.fill(Need::More).await?.min(end - have);
            file[have..have + count].copy_from_slice(&self.file.piece()[..count]);
            self.file.consume(count);
            have += count;
            if let (HEADER_LEN, Some(header)) = (have, file.first_chunk()) {
                end = HEADER_LEN + envelope_len(header)?.min(MAX_ENVELOPE);
            }
        }
        Ok(&file[HEADER_LEN..end])
    }

    /// Counts the blocks of the release that stand at the start of the slot.
    async fn intact_blocks(&mut self, manifest: &Manifest<'_>) -> Result<usize, Reason> {
        let mut flash = self.layout.flash.lock().await;
        let buffer = self.feeder.buffer().await;
        for (index, block) in manifest.blocks().enumerate() {
            let mut hasher = Sha256::new();
            let mut at = 0;
            while at < block.len {
                let count = (block.len - at).min(CHUNK as u32) as usize;
                // Flash is read by the word; the slot is longer than any image in it.
                let words = count.next_multiple_of(P::Flash::READ_SIZE.max(4)).min(CHUNK);
                flash
                    .read(self.layout.target.offset + block.offset + at, &mut buffer[..words])
                    .await
                    .map_err(|_| Reason::Flash)?;
                hasher.update(&buffer[..count]);
                at += count as u32;
            }
            if Digest::from_hasher(hasher) != block.hash {
                return Ok(index);
            }
        }
        Ok(manifest.block_count())
    }

    /// Returns the patch for the running image and where to keep it, if there is one that saves bytes and has room.
    #[cfg(feature = "lzma")]
    fn useful_patch<'m>(&self, manifest: &Manifest<'m>, good: usize) -> Option<(Payload<'m>, Region)> {
        let payload = delta(manifest, &self.plan.running.image).filter(|_| good < manifest.block_count())?;
        if smallest(manifest, good).is_some_and(|(_, missing)| missing <= payload.len) {
            return None;
        }
        let stage = patch::stage(self.layout.target, manifest.size, payload.len, P::Flash::ERASE_SIZE as u32);
        match stage {
            Some(_) => text::info(format_args!(
                "release: a patch of {} bytes makes this image of {}",
                payload.len, manifest.size
            )),
            None => text::info(format_args!(
                "release: no room behind the image for a patch of {} bytes",
                payload.len
            )),
        }
        Some((payload, stage?))
    }

    /// Fetches a patch and applies it; returns how many blocks stand in the slot then.
    #[cfg(feature = "lzma")]
    async fn fetch_patch(
        &mut self,
        manifest: &Manifest<'_>,
        good: usize,
        (payload, stage, payloads): (&Payload<'_>, Region, u32),
        memory: &mut Memory,
    ) -> Result<usize, Reason> {
        let named = (payload, &self.plan.running.image, payloads);
        let mut patch = Patch::open(manifest, named, stage, memory, self.layout.flash).await?;
        self.file.set_end(payloads.saturating_add(payload.end()));
        self.file.seek(patch.next_byte());
        while !patch.is_whole() {
            self.file.fill(Need::More).await?;
            let taken = patch.keep(self.file.piece(), memory, self.layout.flash).await?;
            self.file.consume(taken);
            if !patch.is_whole() {
                // To fetch it is half of the way, to apply it the other.
                let (have, len) = patch.progress();
                self.tell_progress(have, len.saturating_mul(2));
            }
        }
        self.file.close();
        let good = patch.apply(manifest, good, self.layout, memory, self.reports).await?;
        if good < manifest.block_count() {
            self.reports.line(format_args!("The patch is of no use here. Fetching the image instead."));
        }
        Ok(good)
    }
}

/// Holds the image in the slot against the plan, through `buf`.
pub(super) async fn judge_slot<F: ReadNorFlash>(
    flash: &mut F,
    slot: Region,
    buf: &mut [u8],
    plan: &Plan<'_>,
) -> Result<(), Reason> {
    let word = &mut buf[..WORD];
    flash.read(slot.offset + TABLE_OFFSET, word).await.map_err(|_| Reason::Flash)?;
    let table = word.starts_with(&partition::MAGIC);
    let head = &mut buf[..HEAD_LEN];
    flash.read(slot.offset, head).await.map_err(|_| Reason::Flash)?;
    Ok(plan.judge(head, table)?)
}

/// Collects what to remember of a release once its image is confirmed.
fn candidate(envelope: &Envelope<'_>, manifest: &Manifest<'_>) -> Candidate {
    Candidate {
        image: manifest.image,
        signed: envelope.signature().is_some(),
        sequence: manifest.sequence,
        product: text::cut(manifest.product),
        revoked: manifest.revoked().collect(),
    }
}

/// Returns the patch for an image, if there is one: no two are for the same.
#[cfg(feature = "lzma")]
fn delta<'m>(manifest: &Manifest<'m>, running: &Digest) -> Option<Payload<'m>> {
    let fits =
        |payload: &Payload<'_>| matches!(&payload.kind, PayloadKind::Delta { base } if base == running);
    manifest.payloads().find(fits)
}
