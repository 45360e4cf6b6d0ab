//! Settings in flash: what was entered last, how that stands, and what worked last, under a key each of a
//! `sequential-storage` map. [`crate::proof`] has the rules.
//!
//! Power may go at any write: what is found then is the old settings or the new ones, and never new ones that pass for proven.

#[cfg(feature = "trust")]
mod banks;

use core::ops::Range;

use embedded_storage_async::nor_flash::NorFlash;
use sequential_storage::Error;
use sequential_storage::cache::{Cache, Uncached};
use sequential_storage::map::{MapConfig, MapStorage};

use crate::proof::{KnownSettings, Standing};
use crate::record;
use crate::settings::Settings;

/// The key of the settings that were entered last.
const ENTERED: u8 = 1;
/// The key of those that worked last.
const GOOD: u8 = 2;
/// The key of how the entered ones stand.
const STANDING: u8 = 3;
/// Longest item: a record with its key.
const ITEM: usize = record::LEN + 64;

/// A part of the flash that keeps settings.
pub struct SettingsStore<'f, F: NorFlash>(MapStorage<u8, &'f mut F, Cache<Uncached, Uncached, Uncached, u8>>);

impl<'f, F: NorFlash> SettingsStore<'f, F> {
    /// Settings in this part of the flash, of two sectors at least; `None` if it has no room for them.
    pub fn new(flash: &'f mut F, part: Range<u32>) -> Option<Self> {
        let config = MapConfig::try_new(part).ok()?;
        Some(Self(MapStorage::new(flash, config, Cache::new_uncached())))
    }

    /// Returns the settings that are kept, beside those of the build.
    pub async fn known(&mut self, built_in: Option<Settings>) -> KnownSettings {
        let (entered, good) = (self.settings(ENTERED).await, self.settings(GOOD).await);
        let unreadable = matches!(entered, Found::Unreadable) || matches!(good, Found::Unreadable);
        let entered = match entered {
            Found::Settings(settings) => {
                Some((settings, self.standing().await.unwrap_or(Standing::Tried(0))))
            }
            Found::Nothing | Found::Unreadable => None,
        };
        KnownSettings { entered, good: good.settings(), unreadable, built_in }
    }

    /// Keeps settings that were entered, to be tried; says whether they are there.
    pub async fn enter(&mut self, settings: &Settings) -> bool {
        // Damaged, or never used for this before. Flash that only fails to answer keeps what it has.
        if let Err(Error::Corrupted { .. } | Error::FullStorage) = self.put_entered(settings).await {
            let good = self.settings(GOOD).await.settings();
            if self.0.erase_all().await.is_ok()
                && self.put_entered(settings).await.is_ok()
                && let Some(good) = good
            {
                let _ = self.put(GOOD, &good).await;
            }
        }
        matches!(self.settings(ENTERED).await, Found::Settings(kept) if kept == *settings)
    }

    /// Notes how the entered settings stand; with those that are proven goes a copy of them, for when later ones do not work.
    pub async fn note(&mut self, standing: Standing, settings: &Settings) -> bool {
        let noted = (standing != Standing::Proven || self.put(GOOD, settings).await.is_ok())
            && self.put_standing(standing).await.is_ok();
        #[cfg(feature = "trust")]
        if noted && standing == Standing::Proven {
            let _ = self.forget_others(settings).await;
        }
        noted
    }

    /// Lets entered settings that were given up be tried from the start once more.
    pub async fn try_again(&mut self) -> bool {
        self.standing().await == Some(Standing::GivenUp)
            && self.put_standing(Standing::Tried(0)).await.is_ok()
    }

    async fn put_entered(&mut self, settings: &Settings) -> Result<(), Error<F::Error>> {
        // First that they are new: power that goes in between leaves old settings to be proved again.
        self.put_standing(Standing::Tried(0)).await?;
        self.put(ENTERED, settings).await
    }

    async fn put(&mut self, key: u8, settings: &Settings) -> Result<(), Error<F::Error>> {
        self.0.store_item(&mut [0; ITEM], &key, &&record::encode(settings)[..]).await
    }

    async fn put_standing(&mut self, standing: Standing) -> Result<(), Error<F::Error>> {
        self.0.store_item(&mut [0; ITEM], &STANDING, &standing.number()).await
    }

    async fn settings(&mut self, key: u8) -> Found {
        let mut buf = [0; ITEM];
        let found = match self.0.fetch_item::<&[u8]>(&mut buf, &key).await {
            Ok(Some(bytes)) => record::decode(bytes).map_or(Found::Unreadable, Found::Settings),
            Ok(None) => Found::Nothing,
            Err(_) => Found::Unreadable,
        };
        #[cfg(feature = "trust")]
        if let Found::Settings(settings) = &found
            && !self.has_trust_of(settings).await
        {
            return Found::Unreadable;
        }
        found
    }

