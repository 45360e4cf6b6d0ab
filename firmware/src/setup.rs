//! Set-up by phone: an access point with one page, on which the device is told its network and broker.
//!
//! It opens when the device has not been told anything yet, or when the BOOT button is held for three seconds.
//! The access point is open, for a device has no way to show a password, and closes after ten minutes if the
//! device knows a network already. While it is open, whoever is near can change the settings, but not read them.

#[cfg(feature = "with-tls")]
mod certificates;

use core::net::Ipv4Addr;

use embassy_futures::select::{Either4, select4};
use embassy_net::tcp::TcpSocket;
use embassy_net::udp::{PacketMetadata, UdpSocket};
use embassy_net::{IpListenEndpoint, Stack};
#[cfg(not(behaviour = "setup_as_client"))]
use embassy_net::{Ipv4Cidr, StaticConfigV4};
use embassy_time::{Duration, Timer, with_timeout};
use embedded_io_async::Write;
use esp_hal::gpio::Input;
use esp_hal::ram;
use esp_hal::system::software_reset;
#[cfg(not(behaviour = "setup_as_client"))]
use esp_radio::wifi::ap::AccessPointConfig;
#[cfg(behaviour = "setup_as_client")]
use esp_radio::wifi::{AuthenticationMethodConfig, sta::StationConfig};
use esp_radio::wifi::{Config, Interface, WifiController, WifiError};
use otaru_device::slots::Region;
use otaru_esp_hal::EspFlash;
use otaru_setup::form::{self, Request};
use otaru_setup::{Invalid, Settings, dhcp, dns};
use portable_atomic::{AtomicU32, Ordering};

use crate::credentials;

/// Time for which the button is held.
const HELD: Duration = Duration::from_secs(3);
/// Time for which the access point stays open on a device that has a network to go back to.
pub(crate) const OPEN: Duration = Duration::from_secs(600);
/// Time that it stays open while an image is on trial, which may be the reason that it is.
pub(crate) const ON_TRIAL: Duration = Duration::from_secs(300);
/// Most time for a browser's request, and for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

const PAGE: &str = include_str!(concat!(env!("OUT_DIR"), "/setup.html"));
const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\n\
                    Connection: close\r\n\r\n";

/// Page that is shown once settings are in flash and were read back from there.
const KEPT: (&str, &str) = (
    "Kept.",
    "The device restarts and tries them. If it does not reach the broker within ten minutes, it goes back to what worked \
     before, or opens this Wi-Fi again.",
);

/// Page that is shown where they are not.
const NOT_KEPT: (&str, &str) =
    ("Not kept:", "the partition table needs 32 KiB of otaru, or the flash is worn out.");

/// Says over a restart that the button was held.
#[ram(unstable(rtc_fast, persistent))]
static ASKED: AtomicU32 = AtomicU32::new(0);
const YES: u32 = u32::from_le_bytes(*b"ASK!");

/// Whether the button was held before this start. Says so once.
pub(crate) fn asked_for() -> bool {
    ASKED.swap(0, Ordering::Relaxed) == YES
}

/// Restarts into set-up once the button has been held.
#[embassy_executor::task]
pub(crate) async fn watch(mut button: Input<'static>) {
    loop {
        button.wait_for_low().await;
        if with_timeout(HELD, button.wait_for_high()).await.is_err() {
            log::info!("BOOT was held: restarting for set-up");
            ASKED.store(YES, Ordering::Relaxed);
            Timer::after(Duration::from_millis(100)).await;
            software_reset();
        }
    }
}

