//! CAs that were set, in flash: two banks of pieces, one for the settings that are tried, one for those that worked last. A record names
//! its bank, and what has to be found there.
//!
//! A bank is written before the record that names it, and never while the settings that worked last are in it. So power that goes leaves
//! those whole; settings that never worked may make room for the next.

use embedded_storage_async::nor_flash::NorFlash;
use sequential_storage::Error;
use sha2::{Digest as _, Sha256};

use super::{ENTERED, GOOD, ITEM, SettingsStore};
use crate::proof::Standing;
use crate::record;
use crate::settings::Settings;
use crate::trust_store::{LEN, StoredTrust, TrustStore};

/// Bytes of a piece: firmware of before, which walks over it, has a buffer for items that are hardly longer, and eight of them fill a sector.
const PIECE: usize = 496;
/// Pieces of a bank.
const PIECES: usize = LEN.div_ceil(PIECE);
const BANKS: u8 = 2;
/// Key of the first piece.
const FIRST: u8 = 64;

const _: () = assert!(PIECE < ITEM && FIRST as usize + BANKS as usize * PIECES <= 256);

/// Key of a piece.
fn key(bank: u8, piece: usize) -> Option<u8> {
    let piece = u8::try_from(piece).ok().filter(|_| bank < BANKS && piece < PIECES)?;
    Some(FIRST + bank * PIECES as u8 + piece)
}

