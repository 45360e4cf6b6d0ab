//! What the device was told: on its set-up page, which is kept in flash, or else when it was built.
//!
//! Flash holds records in a `sequential-storage` map of its own, in the part of the `otaru` partition that the agent leaves
//! to the firmware: what was entered last, how that stands, and what worked last. [`otaru_setup::proof`] has the rules.

use embedded_storage_async::nor_flash::NorFlash;
use heapless::String;
use otaru_device::format::chip::Chip;
use otaru_device::slots::Region;
#[cfg(feature = "agent")]
use otaru_esp_hal::EspFlash;
use otaru_setup::proof::{self, Choice, Known, Standing};
use otaru_setup::{Settings, record};
use sequential_storage::cache::{Cache, Uncached};
use sequential_storage::map::{MapConfig, MapStorage};

/// What `build.rs` read from `network_credentials.toml`; empty if it was told not to.
const BUILT_IN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/credentials.bin"));
/// Whether updates without a signature are taken, and the keys whose signed ones are.
#[cfg(feature = "agent")]
pub(crate) const TRUST: (bool, &[otaru_device::PublicKey]) = include!(concat!(env!("OUT_DIR"), "/trust.rs"));
/// The key of the settings that were entered last.
const ENTERED: u8 = 1;
/// The key of those that worked last.
const GOOD: u8 = 2;
/// The key of how the entered ones stand.
const STANDING: u8 = 3;
/// Longest item: a record with its key.
const ITEM: usize = record::LEN + 64;

type Map<'f, F> = MapStorage<u8, &'f mut F, Cache<Uncached, Uncached, Uncached, u8>>;

/// What to do with what is known.
pub(crate) async fn load<F: NorFlash>(flash: &mut F, region: Option<Region>) -> Choice {
    let mut known = Known { entered: None, good: None, built_in: record::decode(BUILT_IN) };
    if let Some(mut map) = region.and_then(|region| map(flash, region)) {
        if let Some(entered) = settings(&mut map, ENTERED).await {
            known.entered = Some((entered, standing(&mut map).await));
        }
        known.good = settings(&mut map, GOOD).await;
    }
    proof::choose(known)
}

async fn settings<F: NorFlash>(map: &mut Map<'_, F>, key: u8) -> Option<Settings> {
    let mut buf = [0; ITEM];
    match map.fetch_item::<&[u8]>(&mut buf, &key).await {
        Ok(bytes) => record::decode(bytes?),
        Err(error) => {
            log::warn!("settings: {error:?}");
            None
        }
    }
}

async fn standing<F: NorFlash>(map: &mut Map<'_, F>) -> Standing {
    let mut buf = [0; ITEM];
    Standing::from_number(map.fetch_item::<u8>(&mut buf, &STANDING).await.ok().flatten().unwrap_or(0))
}

/// Keeps settings, to be tried; says whether they are there.
pub(crate) async fn store<F: NorFlash>(flash: &mut F, region: Option<Region>, wanted: &Settings) -> bool {
    let Some(mut map) = region.and_then(|region| map(flash, region)) else { return false };
    if !put(&mut map, wanted).await {
        // Damaged, or never used for this before: there is nothing in it that counts for more than the new settings.
        let _ = map.erase_all().await;
        put(&mut map, wanted).await;
    }
    settings(&mut map, ENTERED).await.is_some_and(|kept| kept == *wanted)
}

async fn put<F: NorFlash>(map: &mut Map<'_, F>, wanted: &Settings) -> bool {
    // First that they are new: power that goes in between leaves old settings to be proved again.
    note(map, Standing::Tried(0)).await && put_record(map, ENTERED, &record::encode(wanted)).await
}

async fn note<F: NorFlash>(map: &mut Map<'_, F>, standing: Standing) -> bool {
    map.store_item(&mut [0; ITEM], &STANDING, &standing.number()).await.is_ok()
}

async fn put_record<F: NorFlash>(map: &mut Map<'_, F>, key: u8, bytes: &[u8]) -> bool {
    map.store_item(&mut [0; ITEM], &key, &bytes).await.is_ok()
}

/// Lets entered settings be tried from the start once more.
pub(crate) async fn try_again<F: NorFlash>(flash: &mut F, region: Option<Region>) {
    if let Some(mut map) = region.and_then(|region| map(flash, region)) {
        note(&mut map, Standing::Tried(0)).await;
    }
}

/// Watches entered settings until they are proved, or have had their time; then the device restarts without them.
#[cfg(feature = "agent")]
#[embassy_executor::task]
pub(crate) async fn watch(
    mut flash: EspFlash<'static>,
    region: Region,
    settings: &'static Settings,
    mut standing: Standing,
) {
    use embassy_time::{Duration, Timer};

    for second in 1_u32.. {
        Timer::after(Duration::from_secs(1)).await;
        let reached = crate::wifi::has_reached_broker();
        if !reached && !second.is_multiple_of(60) {
            continue;
        }
        standing = standing.after_minute(reached);
        let Some(mut map) = map(&mut flash, region) else { return };
        if standing == Standing::Proven {
            let kept = put_record(&mut map, GOOD, &record::encode(settings)).await;
            log::info!("settings: they work{}", if kept { "" } else { ", but that cannot be kept" });
        }
        note(&mut map, standing).await;
        match standing {
            Standing::Tried(_) => {}
            Standing::Proven => return,
            Standing::GivenUp => {
                log::warn!("settings: the broker was never reached with them; restarting without");
                Timer::after(Duration::from_millis(100)).await;
                esp_hal::system::software_reset()
            }
        }
    }
}

fn map<F: NorFlash>(flash: &mut F, region: Region) -> Option<Map<'_, F>> {
    let config = MapConfig::try_new(region.offset..region.offset.checked_add(region.len)?).ok()?;
    Some(MapStorage::new(flash, config, Cache::new_uncached()))
}

/// The device's name: the one it was given, or chip and the last three bytes of the MAC address.
pub(crate) fn device_name(settings: &Settings, chip: Chip) -> String<32> {
    if !settings.name.is_empty() {
        return settings.name.clone();
    }
    let mut name = String::new();
    // Fits: the longest chip's name has 8 letters.
    let _ = core::fmt::write(&mut name, format_args!("{chip}-{}", mac_suffix()));
    name
}

/// The last three bytes of the MAC address, which tell boards of one maker apart.
pub(crate) fn mac_suffix() -> String<6> {
    let mac = esp_hal::efuse::base_mac_address();
    let mut text = String::new();
    for byte in mac.as_bytes().iter().skip(3) {
        let _ = core::fmt::write(&mut text, format_args!("{byte:02x}"));
    }
    text
}