/// The network that set-up is on: an access point of the device's own.
#[cfg(not(behaviour = "setup_as_client"))]
pub(crate) async fn network(
    controller: &mut WifiController<'_>,
) -> Result<(Interface, embassy_net::Config), WifiError> {
    let mut name: heapless::String<16> = heapless::String::new();
    let _ = core::fmt::write(&mut name, format_args!("Otaru-{}", credentials::mac_suffix()));
    controller.set_config(&Config::AccessPoint(
        AccessPointConfig::default().with_ssid(name.as_str().try_into()?),
    ))?;
    log::info!("set-up: join the Wi-Fi {name:?}, then open http://192.168.4.1/");
    let [a, b, c, d] = dhcp::SERVER;
    let address = Ipv4Cidr::new(Ipv4Addr::new(a, b, c, d), 24);
    let addresses = StaticConfigV4 { address, gateway: None, dns_servers: Default::default() };
    Ok((Interface::access_point(), embassy_net::Config::ipv4_static(addresses)))
}

/// The network that set-up is on where a test runs on an emulator, whose access points can be joined but which joins none.
#[cfg(behaviour = "setup_as_client")]
pub(crate) async fn network(
    controller: &mut WifiController<'_>,
) -> Result<(Interface, embassy_net::Config), WifiError> {
    let station = StationConfig::default().with_ssid("Espressif".try_into()?);
    controller.set_config(&Config::Station(station.with_authentication(AuthenticationMethodConfig::Open)))?;
    if let Err(error) = controller.connect_async().await {
        log::error!("set-up: {error:?}");
    }
    log::info!("set-up: joined as a client, open http://10.0.2.15/");
    Ok((Interface::station(), embassy_net::Config::dhcpv4(Default::default())))
}

/// Serves until the device has been told, or for as long as it may; then it is to restart.
pub(crate) async fn serve(
    stack: Stack<'_>,
    flash: &mut EspFlash<'_>,
    region: Option<Region>,
    open: Option<Duration>,
) {
    let patience = async {
        match open {
            Some(open) => Timer::after(open).await,
            None => core::future::pending().await,
        }
    };
    match select4(serve_addresses(stack), serve_names(stack), serve_page(stack, flash, region), patience)
        .await
    {
        Either4::Third(()) => log::info!("set-up: done, restarting"),
        Either4::Fourth(()) => log::info!("set-up: nobody came, restarting"),
        Either4::First(never) | Either4::Second(never) => match never {},
    }
    Timer::after(Duration::from_secs(1)).await;
}

/// Gives whoever joins an address.
async fn serve_addresses(stack: Stack<'_>) -> core::convert::Infallible {
    let (mut rx_meta, mut tx_meta) = ([PacketMetadata::EMPTY; 2], [PacketMetadata::EMPTY; 2]);
    let (mut rx, mut tx) = ([0; 1200], [0; dhcp::LEN]);
    let mut socket = UdpSocket::new(stack, &mut rx_meta, &mut rx, &mut tx_meta, &mut tx);
    let mut message = [0; 600];
    if let Err(error) = socket.bind(67) {
        log::error!("set-up: no DHCP: {error:?}");
        core::future::pending().await
    }
    loop {
        let Ok((len, _)) = socket.recv_from(&mut message).await else { continue };
        if let Some(answer) = message.get(..len).and_then(dhcp::answer) {
            let _ = socket.send_to(&answer, (Ipv4Addr::BROADCAST, 68)).await;
        }
    }
}

/// Answers every name with this device, so that phones show the page by themselves.
async fn serve_names(stack: Stack<'_>) -> core::convert::Infallible {
    let (mut rx_meta, mut tx_meta) = ([PacketMetadata::EMPTY; 2], [PacketMetadata::EMPTY; 2]);
    let (mut rx, mut tx) = ([0; 600], [0; dns::LEN]);
    let mut socket = UdpSocket::new(stack, &mut rx_meta, &mut rx, &mut tx_meta, &mut tx);
    let mut query = [0; 512];
    if let Err(error) = socket.bind(53) {
        log::error!("set-up: no DNS: {error:?}");
        core::future::pending().await
    }
    loop {
        let Ok((len, from)) = socket.recv_from(&mut query).await else { continue };
        let mut answer = [0; dns::LEN];
        let len = query.get(..len).and_then(|query| dns::answer(query, &mut answer));
        if let Some(answer) = len.and_then(|len| answer.get(..len)) {
            let _ = socket.send_to(answer, from).await;
        }
    }
}