impl<F: NorFlash> SettingsStore<'_, F> {
    /// Returns the settings whose CAs the set-up page shows: those that were entered last, unless they were given up for others that worked.
    pub async fn shown(&mut self) -> Option<Settings> {
        let (entered, good) = (self.settings(ENTERED).await.settings(), self.settings(GOOD).await.settings());
        match (entered, good) {
            (Some(_), Some(good)) if self.standing().await == Some(Standing::GivenUp) => Some(good),
            (entered, good) => entered.or(good),
        }
    }

    /// Reads what was set with these settings; `None` if it is not there, or damaged. A buffer of [`LEN`] bytes has room for it.
    pub async fn trust<'b>(&mut self, settings: &Settings, buffer: &'b mut [u8]) -> Option<TrustStore<'b>> {
        let Some(stored) = settings.trust else { return Some(TrustStore::empty(buffer)) };
        self.read(stored, Some(&mut *buffer)).await?;
        TrustStore::read(buffer, stored.len())
    }

    /// Keeps settings that were entered with what was set with them, to be tried; says whether they are there. Settings are told where it
    /// is. `spare` has [`LEN`] bytes: flash that is damaged is erased, and what worked last passes through there.
    pub async fn enter_with_trust(
        &mut self,
        settings: &mut Settings,
        trust: &TrustStore<'_>,
        spare: &mut [u8],
    ) -> bool {
        let bytes = trust.bytes();
        // Where flash does not answer nobody knows which bank is free.
        let (Ok(good), Ok(entered)) = (self.stored(GOOD).await, self.stored(ENTERED).await) else {
            return false;
        };
        let bank = match good.or(entered) {
            Some(StoredTrust { bank: 0, .. }) => 1,
            _ => 0,
        };
        let wanted = StoredTrust::new(bank, bytes);
        let mut there = None;
        for stored in [good, entered].into_iter().flatten() {
            if there.is_none() && stored.is_of(wanted) && self.read(stored, None).await.is_some() {
                there = Some(stored);
            }
        }
        settings.trust = Some(there.unwrap_or(wanted)).filter(|_| !bytes.is_empty());
        let missing = if there.is_some() { &[] } else { bytes };
        if let Err(Error::Corrupted { .. } | Error::FullStorage) =
            self.put_with_trust(settings, missing).await
        {
            self.begin_anew(settings, bytes, spare).await;
        }
        matches!(self.settings(ENTERED).await, super::Found::Settings(kept) if kept == *settings)
    }

    /// Empties the banks that neither these settings nor others are in, once these have worked: removed keys are not carried on.
    pub(super) async fn forget_others(&mut self, settings: &Settings) -> Result<(), Error<F::Error>> {
        for bank in (0..BANKS).filter(|bank| settings.trust.is_none_or(|stored| stored.bank != *bank)) {
            for key in (0..PIECES).filter_map(|piece| key(bank, piece)) {
                let mut buf = [0; ITEM];
                if self.0.fetch_item::<&[u8]>(&mut buf, &key).await?.is_some_and(|piece| !piece.is_empty()) {
                    let nothing: &[u8] = &[];
                    self.0.store_item(&mut buf, &key, &nothing).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether what was set with these settings is there.
    pub(super) async fn has_trust_of(&mut self, settings: &Settings) -> bool {
        match settings.trust {
            Some(stored) => self.read(stored, None).await.is_some(),
            None => true,
        }
    }

    /// Erases flash that is damaged, or was never used for this before, and writes settings and those that worked last.
    async fn begin_anew(&mut self, settings: &Settings, bytes: &[u8], spare: &mut [u8]) {
        let mut good = self.settings(GOOD).await.settings();
        let mut good_bytes: &[u8] = &[];
        if let Some(stored) = good.as_ref().and_then(|good| good.trust)
            && settings.trust != Some(stored)
        {
            match self.read(stored, Some(&mut *spare)).await {
                Some(()) => good_bytes = spare.get(..stored.len()).unwrap_or_default(),
                None => good = None,
            }
        }
        if self.0.erase_all().await.is_ok()
            && self.put_with_trust(settings, bytes).await.is_ok()
            && let Some(good) = good
            && self.put_bank(&good, good_bytes).await.is_ok()
        {
            let _ = self.put(GOOD, &good).await;
        }
    }

    async fn put_with_trust(&mut self, settings: &Settings, bytes: &[u8]) -> Result<(), Error<F::Error>> {
        self.put_bank(settings, bytes).await?;
        self.put_entered(settings).await
    }

    /// Writes the bank of these settings, if there is anything to write.
    async fn put_bank(&mut self, settings: &Settings, bytes: &[u8]) -> Result<(), Error<F::Error>> {
        let Some(stored) = settings.trust else { return Ok(()) };
        for (piece, bytes) in bytes.chunks(PIECE).enumerate() {
            let key = key(stored.bank, piece).ok_or(Error::ItemTooBig)?;
            self.0.store_item(&mut [0; ITEM], &key, &bytes).await?;
        }
        Ok(())
    }

    /// Reads what names a bank under a key, whether the bank is whole or not.
    async fn stored(&mut self, key: u8) -> Result<Option<StoredTrust>, Error<F::Error>> {
        let mut buf = [0; ITEM];
        match self.0.fetch_item::<&[u8]>(&mut buf, &key).await {
            Ok(record) => Ok(record.and_then(record::decode).and_then(|settings| settings.trust)),
            Err(Error::Storage { value, .. }) => Err(Error::Storage { value }),
            // Damaged: there is nothing to lose.
            Err(_) => Ok(None),
        }
    }

    /// Reads a bank into a buffer, or only looks at it; `None` unless all of it is there.
    async fn read(&mut self, stored: StoredTrust, mut buffer: Option<&mut [u8]>) -> Option<()> {
        let mut hasher = Sha256::new();
        let len = stored.len();
        for (piece, at) in (0..len).step_by(PIECE).enumerate() {
            let mut buf = [0; ITEM];
            let found = self.0.fetch_item::<&[u8]>(&mut buf, &key(stored.bank, piece)?).await.ok()??;
            if found.len() != PIECE.min(len - at) {
                return None;
            }
            hasher.update(found);
            if let Some(buffer) = &mut buffer {
                buffer.get_mut(at..at + found.len())?.copy_from_slice(found);
            }
        }
        stored.has(&hasher.finalize()).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use embassy_futures::block_on;

    use super::super::tests::{Nor, choice, kept, settings};
    use super::*;
    use crate::pem_text::der;
    use crate::proof::{Choice, PATIENCE};
    use crate::record;
    use crate::settings::NETWORKS;
    use crate::trust_store::{Change, ROOM};

    /// Bytes that the partition has for settings.
    const FLASH: usize = 16 * 1024;

    /// Settings with the longest of everything.
    fn longest(letter: char) -> Settings {
        let long = |length| letter.to_string().repeat(length);
        let mut settings = Settings::new();
        for number in 0..NETWORKS {
            settings.add_network(&format!("{number}{}", long(31)), &long(63)).unwrap();
        }
        settings.set_broker(&format!("{0}.{0}", long(31)), 8883).unwrap();
        settings.set_login(&long(64), &long(64)).unwrap();
        settings.set_name(&long(32)).unwrap();
        settings.set_topic(&long(64)).unwrap();
        settings.tls = true;
        settings
    }

    /// Four CAs and a pair that a person sets, of so many bytes together.
    fn set(byte: u8, bytes: usize) -> Vec<u8> {
        let cas: Vec<_> = (0..4).map(|ca| der(bytes / 6 - 4, byte ^ ca)).collect();
        let (certificate, key) = (der(bytes / 6 - 4, byte ^ 5), der(bytes / 6 - 4 + bytes % 6, byte ^ 6));
        let mut buffer = vec![0; LEN];
        let mut store = TrustStore::empty(&mut buffer);
        let change = Change {
            cas: cas.iter().map(Vec::as_slice).collect(),
            identity: Some((&certificate, &key)),
            ..Change::default()
        };
        store.change(&change).unwrap();
        store.bytes().to_vec()
    }

    fn enter(nor: &mut Nor, settings: &Settings, set: &[u8]) -> bool {
        let mut settings = settings.clone();
        let (mut buffer, mut spare) = (set.to_vec(), [0; LEN]);
        let store = TrustStore::read(&mut buffer, set.len()).unwrap();
        block_on(kept(nor).enter_with_trust(&mut settings, &store, &mut spare))
    }

    fn note(nor: &mut Nor, standing: Standing) -> bool {
        let Choice::Join(settings, _) = choice(nor) else { panic!("nothing to join with") };
        block_on(kept(nor).note(standing, &settings))
    }

    /// Settings that the device would join with, and what was set with them.
    fn joined(nor: &mut Nor) -> Option<(Settings, Vec<u8>)> {
        let Choice::Join(settings, _) = choice(nor) else { return None };
        let mut buffer = [0; LEN];
        let bytes = block_on(kept(nor).trust(&settings, &mut buffer)).unwrap().bytes().to_vec();
        Some((settings, bytes))
    }

    /// Host and what was set, which is how tests tell settings apart.
    fn found(nor: &mut Nor) -> Option<(String, Vec<u8>)> {
        joined(nor).map(|(settings, bytes)| (settings.host.as_str().to_owned(), bytes))
    }

    fn proven(host: &str, set: &[u8]) -> Nor {
        let mut nor = Nor::of(FLASH);
        assert!(enter(&mut nor, &settings(host), set));
        assert!(note(&mut nor, Standing::Proven));
        nor
    }

    #[test]
    fn what_was_set_is_there_and_goes_with_its_settings() {
        let (old, new) = (set(0x10, 2400), set(0x20, ROOM));
        let mut nor = proven("old", &old);
        assert_eq!(found(&mut nor), Some(("old".to_owned(), old.clone())));
        assert!(enter(&mut nor, &settings("new"), &new));
        assert_eq!(found(&mut nor), Some(("new".to_owned(), new.clone())));
        // They never work: what is trusted goes back with them.
        for minute in 1..PATIENCE {
            assert!(note(&mut nor, Standing::Tried(minute)));
        }
        assert!(note(&mut nor, Standing::GivenUp));
        assert_eq!(found(&mut nor), Some(("old".to_owned(), old.clone())));
        let shown = block_on(kept(&mut nor).shown()).unwrap();
        assert_eq!(shown.host, "old");
        // None at all is settings, too.
        assert!(enter(&mut nor, &settings("none"), &[]));
        assert_eq!(found(&mut nor), Some(("none".to_owned(), vec![])));
        assert_eq!(block_on(kept(&mut nor).shown()).unwrap().host, "none");
        assert!(note(&mut nor, Standing::GivenUp));
        assert_eq!(found(&mut nor), Some(("old".to_owned(), old)));
    }

    #[test]
    fn settings_that_never_worked_are_shown_where_there_are_no_others() {
        let mut nor = Nor::of(FLASH);
        assert_eq!(block_on(kept(&mut nor).shown()), None);
        let new = set(1, 2000);
        assert!(enter(&mut nor, &settings("new"), &new));
        assert!(note(&mut nor, Standing::GivenUp));
        assert_eq!(choice(&mut nor), Choice::SetUp { again: true });
        let shown = block_on(kept(&mut nor).shown()).unwrap();
        let mut buffer = [0; LEN];
        assert_eq!(block_on(kept(&mut nor).trust(&shown, &mut buffer)).unwrap().bytes(), new);
    }

    #[test]
    fn what_is_not_changed_is_not_written_again() {
        let old = set(0x10, ROOM);
        let mut nor = proven("old", &old);
        let before = nor.words;
        assert!(enter(&mut nor, &settings("new"), &old));
        let record = record::encode(&joined(&mut nor).unwrap().0).len();
        assert!(nor.words - before <= (record + 64) / 4, "{} words", nor.words - before);
        assert_eq!(found(&mut nor), Some(("new".to_owned(), old)));
    }

    /// Settings at their largest that are tried have room beside those that worked, wherever the last item stands, and no sector is
    /// erased out of turn.
    #[test]
    fn the_largest_of_everything_fits_for_ever() {
        let (a, b, c) = (set(0x10, ROOM), set(0x20, ROOM), set(0x30, ROOM));
        let (even, odd) = (longest('a'), longest('b'));
        let mut nor = Nor::of(FLASH);
        assert!(enter(&mut nor, &even, &a));
        assert!(note(&mut nor, Standing::Proven));
        let before = nor.erases;
        const ROUNDS: usize = 200;
        for round in 0..ROUNDS {
            let (new, bytes) = if round % 2 == 0 { (&odd, &b) } else { (&even, &a) };
            // Others are tried before, in some rounds.
            for _ in 0..round % 3 {
                assert!(enter(&mut nor, new, &c), "round {round}");
            }
            assert!(enter(&mut nor, new, bytes), "round {round}");
            // So that the next round begins somewhere else.
            for minute in 0..round as u8 % PATIENCE {
                assert!(note(&mut nor, Standing::Tried(minute)), "round {round}");
            }
            let (joined, found) = joined(&mut nor).unwrap();
            assert_eq!((joined.host.as_str(), &found), (new.host.as_str(), bytes), "round {round}");
            assert!(note(&mut nor, Standing::Proven), "round {round}");
        }
        let erases = nor.erases - before;
        assert!(nor.whole_erases == 0, "everything was erased {} times", nor.whole_erases);
        // Flash is good for 100,000 erases of each of the four sectors. An entry takes some three, and those that are tried before as many.
        assert!(erases <= 8 * ROUNDS, "{erases} erases in {ROUNDS} rounds");
        println!("{erases} erases in {ROUNDS} rounds");
    }

    #[test]
    fn power_that_goes_leaves_what_was_set_with_the_settings_that_are_found() {
        let (old, tried, new) = (set(0x10, 1500), set(0x20, 1300), set(0x30, 1700));
        for round in 0..4 {
            let mut before = proven("old", &old);
            for more in 0..round {
                assert!(enter(&mut before, &settings("between"), &set(more, ROOM)));
                assert!(enter(&mut before, &settings("old"), &old));
                assert!(note(&mut before, Standing::Proven));
            }
            for never_worked in [false, true] {
                let mut before = before.clone();
                if never_worked {
                    assert!(enter(&mut before, &settings("tried"), &tried));
                }
                for cut in 0.. {
                    let mut nor = before.clone();
                    nor.left = cut;
                    let whole = enter(&mut nor, &settings("new"), &new);
                    nor.left = usize::MAX;
                    let (host, bytes) = found(&mut nor).unwrap();
                    let good = match host.as_str() {
                        "new" => bytes == new,
                        "old" => bytes == old && !whole,
                        "tried" => never_worked && bytes == tried && !whole,
                        _ => false,
                    };
                    assert!(good, "round {round}, cut {cut}: {host}");
                    // Whatever was found can be replaced.
                    if cut % 7 == 0 || whole {
                        assert!(enter(&mut nor, &settings("last"), &tried), "round {round}, cut {cut}");
                        assert_eq!(found(&mut nor), Some(("last".to_owned(), tried.clone())));
                    }
                    if whole {
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn power_that_goes_while_settings_are_proven_takes_nothing() {
        let (old, new) = (set(0x10, 1500), set(0x20, 1700));
        let mut before = proven("old", &old);
        assert!(enter(&mut before, &settings("new"), &new));
        for cut in 0.. {
            let mut nor = before.clone();
            let Choice::Join(tried, _) = choice(&mut nor) else { panic!("nothing to join with") };
            nor.left = cut;
            let _ = block_on(kept(&mut nor).note(Standing::Proven, &tried));
            let whole = nor.left > 0;
            assert_eq!(found(&mut nor), Some(("new".to_owned(), new.clone())), "cut {cut}");
            if whole {
                break;
            }
        }
    }

    #[test]
    fn a_key_that_was_removed_is_not_carried_on() {
        let key = |nor: &Nor| nor.cells.windows(40).any(|window| window == [0x10 ^ 6; 40]);
        let mut nor = proven("old", &set(0x10, 2400));
        assert!(key(&nor));
        assert!(enter(&mut nor, &settings("none"), &[]));
        assert!(note(&mut nor, Standing::Proven));
        // Sectors are erased in turn as more is written.
        for round in 0..400 {
            assert!(note(&mut nor, Standing::Proven), "round {round}");
        }
        assert!(!key(&nor));
    }

    #[test]
    fn damage_of_what_was_set_makes_its_settings_give_way() {
        let (old, new) = (set(0x10, 2400), set(0x20, 2400));
        let mut nor = proven("old", &old);
        assert!(enter(&mut nor, &settings("new"), &new));
        let Choice::Join(tried, _) = choice(&mut nor) else { panic!("nothing to join with") };
        let stored = tried.trust.unwrap();
        for piece in 0..new.len().div_ceil(PIECE) {
            for bytes in [&[][..], &[0xEE; 9], &[0xEE; PIECE]] {
                let mut nor = nor.clone();
                let key = key(stored.bank, piece).unwrap();
                block_on(kept(&mut nor).0.store_item(&mut [0; ITEM], &key, &bytes)).unwrap();
                assert_eq!(found(&mut nor), Some(("old".to_owned(), old.clone())), "piece {piece}");
            }
        }
        // Bits that fell in flash: of any byte, whichever that is of.
        let cells = nor.cells.len();
        for at in (0..cells).step_by(37) {
            let mut nor = nor.clone();
            nor.cells[at] &= 0x5A;
            if let Some((host, bytes)) = found(&mut nor) {
                assert!(host == "new" && bytes == new || host == "old" && bytes == old, "byte {at}: {host}");
            }
            // What is written where bits fell before is read back as something else, and told; the next goes behind it.
            assert!(
                enter(&mut nor, &settings("last"), &new) || enter(&mut nor, &settings("last"), &new),
                "byte {at}"
            );
            assert_eq!(found(&mut nor), Some(("last".to_owned(), new.clone())), "byte {at}");
        }
        // A bank that this firmware has not.
        let mut bytes = stored.to_bytes();
        bytes[0] = 2;
        let elsewhere = Settings { trust: StoredTrust::from_bytes(&bytes), ..tried };
        block_on(kept(&mut nor).put(ENTERED, &elsewhere)).unwrap();
        assert_eq!(found(&mut nor), Some(("old".to_owned(), old)));
    }

    #[test]
    fn flash_that_was_used_for_something_else_is_begun_anew() {
        let new = set(0x20, ROOM);
        let mut nor = Nor { cells: (0..FLASH).map(|at| (at * 7) as u8).collect(), ..Nor::of(FLASH) };
        assert!(enter(&mut nor, &settings("new"), &new));
        assert_eq!(found(&mut nor), Some(("new".to_owned(), new)));
    }

    /// Items of another firmware, which nobody knows and which fill it.
    #[test]
    fn flash_that_is_full_is_begun_anew_and_what_worked_last_passes_through_memory() {
        let (old, new) = (set(0x10, ROOM), set(0x20, ROOM));
        let of_new = [(&new, "other CAs"), (&old, "the same CAs")];
        for (bytes, what) in of_new {
            let mut nor = proven("old", &old);
            let mut keys = 160..=255;
            for len in [700, 300, 40, 1] {
                let item = &[0xEE; 700][..len];
                while let Some(key) = keys.next()
                    && block_on(kept(&mut nor).0.store_item(&mut [0; ITEM], &key, &item)).is_ok()
                {
                }
            }
            assert!(enter(&mut nor, &settings("new"), bytes), "{what}");
            assert_eq!(nor.whole_erases, 1, "{what}");
            assert_eq!(found(&mut nor), Some(("new".to_owned(), bytes.clone())), "{what}");
            assert!(note(&mut nor, Standing::GivenUp));
            assert_eq!(found(&mut nor), Some(("old".to_owned(), old.clone())), "{what}");
        }
    }

    #[test]
    fn reads_that_fail_cost_nothing_that_was_set() {
        let (old, new) = (set(0x10, 1500), set(0x20, 1500));
        for fails in (1..1500).step_by(7) {
            let mut nor = proven("old", &old);
            nor.deaf = fails;
            let whole = enter(&mut nor, &settings("new"), &new);
            nor.deaf = 0;
            let good = block_on(kept(&mut nor).known(None)).good;
            assert_eq!(good.unwrap().host, "old", "{fails} reads that failed");
            let (host, bytes) = found(&mut nor).unwrap();
            let good = host == "new" && bytes == new || !whole && host == "old" && bytes == old;
            assert!(good, "{fails} reads that failed: {host}");
        }
    }

    /// Firmware without TLS, and of before, has a buffer of 757 bytes for items.
    #[test]
    fn older_firmware_reads_over_what_was_set() {
        const BEFORE: usize = record::LEN - StoredTrust::LEN + 64;
        let mut nor = Nor::of(FLASH);
        assert!(enter(&mut nor, &longest('a'), &set(0x10, ROOM)));
        assert!(note(&mut nor, Standing::Proven));
        for wanted in [ENTERED, GOOD] {
            let mut buf = [0; BEFORE];
            let mut store = kept(&mut nor);
            assert!(block_on(store.0.fetch_item::<&[u8]>(&mut buf, &wanted)).unwrap().is_some());
        }
        // It enters settings of its own, over many sectors, and this firmware finds them.
        let mut store = kept(&mut nor);
        for round in 0..60 {
            let record = record::encode(&longest(if round % 2 == 0 { 'b' } else { 'c' }));
            block_on(store.0.store_item(&mut [0; BEFORE], &ENTERED, &&record[..])).unwrap();
        }
        let (settings, bytes) = joined(&mut nor).unwrap();
        assert_eq!((settings, bytes), (longest('c'), vec![]));
    }
}
