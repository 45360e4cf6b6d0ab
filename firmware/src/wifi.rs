//! Joins one of the known networks and tells how well it is received.
//!
//! With several known networks the strongest in sight is tried first, then those that were not seen: they may be
//! hidden. The agent looks at [`Link::is_up`] every second and calls for [`Link::reconnect`] when it is not; each call may
//! be broken off at any time, so the next one goes on with the network after the last. A quarter of an hour without any
//! network is held against the radio, which is then stopped and started.

use embassy_net::Stack;
use embassy_time::{Duration, with_timeout};
use esp_radio::wifi::scan::ScanConfig;
use esp_radio::wifi::sta::StationConfig;
use esp_radio::wifi::{AuthenticationMethodConfig, Config, WifiController};
use heapless::Vec;
use otaru_device::{Link, LinkError};
use otaru_setup::{NETWORKS, Network};
use portable_atomic::{AtomicBool, AtomicI32, Ordering};

/// Most time for association and handshake with one network.
const ASSOCIATE: Duration = Duration::from_secs(12);
/// Most time until there is an address.
const ADDRESS: Duration = Duration::from_secs(10);
/// Most time for a scan: 13 channels of about 120 ms each, twice over.
const SCAN: Duration = Duration::from_secs(5);

/// The signal strength last seen, for whoever wants to report it.
pub(crate) struct Signal(AtomicI32);

/// No signal strength.
const NONE: i32 = i32::MIN;

impl Signal {
    pub(crate) const fn new() -> Self {
        Self(AtomicI32::new(NONE))
    }

    /// dBm, while the device is joined.
    pub(crate) fn rssi(&self) -> Option<i32> {
        Some(self.0.load(Ordering::Relaxed)).filter(|rssi| *rssi != NONE)
    }
}

/// Whether the broker took a report in this start.
static REACHED_BROKER: AtomicBool = AtomicBool::new(false);

/// Whether the broker took a report in this start: the settings work.
#[cfg(feature = "agent")]
pub(crate) fn has_reached_broker() -> bool {
    REACHED_BROKER.load(Ordering::Relaxed)
}

/// The way to the network.
pub(crate) struct Wifi<'a> {
    controller: WifiController<'a>,
    stack: Stack<'a>,
    networks: &'a [Network],
    /// Index of the known network to try first when none is in sight.
    turn: usize,
    signal: &'a Signal,
}

impl<'a> Wifi<'a> {
    pub(crate) fn new(
        controller: WifiController<'a>,
        stack: Stack<'a>,
        networks: &'a [Network],
        signal: &'a Signal,
    ) -> Self {
        Self { controller, stack, networks, turn: 0, signal }
    }

    /// The order in which to try the known networks.
    async fn order(&mut self) -> Vec<usize, NETWORKS> {
        let count = self.networks.len();
        let mut order: Vec<usize, NETWORKS> = (0..count).map(|i| (self.turn + i) % count).collect();
        if count > 1
            && let Ok(Ok(seen)) =
                with_timeout(SCAN, self.controller.scan_async(&ScanConfig::default().with_max(20))).await
        {
            let signal = |index: &usize| {
                let known = self.networks.get(*index);
                let same = seen.iter().filter(|ap| known.is_some_and(|known| known.ssid == ap.ssid.as_str()));
                same.map(|ap| ap.signal_strength).max().unwrap_or(i8::MIN)
            };
            // Stable, so those not in sight keep their turn. The library's sort takes 16 KB of flash, and these are four.
            for end in 1..count {
                let mut at = end;
                while at > 0 && signal(&order[at - 1]) < signal(&order[at]) {
                    order.swap(at - 1, at);
                    at -= 1;
                }
            }
        }
        order
    }

    async fn join(&mut self, network: &Network) -> Result<(), LinkError> {
        let config = station(network).ok_or(LinkError)?;
        let _ = with_timeout(ASSOCIATE, self.controller.disconnect_async()).await;
        self.controller.set_config(&config).map_err(|error| {
            log::error!("wifi: {:?} cannot be used: {error:?}", network.ssid);
            LinkError
        })?;
        match with_timeout(ASSOCIATE, self.controller.connect_async()).await {
            Ok(Ok(info)) => log::info!("wifi: joined {:?} on channel {}", network.ssid, info.channel),
            Ok(Err(error)) => {
                log::warn!("wifi: {:?}: {error:?}", network.ssid);
                return Err(LinkError);
            }
            Err(_) => {
                log::warn!("wifi: {:?} does not answer", network.ssid);
                return Err(LinkError);
            }
        }
        if with_timeout(ADDRESS, self.stack.wait_config_up()).await.is_err() {
            log::warn!("wifi: {:?} gives no address", network.ssid);
            return Err(LinkError);
        }
        if let Some(config) = self.stack.config_v4() {
            log::info!("wifi: address {}", config.address);
        }
        Ok(())
    }
}

impl Link for Wifi<'_> {
    fn is_up(&self) -> bool {
        let up = self.controller.is_connected() && self.stack.is_config_up();
        let rssi = up.then(|| self.controller.rssi().ok()).flatten();
        self.signal.0.store(rssi.unwrap_or(NONE), Ordering::Relaxed);
        up
    }

    fn rssi(&self) -> Option<i8> {
        self.signal.rssi().and_then(|dbm| i8::try_from(dbm).ok())
    }

    fn reached_broker(&mut self) {
        REACHED_BROKER.store(true, Ordering::Relaxed);
    }

    async fn reconnect(&mut self) -> Result<(), LinkError> {
        let networks = self.networks;
        for index in self.order().await {
            let Some(network) = networks.get(index) else { continue };
            self.turn = index + 1;
            if self.join(network).await.is_ok() {
                self.turn = index;
                return Ok(());
            }
        }
        Err(LinkError)
    }

    /// esp-radio stops the radio on a configuration that cannot be, as its documentation has it, and starts it with the
    /// next that can.
    async fn restart(&mut self) {
        let impossible = Config::Station(StationConfig::default().with_beacon_timeout(0));
        let _ = self.controller.set_config(&impossible);
    }
}

/// Describes a network to the driver; `None` if that cannot take its name or password.
fn station(network: &Network) -> Option<Config> {
    let method = match network.password.as_str() {
        "" => AuthenticationMethodConfig::Open,
        // WPA2 at least: what comes before it is broken.
        password => AuthenticationMethodConfig::Wpa2Personal(password.try_into().ok()?),
    };
    let ssid = network.ssid.as_str().try_into().ok()?;
    Some(Config::Station(StationConfig::default().with_ssid(ssid).with_authentication(method)))
}
