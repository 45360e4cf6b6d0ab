//! What the agent remembers over restarts: the command it is about, and the image that failed.
//!
//! It stands in the `otaru` partition, kept by `sequential-storage`, which survives a loss of power at any byte.
//! Without that partition nothing is remembered and nothing else changes. Damaged storage is erased: an
//! update must never fail because of a memory of earlier ones.

use embedded_storage_async::nor_flash::NorFlash;
use heapless::{String, Vec};
use otaru_format::command::MAX_COMMAND;
use otaru_format::digest::Digest;
use otaru_format::release::{KeyId, MAX_REVOKED};
use otaru_format::status::Code;
use sequential_storage::cache::{Cache, Uncached};
use sequential_storage::map::{MapConfig, MapStorage};

use crate::slots::Region;

/// Records by number, without a cache: they are read at boot and once an update.
type Map<'f, F> = MapStorage<u8, &'f mut F, Cache<Uncached, Uncached, Uncached, u8>>;

/// Longest record: a command with its header.
const RECORD: usize = MAX_COMMAND + 64;
/// First byte of every record; another layout gets another number.
const LAYOUT: u8 = 1;
const PENDING: u8 = 1;
const FAILED: u8 = 2;
const TRUSTED: u8 = 3;
const CANDIDATE: u8 = 4;
/// Revoked keys that are remembered.
const MAX_KEYS: usize = 4;

/// The command that is being carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Its bytes.
    pub payload: Vec<u8, MAX_COMMAND>,
    /// How often it was interrupted.
    pub attempts: u8,
    /// The image, once it stood verified in the slot.
    pub verified: Option<Digest>,
}

/// The image that was rolled back last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Its SHA-256; zero if it could not be read.
    pub digest: Digest,
    /// Its ELF's SHA-256; zero if it has none.
    pub elf: Digest,
    /// Its version.
    pub version: String<32>,
    /// How often it was started.
    pub boots: u8,
    /// Why it was rolled back.
    pub code: Code,
    /// The sentence to that.
    pub detail: String<128>,
}

/// What may not be undone by an older release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trusted {
    /// The highest sequence of a release that was confirmed here.
    pub sequence: u64,
    /// Keys that a confirmed release revoked; the first ones stay when there are too many.
    pub revoked: Vec<KeyId, MAX_KEYS>,
}

/// A release whose image was activated and is not confirmed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The image.
    pub image: Digest,
    /// The release's sequence.
    pub sequence: u64,
    /// The keys it revokes.
    pub revoked: Vec<KeyId, MAX_REVOKED>,
}

/// The agent's memory.
#[derive(Debug)]
pub struct Memory {
    region: Option<Region>,
}

impl Memory {
    /// Memory in `region`, or none.
    pub fn open(region: Option<Region>) -> Self {
        Self { region }
    }

    /// The command to take up again, if any.
    pub async fn load_pending<F: NorFlash>(&self, flash: &mut F) -> Option<Pending> {
        let mut buf = [0; RECORD];
        let mut reader = Reader(self.load(flash, PENDING, &mut buf).await?);
        let attempts = reader.byte()?;
        let verified = reader.digest()?;
        Some(Pending {
            attempts,
            verified: (!verified.is_zero()).then_some(verified),
            payload: Vec::from_slice(reader.0).ok()?,
        })
    }

    /// Remembers the command.
    pub async fn store_pending<F: NorFlash>(&self, flash: &mut F, pending: &Pending) {
        let mut writer = Writer::new();
        writer.put(&[pending.attempts]);
        writer.put(&pending.verified.unwrap_or(Digest::ZERO).0);
        writer.put(&pending.payload);
        self.store(flash, PENDING, &writer.0).await;
    }

    /// Notes that the command's image stands verified in the slot.
    pub async fn mark_verified<F: NorFlash>(&self, flash: &mut F, digest: Digest) {
        if let Some(pending) = self.load_pending(flash).await.filter(|p| p.verified != Some(digest)) {
            self.store_pending(flash, &Pending { verified: Some(digest), ..pending }).await;
        }
    }

    /// Forgets the command.
    pub async fn clear_pending<F: NorFlash>(&self, flash: &mut F) {
        if self.load_pending(flash).await.is_some() {
            self.store(flash, PENDING, &[LAYOUT]).await;
        }
    }

    /// The image that failed last, if any.
    pub async fn load_failed<F: NorFlash>(&self, flash: &mut F) -> Option<Failed> {
        let mut buf = [0; RECORD];
        let mut reader = Reader(self.load(flash, FAILED, &mut buf).await?);
        Some(Failed {
            digest: reader.digest()?,
            elf: reader.digest()?,
            boots: reader.byte()?,
            code: Code::from_number(reader.byte()?),
            version: reader.text()?,
            detail: reader.text()?,
        })
    }

