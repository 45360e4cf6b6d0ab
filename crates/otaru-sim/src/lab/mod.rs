//! A laboratory: one virtual device, a broker and a web server on a network in memory.
//!
//! Everything runs on tokio's paused clock and from a seed, so a scenario of minutes takes milliseconds and
//! ends the same way every time. Tests and benchmarks stand on it. Run it inside [`run`].

pub mod broker;
pub mod dialect;
pub mod http;
mod pipe;
pub mod release;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use otaru_device::{Clock as _, Config};
use otaru_format::chip::Chip;
use otaru_format::digest::Digest;
use otaru_format::status::{Status, UpdateState};
use tokio::task::{JoinHandle, LocalSet};

use crate::bootloader::BootloaderKind;
use crate::clock::SimClock;
use crate::device::{ChipFacts, Event, Oddity, VirtualDevice};
use crate::firmware::{Behaviour, FirmwareSpec};
use crate::flash::{Flash, FlashError};
use crate::geometry::Geometry;
use crate::lan::{Lan, Quality};
use crate::tls::HostTls;
use broker::Broker;
use dialect::VersionRefusal;
use http::{Act, Http};
pub use pipe::HostConfig;

/// The device's name.
pub const DEVICE: &str = "lab-1";
/// The project of all firmware here.
pub const PROJECT: &str = "lab";

/// Runs a scenario on a paused clock.
pub fn run<T>(scenario: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    // Without a runtime there is nothing to test.
    let runtime = runtime.expect("a tokio runtime");
    LocalSet::new().block_on(&runtime, scenario)
}

/// Runs a scenario with a broker that speaks both versions of MQTT, and once more with one that speaks 3.1.1 only.
pub fn on_each_broker(scenario: impl AsyncFn(Option<VersionRefusal>)) {
    for only_311 in [None, Some(VersionRefusal::Code)] {
        run(scenario(only_311));
    }
}

/// A synthetic image for the lab's device.
pub fn firmware(version: &str, size: usize, behaviour: Behaviour) -> Vec<u8> {
    firmware_spec(version, size, behaviour).build()
}

/// Returns the specification that [`firmware`] builds from.
pub fn firmware_spec(version: &str, size: usize, behaviour: Behaviour) -> FirmwareSpec {
    let (project, version) = (PROJECT.into(), version.into());
    FirmwareSpec { chip: Chip::Esp32C3, project, version, secure_version: 0, size, behaviour }
}

/// Configuration of a lab.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The device's bootloader.
    pub bootloader: BootloaderKind,
    /// Flash chip, and the partitions on it.
    pub geometry: Geometry,
    /// Quality of the network.
    pub quality: Quality,
    /// Facts that its chip tells of itself.
    pub facts: ChipFacts,
    /// Configuration of the agent.
    pub config: Config<'static>,
    /// Seed of all randomness.
    pub seed: u64,
    /// Whether the device's chance is another one each time that it is switched on, as a chip's is. Otherwise what follows a loss of
    /// power depends on what it left alone.
    pub chance_varies: bool,
    /// Oddity of the device's chip.
    pub oddity: Oddity,
    /// Answer to MQTT 5, where the broker speaks 3.1.1 only.
    pub only_311: Option<VersionRefusal>,
    /// TLS of the device.
    pub tls: HostTls,
    /// TLS of the web server and of the broker, at ports of their own.
    pub host_tls: Option<HostConfig>,
}

impl Default for Setup {
    /// A device that takes unsigned images, on a home network.
    fn default() -> Self {
        let mut config = Config::new(DEVICE, "broker");
        config.allow_unsigned = true;
        Self {
            bootloader: BootloaderKind::Plain,
            geometry: Geometry::default(),
            quality: Quality::HOME,
            facts: ChipFacts::default(),
            config,
            seed: 1,
            chance_varies: false,
            oddity: Oddity::None,
            only_311: None,
            tls: HostTls::default(),
            host_tls: None,
        }
    }
}

/// The laboratory.
pub struct Lab {
    /// Clock.
    pub clock: SimClock,
    /// Network.
    pub lan: Lan,
    /// Broker.
    pub broker: Broker,
    /// Web server.
    pub http: Http,
    /// The device's flash.
    pub flash: Flash,
    setup: Setup,
    events: Rc<RefCell<Vec<Event>>>,
    /// Number of times that the device was given power.
    power_ons: u64,
    running: Option<JoinHandle<()>>,
}

impl Lab {
    /// A lab whose device was flashed with `image` and is off.
    ///
    /// # Errors
    /// Returns [`FlashError::OutOfBounds`] if the image is larger than its partition.
    pub fn new(setup: Setup, image: &[u8]) -> Result<Self, FlashError> {
        let clock = SimClock::new(1.0);
        let flash = setup.geometry.blank_chip(clock.clone());
        setup.geometry.provision(&flash, image)?;
        Ok(Self::with_flash(setup, flash, clock))
    }

    /// A lab whose device is off and has these contents in its flash, which are shared with other labs.
    pub fn flashed(setup: Setup, contents: Rc<[u8]>) -> Self {
        let clock = SimClock::new(1.0);
        let flash = Flash::sharing(contents, setup.geometry.timing, clock.clone());
        Self::with_flash(setup, flash, clock)
    }

    fn with_flash(setup: Setup, flash: Flash, clock: SimClock) -> Self {
        let lan = Lan::new(clock.clone(), setup.quality, setup.seed);
        let broker = Broker::start(&lan, clock.clone(), setup.host_tls.clone());
        broker.speak_311_only(setup.only_311);
        let http = Http::start(&lan, clock.clone(), setup.host_tls.clone());
        Self { clock, lan, broker, http, flash, setup, events: Rc::default(), power_ons: 0, running: None }
    }