/// Shows the page until it has been filled in and kept.
async fn serve_page(stack: Stack<'_>, flash: &mut EspFlash<'_>, region: Option<Region>) {
    let (mut rx, mut tx) = ([0; 1536], [0; 1536]);
    #[cfg(not(feature = "with-tls"))]
    let mut request = [0; form::REQUEST];
    #[cfg(feature = "with-tls")]
    let Some((mut request, mut store)) = certificates::buffers() else { return };
    #[cfg(feature = "with-tls")]
    let mut said = certificates::Sentence::new();
    loop {
        let mut socket = TcpSocket::new(stack, &mut rx, &mut tx);
        socket.set_timeout(Some(PATIENCE));
        if socket.accept(IpListenEndpoint::from(80)).await.is_err() {
            continue;
        }
        let answer = with_timeout(PATIENCE, asked(&mut socket, &mut request)).await.ok().flatten();
        let mut done = false;
        let note = match answer {
            None => ("", ""),
            #[cfg(not(feature = "with-tls"))]
            Some(Ok(settings)) if settings.tls => Invalid::NoTls.as_strs(),
            #[cfg(not(feature = "with-tls"))]
            Some(Ok(settings)) if credentials::store(flash, region, &settings).await => {
                done = true;
                KEPT
            }
            #[cfg(not(feature = "with-tls"))]
            Some(Ok(_)) => NOT_KEPT,
            #[cfg(feature = "with-tls")]
            Some(Ok(settings)) => {
                match certificates::keep(settings, (&mut request, &mut store), flash, region).await {
                    Ok(true) => {
                        done = true;
                        KEPT
                    }
                    Ok(false) => NOT_KEPT,
                    Err(refused) => ("Not kept:", certificates::words(refused, &mut said)),
                }
            }
            #[cfg(feature = "with-tls")]
            Some(Err(Invalid::TooMuch)) => {
                let _ = with_timeout(PATIENCE, certificates::pass_over(&mut socket, &mut request)).await;
                certificates::TOO_MUCH
            }
            Some(Err(invalid)) => invalid.as_strs(),
        };
        #[cfg(not(feature = "with-tls"))]
        let _ = with_timeout(PATIENCE, show(&mut socket, note)).await;
        #[cfg(feature = "with-tls")]
        let kept = certificates::list(flash, region, &mut store).await;
        #[cfg(feature = "with-tls")]
        let _ = with_timeout(PATIENCE, show(&mut socket, note, &kept)).await;
        if done {
            return;
        }
    }
}

/// Reads one request: the settings it brings, or what is wrong with them; `None` if it only wants the page.
async fn asked(socket: &mut TcpSocket<'_>, buf: &mut [u8]) -> Option<Result<Settings, Invalid>> {
    let mut filled = 0;
    loop {
        match form::request(buf.get(..filled)?) {
            Request::Page => return None,
            Request::Form(form) => return Some(form::settings(form)),
            Request::TooMuch => return Some(Err(Invalid::TooMuch)),
            Request::Incomplete => {}
        }
        match socket.read(buf.get_mut(filled..).filter(|rest| !rest.is_empty())?).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => filled += count,
        }
    }
}

async fn show(
    socket: &mut TcpSocket<'_>,
    note: (&str, &str),
    #[cfg(feature = "with-tls")] kept: &str,
) -> Result<(), embassy_net::tcp::Error> {
    let (before, after) = PAGE.split_once("{note}").unwrap_or((PAGE, ""));
    #[cfg(not(feature = "with-tls"))]
    let parts = [HEAD, before, note.0, " ", note.1, after];
    #[cfg(feature = "with-tls")]
    let (between, after) = after.split_once("{kept}").unwrap_or((after, ""));
    #[cfg(feature = "with-tls")]
    let parts = [HEAD, before, note.0, " ", note.1, between, kept, after];
    for part in parts {
        socket.write_all(part.as_bytes()).await?;
    }
    socket.flush().await?;
    socket.close();
    socket.flush().await
}