    /// Returns `None` where it cannot be read.
    async fn standing(&mut self) -> Option<Standing> {
        let number = self.0.fetch_item::<u8>(&mut [0; ITEM], &STANDING).await.ok()?;
        Some(Standing::from_number(number.unwrap_or(0)))
    }
}

/// Settings under a key.
#[expect(clippy::large_enum_variant, reason = "there is no heap to box them in, and one at a time")]
enum Found {
    /// There are none.
    Nothing,
    /// The flash does not answer, is damaged, or has a record of another firmware there; or CAs that were set are not.
    Unreadable,
    Settings(Settings),
}

impl Found {
    fn settings(self) -> Option<Settings> {
        match self {
            Self::Settings(settings) => Some(settings),
            Self::Nothing | Self::Unreadable => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use embassy_futures::block_on;
    use embedded_storage_async::nor_flash::{
        ErrorType, MultiwriteNorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
    };

    use super::*;
    use crate::proof::{Choice, choose};

    const LEN: usize = 8 * 1024;

    /// NOR flash whose power goes after so many words and erases, and whose reads may fail.
    #[derive(Clone)]
    pub(super) struct Nor {
        pub(super) cells: Vec<u8>,
        pub(super) left: usize,
        /// Number of reads that fail from now on.
        pub(super) deaf: usize,
        /// Words that were written, sectors that were erased, and times that all of them were at once.
        pub(super) words: usize,
        pub(super) erases: usize,
        pub(super) whole_erases: usize,
    }

    #[derive(Debug)]
    pub(super) struct PowerLost;

    impl NorFlashError for PowerLost {
        fn kind(&self) -> NorFlashErrorKind {
            NorFlashErrorKind::Other
        }
    }

    impl Nor {
        fn blank() -> Self {
            Self::of(LEN)
        }

        pub(super) fn of(len: usize) -> Self {
            let cells = vec![0xFF; len];
            Self { cells, left: usize::MAX, deaf: 0, words: 0, erases: 0, whole_erases: 0 }
        }

        fn spend(&mut self) -> Result<(), PowerLost> {
            self.left = self.left.checked_sub(1).ok_or(PowerLost)?;
            Ok(())
        }
    }

    impl ErrorType for Nor {
        type Error = PowerLost;
    }

    impl ReadNorFlash for Nor {
        const READ_SIZE: usize = 1;

        async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), PowerLost> {
            if self.deaf > 0 {
                self.deaf -= 1;
                return Err(PowerLost);
            }
            bytes.copy_from_slice(&self.cells[offset as usize..][..bytes.len()]);
            Ok(())
        }

        fn capacity(&self) -> usize {
            self.cells.len()
        }
    }

    impl NorFlash for Nor {
        const WRITE_SIZE: usize = 4;
        const ERASE_SIZE: usize = 4096;

        async fn erase(&mut self, from: u32, to: u32) -> Result<(), PowerLost> {
            self.spend()?;
            self.cells[from as usize..to as usize].fill(0xFF);
            self.erases += (to - from) as usize / Self::ERASE_SIZE;
            self.whole_erases += usize::from((to - from) as usize == self.cells.len());
            Ok(())
        }

        async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), PowerLost> {
            for (at, four) in bytes.chunks(4).enumerate() {
                self.spend()?;
                self.words += 1;
                let cells = &mut self.cells[offset as usize + 4 * at..][..four.len()];
                cells.iter_mut().zip(four).for_each(|(cell, byte)| *cell &= byte);
            }
            Ok(())
        }
    }

    impl MultiwriteNorFlash for Nor {}

    pub(super) fn settings(host: &str) -> Settings {
        let mut settings = Settings::new();
        settings.add_network("attic", "12345678").unwrap();
        settings.set_broker(host, 1883).unwrap();
        settings
    }