    /// Gives the device power.
    pub fn power_on(&mut self) {
        self.power_off();
        self.flash.restore_power();
        let (lan, device, events) = (self.lan.clone(), self.device(), Rc::clone(&self.events));
        // The first start is by the seed alone.
        self.power_ons += 1;
        self.running = Some(tokio::task::spawn_local(async move {
            device(&lan).run(|event| events.borrow_mut().push(event)).await;
        }));
    }

    /// Bytes of the device's running agent, every buffer included; `None` when nothing boots.
    pub async fn agent_size(&self) -> Option<usize> {
        self.device()(&self.lan).agent_size().await
    }

    /// Returns a function that puts the device onto a network.
    fn device(&self) -> impl FnOnce(&Lan) -> VirtualDevice<'_, Lan, Lan> + use<> {
        let (flash, clock, setup) = (self.flash.clone(), self.clock.clone(), self.setup.clone());
        let power_ons = if setup.chance_varies { self.power_ons } else { 0 };
        move |lan| VirtualDevice {
            config: setup.config,
            flash,
            bootloader: setup.bootloader,
            chip: Chip::Esp32C3,
            facts: setup.facts,
            clock,
            net: lan,
            tls: setup.tls,
            link: lan.clone(),
            seed: setup.seed,
            power_ons,
            oddity: setup.oddity,
        }
    }

    /// Takes the power between two flash operations.
    pub fn power_off(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }

    /// Serves these bytes well, at every path.
    pub fn serve(&self, bytes: &[u8]) {
        let bytes = bytes.to_vec();
        let etag = format!("\"{}\"", Digest::of(&bytes));
        self.http.handle(move |request| http::file(request, &bytes, &etag));
    }

    /// Sends every device the plain command to fetch the lab's firmware.
    pub fn command(&self) {
        self.broker.publish("ESP32/ota/update", self.url(), false);
    }

    /// Returns the URL of the lab's firmware: over TLS where the host speaks it.
    pub fn url(&self) -> &'static str {
        match self.setup.host_tls {
            Some(_) => "https://files/new.bin",
            None => "http://files/new.bin",
        }
    }

    /// Returns the events of the device.
    pub fn events(&self) -> Vec<Event> {
        self.events.borrow().clone()
    }

    /// The device's status reports, in order.
    pub fn reports(&self) -> Vec<Status<String>> {
        let topic = format!("ESP32/ota/{DEVICE}/status");
        let messages = self.broker.messages();
        let own = messages.iter().filter(|message| message.topic == topic);
        own.filter_map(|message| serde_json::from_str(&message.payload).ok()).collect()
    }

    /// The plain lines the device wrote.
    pub fn lines(&self) -> Vec<String> {
        let messages = self.broker.messages().into_iter();
        messages.filter(|m| m.topic == "ESP32/ota/progress").map(|m| m.payload).collect()
    }

    /// Waits for a report that `wanted` holds of, for at most `limit`; gives back the newest report.
    pub async fn wait_for(
        &self,
        limit: Duration,
        mut wanted: impl FnMut(&Status<String>) -> bool,
    ) -> Option<Status<String>> {
        let topic = format!("ESP32/ota/{DEVICE}/status");
        let (mut seen, mut found) = (0, None);
        let search = self.broker.wait_until(|messages| {
            for message in messages.iter().skip(seen).filter(|message| message.topic == topic) {
                found = serde_json::from_str(&message.payload).ok().filter(&mut wanted).or(found.take());
            }
            seen = messages.len();
            found.is_some()
        });
        let _ = tokio::time::timeout(limit, search).await;
        found
    }

    /// Waits until the device is connected, powered on before.
    pub async fn ready(&self) {
        let online = format!("ESP32/ota/{DEVICE}/online");
        let since = self.clock.now();
        self.broker
            .wait_until(|messages| {
                messages.iter().any(|m| m.topic == online && m.payload == "online" && m.at >= since)
            })
            .await;
    }

    /// The state the next update ends in, begun by [`Lab::command`].
    pub async fn update(&self, limit: Duration) -> Option<Status<String>> {
        let before = self.reports().len();
        self.command();
        let mut count = 0;
        self.wait_for(limit, |status| {
            count += 1;
            count > before && status.state.is_final()
        })
        .await
    }

    /// Updates to a file whose first request brings `cut` bytes and then nothing, takes the power 5 s after a report is `ready`, and
    /// gives it back. How many bytes were sent after that, and how the update ended; `None` when it did not get there within `limit`.
    pub async fn update_with_a_cut(
        &mut self,
        bytes: Vec<u8>,
        cut: usize,
        limit: Duration,
        ready: impl Fn(&Status<String>) -> bool,
    ) -> Option<(usize, Status<String>)> {
        self.http.handle(move |request| {
            let mut acts = http::file(request, &bytes, "\"r\"");
            if request.number == 0
                && let Some(Act::Send(body)) = acts.get_mut(1)
            {
                body.truncate(cut);
                acts.push(Act::Stall);
            }
            acts
        });
        self.broker.publish(&format!("ESP32/ota/{DEVICE}/update"), "http://files/new.otaru", true);
        self.wait_for(limit, ready).await?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        self.power_off();
        let before = self.http.sent();
        self.power_on();
        let end = self.wait_for(limit, |status| status.state == UpdateState::Confirmed).await?;
        Some((usize::try_from(self.http.sent() - before).unwrap_or(usize::MAX), end))
    }

    /// Whether the newest report says so: this version, confirmed.
    pub fn runs(&self, version: &str) -> bool {
        self.reports().last().is_some_and(|status| {
            status.version == version && status.confirmed && status.state != UpdateState::Trial
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.power_off();
    }
}