    /// Remembers an image that failed.
    pub async fn store_failed<F: NorFlash>(&self, flash: &mut F, failed: &Failed) {
        let mut writer = Writer::new();
        writer.put(&failed.digest.0);
        writer.put(&failed.elf.0);
        writer.put(&[failed.boots, failed.code.number()]);
        writer.text(&failed.version);
        writer.text(&failed.detail);
        self.store(flash, FAILED, &writer.0).await;
    }

    /// What was learned of releases; nothing without a partition.
    pub async fn load_trusted<F: NorFlash>(&self, flash: &mut F) -> Trusted {
        let mut buf = [0; RECORD];
        let Some(record) = self.load(flash, TRUSTED, &mut buf).await else { return Trusted::default() };
        let mut reader = Reader(record);
        let Some(sequence) = reader.number() else { return Trusted::default() };
        Trusted { sequence, revoked: reader.keys() }
    }

    /// Remembers what was learned of releases.
    pub async fn store_trusted<F: NorFlash>(&self, flash: &mut F, trusted: &Trusted) {
        let mut writer = Writer::new();
        writer.put(&trusted.sequence.to_le_bytes());
        trusted.revoked.iter().for_each(|key| writer.put(&key.0));
        self.store(flash, TRUSTED, &writer.0).await;
    }

    /// Remembers a release whose image is about to be tried.
    pub async fn store_candidate<F: NorFlash>(&self, flash: &mut F, candidate: &Candidate) {
        let mut writer = Writer::new();
        writer.put(&candidate.image.0);
        writer.put(&candidate.sequence.to_le_bytes());
        candidate.revoked.iter().for_each(|key| writer.put(&key.0));
        self.store(flash, CANDIDATE, &writer.0).await;
    }

    /// The image `confirmed` has proved good: its release's sequence and revocations hold from now on.
    pub async fn learn<F: NorFlash>(&self, flash: &mut F, confirmed: Digest) {
        let mut buf = [0; RECORD];
        let Some(record) = self.load(flash, CANDIDATE, &mut buf).await else { return };
        let mut reader = Reader(record);
        if reader.digest() != Some(confirmed) {
            return;
        }
        let Some(sequence) = reader.number() else { return };
        let before = self.load_trusted(flash).await;
        let mut after = before.clone();
        after.sequence = after.sequence.max(sequence);
        for key in reader.keys::<MAX_REVOKED>() {
            if !after.revoked.contains(&key) {
                let _ = after.revoked.push(key);
            }
        }
        if after != before {
            self.store_trusted(flash, &after).await;
        }
    }

    async fn load<'b, F: NorFlash>(&self, flash: &mut F, key: u8, buf: &'b mut [u8]) -> Option<&'b [u8]> {
        let mut map = self.map(flash)?;
        match map.fetch_item::<&[u8]>(buf, &key).await {
            Ok(Some([LAYOUT, rest @ ..])) if !rest.is_empty() => Some(rest),
            Ok(_) => None,
            Err(error) => {
                log::warn!("memory: {error:?}; starting afresh");
                let _ = map.erase_all().await;
                None
            }
        }
    }

    async fn store<F: NorFlash>(&self, flash: &mut F, key: u8, record: &[u8]) {
        let Some(mut map) = self.map(flash) else { return };
        let mut buf = [0; RECORD];
        if let Err(error) = map.store_item(&mut buf, &key, &record).await {
            log::warn!("memory: {error:?}; starting afresh");
            let _ = map.erase_all().await;
            let _ = map.store_item(&mut buf, &key, &record).await;
        }
    }

    fn map<'f, F: NorFlash>(&self, flash: &'f mut F) -> Option<Map<'f, F>> {
        let region = self.region?;
        let config = MapConfig::try_new(region.offset..region.offset.checked_add(region.len)?).ok()?;
        Some(MapStorage::new(flash, config, Cache::new_uncached()))
    }
}

/// A record being built. What does not fit is left out; all fixed fields fit.
struct Writer(Vec<u8, RECORD>);

impl Writer {
    fn new() -> Self {
        let mut bytes = Vec::new();
        let _ = bytes.push(LAYOUT);
        Self(bytes)
    }

    fn put(&mut self, bytes: &[u8]) {
        let _ = self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        self.put(&[u8::try_from(text.len()).unwrap_or(0)]);
        self.put(text.as_bytes());
    }
}

/// A record being read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn digest(&mut self) -> Option<Digest> {
        let (digest, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(Digest(*digest))
    }

    fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    /// The rest of the record.
    fn keys<const N: usize>(&mut self) -> Vec<KeyId, N> {
        let (keys, _) = core::mem::take(&mut self.0).as_chunks();
        keys.iter().take(N).map(|key| KeyId(*key)).collect()
    }

    fn text<const N: usize>(&mut self) -> Option<String<N>> {
        let len = usize::from(self.byte()?);
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        String::try_from(core::str::from_utf8(text).ok()?).ok()
    }
}
