//! The agent's memory over restarts: commands, images that failed, a trial that is to be repeated, and a count of the restarts.
//!
//! It stands in the `otaru` partition behind the guards, kept by `sequential-storage`, which survives a loss of power at any
//! byte. Without that partition nothing is remembered and nothing else changes. Damaged storage is erased: an update must never
//! fail because of a memory of earlier ones. A read that fails erases nothing.

use embedded_storage_async::nor_flash::NorFlash;
use heapless::{String, Vec};
use otaru_format::command::MAX_COMMAND;
use otaru_format::digest::Digest;
use otaru_format::guards::Guards;
use otaru_format::release::{KeyId, MAX_REVOKED, MAX_TEXT};
use otaru_format::status::Code;
use sequential_storage::Error;
use sequential_storage::cache::{Cache, Uncached};
use sequential_storage::map::{MapConfig, MapStorage};

use crate::guards::GuardStore;
use crate::history::{CommandId, History, Notes, SUPERSEDED};
use crate::report::Start;
use crate::slots::Region;
use crate::text;

/// Records by number, without a cache: they are read at boot and once an update.
type Map<'f, F> = MapStorage<u8, &'f mut F, Cache<Uncached, Uncached, Uncached, u8>>;

/// Longest record: a command with its header.
const RECORD: usize = MAX_COMMAND + 64;
/// First byte of every record; another layout gets another number.
const LAYOUT: u8 = 2;
const PENDING: u8 = 1;
const FAILED: u8 = 2;
const CANDIDATE: u8 = 4;
const HISTORY: u8 = 5;
const RETRY: u8 = 6;
const START: u8 = 7;
/// The line when damage is found.
const DAMAGED: &str = "memory: damaged; starting afresh";

/// The command that is being carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    /// The command's bytes.
    pub(crate) payload: Vec<u8, MAX_COMMAND>,
    /// Restarts in the middle of it.
    pub(crate) attempts: u8,
    /// Number of them that were crashes.
    pub(crate) crashes: u8,
    /// Trials of its image that a loss of power ended.
    pub(crate) power_losses: u8,
    /// The image, once it stood verified in the slot.
    pub(crate) verified: Option<Digest>,
}

/// The image that was rolled back last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    /// SHA-256 of the image; zero if it could not be read.
    pub(crate) digest: Digest,
    /// SHA-256 of the image's first bytes, header and descriptor; zero if they could not be read.
    pub(crate) head: Digest,
    /// Sequence of the release it came in; 0 for a bare image. A higher one may bring it again.
    pub(crate) sequence: u64,
    /// Version of the image.
    pub(crate) version: String<32>,
    /// Starts of the image.
    pub(crate) boots: u8,
    /// Reason of the roll back.
    pub(crate) code: Code,
    /// The sentence to that.
    pub(crate) detail: String<128>,
}

/// A release whose image was activated and is not confirmed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The image.
    pub(crate) image: Digest,
    /// The release's sequence.
    pub(crate) sequence: u64,
    /// The release's product.
    pub(crate) product: String<MAX_TEXT>,
    /// Whether a trusted key signed it. Nobody vouches for the sequence of one without a signature.
    pub(crate) signed: bool,
    /// The keys it revokes.
    pub(crate) revoked: Vec<KeyId, MAX_REVOKED>,
}

/// The last trial that ended for an outside reason, and whether its image is to be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retry {
    /// The image; it stands in the slot.
    pub(crate) image: Digest,
    /// The command that brought it.
    pub(crate) command: Option<CommandId>,
    /// Sequence of the trial's otadata record, so that each trial counts once; 0 once another trial may get the same.
    pub(crate) trial: u32,
    /// Trials so far that did not reach the broker; 0 when nothing follows from this one any more.
    pub(crate) tries: u8,
    /// Further trials that a loss of power ended, where the bootloader ends a trial then.
    pub(crate) power_losses: u8,
}

impl Retry {
    /// A trial from which nothing follows.
    pub(crate) const fn settled(image: Digest, command: Option<CommandId>, trial: u32) -> Self {
        Self { image, command, trial, tries: 0, power_losses: 0 }
    }

    /// Whether nothing follows from the trial with this sequence.
    pub(crate) const fn has_settled(&self, trial: u32) -> bool {
        self.trial == trial && self.tries == 0
    }
}