    pub(super) fn kept(nor: &mut Nor) -> SettingsStore<'_, Nor> {
        let len = nor.cells.len() as u32;
        SettingsStore::new(nor, 0..len).unwrap()
    }

    pub(super) fn choice(nor: &mut Nor) -> Choice {
        nor.left = usize::MAX;
        choose(block_on(kept(nor).known(None)))
    }

    /// A device that works with some settings.
    fn proven(host: &str) -> Nor {
        let mut nor = Nor::blank();
        assert!(block_on(kept(&mut nor).enter(&settings(host))));
        assert!(block_on(kept(&mut nor).note(Standing::Proven, &settings(host))));
        nor
    }

    #[test]
    fn settings_that_fail_give_way_to_those_that_worked() {
        let mut nor = proven("old");
        assert_eq!(choice(&mut nor), Choice::Join(settings("old"), None));
        assert!(block_on(kept(&mut nor).enter(&settings("new"))));
        assert_eq!(choice(&mut nor), Choice::Join(settings("new"), Some(Standing::Tried(0))));
        for minute in 1..crate::proof::PATIENCE {
            assert!(block_on(kept(&mut nor).note(Standing::Tried(minute), &settings("new"))));
            assert_eq!(choice(&mut nor), Choice::Join(settings("new"), Some(Standing::Tried(minute))));
        }
        assert!(block_on(kept(&mut nor).note(Standing::GivenUp, &settings("new"))));
        assert_eq!(choice(&mut nor), Choice::Join(settings("old"), None));
        // Entered once more, and right this time.
        assert!(block_on(kept(&mut nor).enter(&settings("new"))));
        assert!(block_on(kept(&mut nor).note(Standing::Proven, &settings("new"))));
        assert_eq!(choice(&mut nor), Choice::Join(settings("new"), None));
    }

    #[test]
    fn a_device_without_settings_that_worked_asks_again() {
        let mut nor = Nor::blank();
        assert_eq!(choice(&mut nor), Choice::SetUp { again: false });
        assert!(block_on(kept(&mut nor).enter(&settings("new"))));
        assert!(block_on(kept(&mut nor).note(Standing::GivenUp, &settings("new"))));
        assert_eq!(choice(&mut nor), Choice::SetUp { again: true });
        assert!(block_on(kept(&mut nor).try_again()));
        assert_eq!(choice(&mut nor), Choice::Join(settings("new"), Some(Standing::Tried(0))));
    }

    #[test]
    fn power_that_goes_leaves_settings_that_are_tried_or_proven() {
        // Over many changes, so that sectors are erased in some of them.
        for round in 0..12 {
            let mut before = proven("old");
            for more in 0..round {
                assert!(block_on(kept(&mut before).enter(&settings(&format!("between-{more}")))));
                assert!(block_on(kept(&mut before).enter(&settings("old"))));
                assert!(block_on(kept(&mut before).note(Standing::Proven, &settings("old"))));
            }
            for cut in 0.. {
                let mut nor = before.clone();
                nor.left = cut;
                let whole = block_on(kept(&mut nor).enter(&settings("new")));
                let found = choice(&mut nor);
                match &found {
                    Choice::Join(found, Some(Standing::Tried(0))) if *found == settings("new") => {}
                    Choice::Join(found, _) if *found == settings("old") && !whole => {}
                    _ => panic!("round {round}, cut {cut}: {found:?}"),
                }
                // Whatever was found can be replaced.
                assert!(block_on(kept(&mut nor).enter(&settings("last"))), "round {round}, cut {cut}");
                if whole {
                    break;
                }
            }
        }
    }

    #[test]
    fn flash_that_does_not_answer_is_not_a_device_that_was_told_nothing() {
        // It opens for a while, and looks again after a restart.
        let mut nor = proven("old");
        nor.deaf = usize::MAX;
        assert_eq!(choice(&mut nor), Choice::SetUp { again: true });
        nor.deaf = 0;
        assert!(!block_on(kept(&mut nor).try_again()), "nothing was given up");
        assert_eq!(choice(&mut nor), Choice::Join(settings("old"), None));
        // A record of another firmware was told, too; settings that worked are there for it.
        assert!(block_on(kept(&mut nor).enter(&settings("new"))));
        let other = |nor: &mut Nor, key: u8| {
            block_on(kept(nor).0.store_item(&mut [0; ITEM], &key, &&[0xEE; 9][..])).unwrap();
        };
        other(&mut nor, ENTERED);
        assert_eq!(choice(&mut nor), Choice::Join(settings("old"), None));
        other(&mut nor, GOOD);
        assert_eq!(choice(&mut nor), Choice::SetUp { again: true });
    }

    #[test]
    fn reads_that_fail_cost_no_settings() {
        for fails in 1..200 {
            let mut nor = proven("old");
            nor.deaf = fails;
            let whole = block_on(kept(&mut nor).enter(&settings("new")));
            nor.deaf = 0;
            let good = block_on(kept(&mut nor).known(None)).good;
            assert_eq!(good, Some(settings("old")), "{fails} reads that failed");
            match choice(&mut nor) {
                Choice::Join(found, _) if found == settings("new") || !whole && found == settings("old") => {}
                other => panic!("{fails} reads that failed: {other:?}"),
            }
        }
    }

    #[test]
    fn any_flash_can_be_used_and_too_little_cannot() {
        let mut nor = Nor { cells: (0..LEN).map(|at| (at * 7) as u8).collect(), ..Nor::blank() };
        assert!(block_on(kept(&mut nor).enter(&settings("new"))));
        assert_eq!(choice(&mut nor), Choice::Join(settings("new"), Some(Standing::Tried(0))));
        assert!(SettingsStore::new(&mut nor, 0..4096).is_none());
    }
}
