//! Credentials that the device was told: on its set-up page, which is kept in flash, or else when it was built.
//!
//! It stands in the part of the `otaru` partition that the agent leaves to the firmware ([`otaru_setup::kept`]).

use embedded_storage_async::nor_flash::NorFlash;
use heapless::String;
use otaru_device::format::chip::Chip;
use otaru_device::slots::Region;
#[cfg(feature = "agent")]
use otaru_esp_hal::EspFlash;
use otaru_setup::kept::SettingsStore;
#[cfg(feature = "agent")]
use otaru_setup::proof::Standing;
use otaru_setup::proof::{self, Choice, KnownSettings};
#[cfg(feature = "with-tls")]
use otaru_setup::trust_store::{self, TrustStore};
use otaru_setup::{Settings, record};

/// Settings that `build.rs` read from `network_credentials.toml`; empty if it was told not to.
const BUILT_IN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/credentials.bin"));
/// Whether updates without a signature are taken, the keys whose signed ones are, and the hosts they may come from.
#[cfg(feature = "agent")]
pub(crate) const TRUST: (bool, &[otaru_device::PublicKey], &[otaru_device::AllowedHost<'static>]) =
    include!(concat!(env!("OUT_DIR"), "/trust.rs"));

/// Chooses among the settings that are known.
pub(crate) async fn load<F: NorFlash>(flash: &mut F, region: Option<Region>) -> Choice {
    let built_in = record::decode(BUILT_IN);
    proof::choose(match kept(flash, region) {
        Some(mut kept) => kept.known(built_in).await,
        None => KnownSettings { entered: None, good: None, unreadable: false, built_in },
    })
}

/// Keeps settings, to be tried; says whether they are there.
#[cfg(not(feature = "with-tls"))]
pub(crate) async fn store<F: NorFlash>(flash: &mut F, region: Option<Region>, settings: &Settings) -> bool {
    match kept(flash, region) {
        Some(mut kept) => kept.enter(settings).await,
        None => false,
    }
}

/// Keeps settings with the CAs and the certificate that were set, to be tried; says whether they are there.
#[cfg(feature = "with-tls")]
pub(crate) async fn store<F: NorFlash>(
    flash: &mut F,
    region: Option<Region>,
    (settings, trust): (&mut Settings, &TrustStore<'_>),
    spare: &mut [u8],
) -> bool {
    match kept(flash, region) {
        Some(mut kept) => kept.enter_with_trust(settings, trust, spare).await,
        None => false,
    }
}

/// Reads the CAs and the certificate that the set-up page shows and changes; none where none can be read.
#[cfg(feature = "with-tls")]
pub(crate) async fn shown<'b, F: NorFlash>(
    flash: &mut F,
    region: Option<Region>,
    buffer: &'b mut [u8],
) -> TrustStore<'b> {
    let mut len = 0;
    if let Some(mut kept) = kept(flash, region)
        && let Some(settings) = kept.shown().await
    {
        len = kept.trust(&settings, buffer).await.map_or(0, |trust| trust.bytes().len());
    }
    TrustStore::read_or_empty(buffer, len)
}

/// Starts TLS with the CAs and the certificate that were set with these settings.
#[cfg(feature = "with-tls")]
pub(crate) async fn start_tls<F: NorFlash>(
    flash: &mut F,
    region: Option<Region>,
    settings: &Settings,
) -> &'static otaru_mbedtls::MbedTls {
    let mut buffer = settings.trust.and_then(|_| buffer(trust_store::LEN)).unwrap_or_default();
    let set = match kept(flash, region) {
        Some(mut kept) if !buffer.is_empty() => kept.trust(settings, &mut buffer).await,
        _ => None,
    };
    if settings.trust.is_some() && set.is_none() {
        log::error!("tls: what was set cannot be read, or there is no memory for it");
    }
    crate::tls::start(set.as_ref())
}

/// Returns memory of the heap, if there is so much.
#[cfg(feature = "with-tls")]
pub(crate) fn buffer(len: usize) -> Option<alloc::vec::Vec<u8>> {
    let mut buffer = alloc::vec::Vec::new();
    buffer.try_reserve_exact(len).ok()?;
    buffer.resize(len, 0);
    Some(buffer)
}

/// Lets entered settings be tried from the start once more: the broker may only have been away.
pub(crate) async fn try_again<F: NorFlash>(flash: &mut F, region: Option<Region>) {
    if let Some(mut kept) = kept(flash, region) {
        kept.try_again().await;
    }
}

fn kept<F: NorFlash>(flash: &mut F, region: Option<Region>) -> Option<SettingsStore<'_, F>> {
    let Region { offset, len } = region?;
    SettingsStore::new(flash, offset..offset.checked_add(len)?)
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
        let Some(mut kept) = kept(&mut flash, Some(region)) else { return };
        let noted = kept.note(standing, settings).await;
        if standing == Standing::Proven {
            log::info!("settings: they work{}", if noted { "" } else { ", but that cannot be kept" });
        }
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