impl Pending {
    /// Identity of the command.
    pub(crate) fn id(&self) -> CommandId {
        CommandId::of(&self.payload)
    }
}

/// The agent's memory.
#[derive(Debug)]
pub(crate) struct Memory {
    region: Option<Region>,
    guards: GuardStore,
}

impl Memory {
    /// Memory and guards in these regions, as far as there are any.
    pub(crate) fn open(region: Option<Region>, guards: Option<Region>) -> Self {
        Self { region, guards: GuardStore::new(guards) }
    }

    /// Whether there is room to remember anything.
    pub(crate) fn is_there(&self) -> bool {
        self.region.is_some()
    }

    /// The guards; `None` when they are lost or there is no room for them.
    pub(crate) fn load_guards<F: NorFlash>(&self, flash: &mut F) -> impl Future<Output = Option<Guards>> {
        self.guards.load(flash)
    }

    /// Whether guards were never kept here.
    pub(crate) async fn is_new<F: NorFlash>(&self, flash: &mut F) -> bool {
        self.guards.is_new(flash).await
    }

    /// Keeps the guards, as far as they are not kept yet; says whether they are kept now.
    pub(crate) fn store_guards<F: NorFlash>(
        &self,
        flash: &mut F,
        guards: &Guards,
    ) -> impl Future<Output = bool> {
        self.guards.store(flash, guards)
    }

    /// The command to take up again, if any.
    pub(crate) async fn load_pending<F: NorFlash>(&self, flash: &mut F) -> Option<Pending> {
        let mut buf = [0; RECORD];
        let mut reader = Reader(self.load(flash, PENDING, &mut buf).await?);
        let [attempts, crashes, power_losses] = [reader.byte()?, reader.byte()?, reader.byte()?];
        let verified = reader.digest()?;
        Some(Pending {
            attempts,
            crashes,
            power_losses,
            verified: (!verified.is_zero()).then_some(verified),
            payload: Vec::from_slice(reader.0).ok()?,
        })
    }

    /// Remembers the command.
    pub(crate) async fn store_pending<F: NorFlash>(&self, flash: &mut F, pending: &Pending) {
        let mut writer = Writer::new();
        writer.put(&[pending.attempts, pending.crashes, pending.power_losses]);
        writer.put(&pending.verified.unwrap_or(Digest::ZERO).0);
        writer.put(&pending.payload);
        self.store(flash, PENDING, &writer.0).await;
    }

    /// Notes that the command's image stands verified in the slot.
    pub(crate) async fn mark_verified<F: NorFlash>(&self, flash: &mut F, digest: Digest) {
        if let Some(pending) = self.load_pending(flash).await.filter(|p| p.verified != Some(digest)) {
            self.store_pending(flash, &Pending { verified: Some(digest), ..pending }).await;
        }
    }

    /// Forgets the command.
    pub(crate) fn clear_pending<F: NorFlash>(&self, flash: &mut F) -> impl Future<Output = ()> {
        self.clear(flash, PENDING)
    }

    /// The image that failed last, if any.
    pub(crate) async fn load_failed<F: NorFlash>(&self, flash: &mut F) -> Option<Failed> {
        let mut buf = [0; RECORD];
        let mut reader = Reader(self.load(flash, FAILED, &mut buf).await?);
        Some(Failed {
            digest: reader.digest()?,
            head: reader.digest()?,
            sequence: reader.number()?,
            boots: reader.byte()?,
            code: Code::from_number(reader.byte()?),
            version: reader.text()?,
            detail: reader.text()?,
        })
    }

    /// Remembers an image that failed.
    pub(crate) async fn store_failed<F: NorFlash>(&self, flash: &mut F, failed: &Failed) {
        let mut writer = Writer::new();
        writer.put(&failed.digest.0);
        writer.put(&failed.head.0);
        writer.put(&failed.sequence.to_le_bytes());
        writer.put(&[failed.boots, failed.code.number()]);
        writer.text(&failed.version);
        writer.text(&failed.detail);
        self.store(flash, FAILED, &writer.0).await;
    }

    /// Forgets the image that failed.
    pub(crate) fn clear_failed<F: NorFlash>(&self, flash: &mut F) -> impl Future<Output = ()> {
        self.clear(flash, FAILED)
    }

