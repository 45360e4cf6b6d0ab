//! What the device was told: on its set-up page, which is kept in flash, or else when it was built.
//!
//! Flash holds one record, under one key of a `sequential-storage` map of its own, in the part of the `otaru`
//! partition that the agent leaves to the firmware.

use embedded_storage_async::nor_flash::NorFlash;
use heapless::String;
use otaru_device::format::chip::Chip;
use otaru_device::slots::Region;
use otaru_setup::{Settings, record};
use sequential_storage::cache::{Cache, Uncached};
use sequential_storage::map::{MapConfig, MapStorage};

/// What `build.rs` read from `network_credentials.toml`; empty if it was told not to.
const BUILT_IN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/credentials.bin"));
/// Whether updates without a signature are taken, and the keys whose signed ones are.
#[cfg(feature = "agent")]
pub(crate) const TRUST: (bool, &[otaru_device::PublicKey]) = include!(concat!(env!("OUT_DIR"), "/trust.rs"));
/// The record's key.
const SETTINGS: u8 = 1;
/// Longest item: a record with its key.
const ITEM: usize = record::LEN + 64;

type Map<'f, F> = MapStorage<u8, &'f mut F, Cache<Uncached, Uncached, Uncached, u8>>;

/// The settings to use: those in flash before those of the build.
pub(crate) async fn load<F: NorFlash>(flash: &mut F, region: Option<Region>) -> Option<Settings> {
    match stored(flash, region).await {
        Some(settings) => Some(settings),
        None => record::decode(BUILT_IN),
    }
}

async fn stored<F: NorFlash>(flash: &mut F, region: Option<Region>) -> Option<Settings> {
    let mut buf = [0; ITEM];
    match map(flash, region?)?.fetch_item::<&[u8]>(&mut buf, &SETTINGS).await {
        Ok(bytes) => record::decode(bytes?),
        Err(error) => {
            log::warn!("settings: {error:?}; using those of the build");
            None
        }
    }
}

/// Keeps settings; says whether that worked.
pub(crate) async fn store<F: NorFlash>(flash: &mut F, region: Option<Region>, settings: &Settings) -> bool {
    let Some(mut map) = region.and_then(|region| map(flash, region)) else { return false };
    let mut buf = [0; ITEM];
    let bytes = record::encode(settings);
    if map.store_item(&mut buf, &SETTINGS, &&bytes[..]).await.is_ok() {
        return true;
    }
    // Damaged, or never used for this before: there is nothing in it that counts for more than the new settings.
    map.erase_all().await.is_ok() && map.store_item(&mut buf, &SETTINGS, &&bytes[..]).await.is_ok()
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