    /// The release that was activated last, if any.
    pub(crate) async fn load_candidate<F: NorFlash>(&self, flash: &mut F) -> Option<Candidate> {
        let mut buf = [0; RECORD];
        let mut reader = Reader(self.load(flash, CANDIDATE, &mut buf).await?);
        Some(Candidate {
            image: reader.digest()?,
            sequence: reader.number()?,
            product: reader.text()?,
            signed: reader.byte()? != 0,
            revoked: reader.keys(),
        })
    }

    /// Remembers a release whose image is about to be tried.
    pub(crate) async fn store_candidate<F: NorFlash>(&self, flash: &mut F, candidate: &Candidate) {
        let mut writer = Writer::new();
        writer.put(&candidate.image.0);
        writer.put(&candidate.sequence.to_le_bytes());
        writer.text(&candidate.product);
        writer.put(&[candidate.signed.into()]);
        candidate.revoked.iter().for_each(|key| writer.put(&key.0));
        self.store(flash, CANDIDATE, &writer.0).await;
    }

    /// The image `confirmed` has proved good: its release's sequence, product and revocations hold from now on. Says whether guards
    /// were kept.
    pub(crate) async fn learn<F: NorFlash>(&self, flash: &mut F, confirmed: Digest) -> bool {
        let candidate = self.load_candidate(flash).await;
        let Some(candidate) = candidate.filter(|release| release.image == confirmed && release.signed) else {
            return false;
        };
        let mut guards = self.load_guards(flash).await.unwrap_or_default();
        if candidate.sequence >= guards.sequence {
            guards.sequence = candidate.sequence;
            guards.image = candidate.image;
        }
        guards.product = candidate.product;
        // There was room when the release was admitted.
        let _ = guards.revoke(candidate.revoked.into_iter());
        self.store_guards(flash, &guards).await
    }

    /// Commands that were followed.
    pub(crate) async fn load_history<F: NorFlash>(&self, flash: &mut F) -> History {
        let mut buf = [0; RECORD];
        let Some(record) = self.load(flash, HISTORY, &mut buf).await else { return History::default() };
        let mut reader = Reader(record);
        History {
            order: reader.number().unwrap_or(0),
            followed_is_retained: reader.byte().unwrap_or(0) != 0,
            followed: reader.command(),
            given_up: reader.command(),
            refused: reader.command(),
            superseded: reader.commands(),
            retained: reader.commands(),
        }
    }

    /// Whether exactly this is remembered of commands.
    pub(crate) async fn holds_history<F: NorFlash>(&self, flash: &mut F, history: &History) -> bool {
        self.holds(flash, HISTORY, &Self::history(history).0, &mut [0; RECORD]).await
    }

    /// Remembers which commands were followed.
    pub(crate) async fn store_history<F: NorFlash>(&self, flash: &mut F, history: &History) {
        self.store(flash, HISTORY, &Self::history(history).0).await;
    }

    fn history(history: &History) -> Writer {
        let mut writer = Writer::new();
        writer.put(&history.order.to_le_bytes());
        writer.put(&[history.followed_is_retained.into()]);
        writer.command(history.followed);
        writer.command(history.given_up);
        writer.command(history.refused);
        for notes in [&history.superseded, &history.retained] {
            (0..SUPERSEDED).for_each(|index| writer.command(notes.get(index).copied()));
        }
        writer
    }

    /// The trial that is to be repeated, if any.
    pub(crate) async fn load_retry<F: NorFlash>(&self, flash: &mut F) -> Option<Retry> {
        let mut buf = [0; RECORD];
        let mut reader = Reader(self.load(flash, RETRY, &mut buf).await?);
        Some(Retry {
            image: reader.digest()?,
            command: reader.command(),
            trial: reader.word()?,
            tries: reader.byte()?,
            power_losses: reader.byte()?,
        })
    }

    /// Remembers a trial that is to be repeated.
    pub(crate) async fn store_retry<F: NorFlash>(&self, flash: &mut F, retry: &Retry) {
        let mut writer = Writer::new();
        writer.put(&retry.image.0);
        writer.command(retry.command);
        writer.put(&retry.trial.to_le_bytes());
        writer.put(&[retry.tries, retry.power_losses]);
        self.store(flash, RETRY, &writer.0).await;
    }

    /// Forgets a trial that was to be repeated.
    pub(crate) fn clear_retry<F: NorFlash>(&self, flash: &mut F) -> impl Future<Output = ()> {
        self.clear(flash, RETRY)
    }

    /// Notes that no trial follows any more, of this command or, for `None`, of any.
    pub(crate) async fn end_retry<F: NorFlash>(&self, flash: &mut F, command: Option<CommandId>) {
        let retry = self.load_retry(flash).await;
        if let Some(retry) = retry.filter(|retry| command.is_none() || retry.command == command) {
            self.store_retry(flash, &Retry { tries: 0, ..retry }).await;
        }
    }

    /// Notes that otadata's sequences no longer tell the last trial from the next one.
    pub(crate) async fn forget_sequence<F: NorFlash>(&self, flash: &mut F) {
        if let Some(retry) = self.load_retry(flash).await {
            self.store_retry(flash, &Retry { trial: 0, ..retry }).await;
        }
    }

    /// Counts this start. Where that cannot be remembered, `fresh` is an epoch of its own.
    pub(crate) async fn count_start<F: NorFlash>(&self, flash: &mut F, fresh: u64) -> Start {
        let first = Start { epoch: fresh, boots: 1 };
        let next = self.load_start(flash).await.and_then(|last| {
            let boots = last.boots.checked_add(1)?;
            Some(Start { boots, ..last })
        });
        let start = next.unwrap_or(first);
        let mut writer = Writer::new();
        writer.put(&start.epoch.to_le_bytes());
        writer.put(&start.boots.to_le_bytes());
        self.store(flash, START, &writer.0).await;
        // A count that was not kept comes again after the next start, and its reports would pass for old ones.
        if self.load_start(flash).await == Some(start) { start } else { first }
    }

    async fn load_start<F: NorFlash>(&self, flash: &mut F) -> Option<Start> {
        let mut buf = [0; RECORD];
        let mut reader = Reader(self.load(flash, START, &mut buf).await?);
        Some(Start { epoch: reader.number()?, boots: reader.word()? })
    }

    /// Leaves an empty record, if there is one.
    fn clear<F: NorFlash>(&self, flash: &mut F, key: u8) -> impl Future<Output = ()> {
        self.store(flash, key, &[LAYOUT])
    }

    /// Whether this record stands there. An empty one stands where there is none.
    async fn holds<F: NorFlash>(&self, flash: &mut F, key: u8, record: &[u8], buf: &mut [u8]) -> bool {
        self.load(flash, key, buf).await.unwrap_or_default() == &record[1..]
    }

    async fn load<'b, F: NorFlash>(&self, flash: &mut F, key: u8, buf: &'b mut [u8]) -> Option<&'b [u8]> {
        let mut map = self.map(flash)?;
        match map.fetch_item::<&[u8]>(buf, &key).await {
            Ok(Some([LAYOUT, rest @ ..])) if !rest.is_empty() => Some(rest),
            Ok(_) => None,
            // The flash may do better the next time.
            Err(Error::Storage { .. }) => None,
            Err(_) => {
                text::warn(format_args!("{DAMAGED}"));
                let _ = map.erase_all().await;
                None
            }
        }
    }

    async fn store<F: NorFlash>(&self, flash: &mut F, key: u8, record: &[u8]) {
        let mut buf = [0; RECORD];
        // Flash wears out.
        if self.holds(flash, key, record, &mut buf).await {
            return;
        }
        let Some(mut map) = self.map(flash) else { return };
        match map.store_item(&mut buf, &key, &record).await {
            Ok(()) => {}
            Err(Error::Storage { .. }) => text::warn(format_args!("memory: the flash cannot be written")),
            Err(_) => {
                text::warn(format_args!("{DAMAGED}"));
                let _ = map.erase_all().await;
                let _ = map.store_item(&mut buf, &key, &record).await;
            }
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

    /// A command's identity; zero for none.
    fn command(&mut self, command: Option<CommandId>) {
        self.put(&command.map_or(0, |command| command.0).to_le_bytes());
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

    fn word(&mut self) -> Option<u32> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*word))
    }

    fn command(&mut self) -> Option<CommandId> {
        self.number().filter(|number| *number != 0).map(CommandId)
    }

    fn commands(&mut self) -> Notes {
        (0..SUPERSEDED).filter_map(|_| self.command()).collect()
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

#[cfg(test)]
mod tests;
