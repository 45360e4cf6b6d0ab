//! Ready-made firmware: joins a known network, blinks, says that it lives, and updates itself over the air.
//!
//! `main` is the order of things; each has a module. [`credentials`] are what the device was told, [`setup`] is
//! how it is told by phone, [`wifi`] joins and stays joined, [`app`] is what a user would replace with something
//! useful. The agent's side of the chip is the crate `otaru-esp-hal`.
#![no_std]
#![no_main]
#![forbid(clippy::undocumented_unsafe_blocks)]

extern crate alloc;

mod app;
mod credentials;
mod pins;
mod wifi;



use embassy_executor::{SpawnError, SpawnToken, Spawner};
use embassy_net::{Runner, Stack, StackResources};
use embassy_time::{Duration, Timer};
use esp_hal::clock::CpuClock;
use esp_hal::peripherals::WIFI;
use esp_hal::ram;
use esp_hal::rng::Rng;
use esp_hal::timer::timg::TimerGroup;
use esp_radio::wifi::{ControllerConfig, Interface, WifiController};
use otaru_device::{Agent, Board, Boot, Config, Credentials, Io};
use otaru_esp_hal::{EspBoard, EspClock, EspFlash, Net, Sockets};
use otaru_setup::Settings;
use static_cell::StaticCell;

use crate::app::VERSION;
use crate::wifi::{Signal, Wifi};

esp_bootloader_esp_idf::esp_app_desc!(
    VERSION,
    "otaru-firmware",
    esp_bootloader_esp_idf::BUILD_TIME,
    esp_bootloader_esp_idf::BUILD_DATE,
    esp_bootloader_esp_idf::ESP_IDF_COMPATIBLE_VERSION,
    esp_bootloader_esp_idf::MMU_PAGE_SIZE,
    0,
    u16::MAX,
    esp_bootloader_esp_idf::SECURE_VERSION
);

/// Sockets at once: MQTT, a download, name lookup, DHCP, the heartbeat, and one to spare.
const SOCKETS: usize = 6;

#[esp_rtos::main]
async fn main(spawner: Spawner) {
    let chip = esp_hal::init(esp_hal::Config::default().with_cpu_clock(CpuClock::max()));
    let mut board = EspBoard::new(chip.RTC_TIMER); // Arms the watchdog, before anything that could hang.
    esp_println::logger::init_logger(log::LevelFilter::Info);
    heap();
    esp_rtos::start(TimerGroup::new(chip.TIMG0).timer0, chip.FROM_CPU_INTR0);
    log::info!("otaru-firmware {VERSION} on {}, start: {}", board.chip(), board.reset_reason().as_str());

    let mut flash = EspFlash::new(chip.FLASH);
    let boot = match otaru_device::begin(&mut flash, &mut board, &Config::new("", "")).await {
        Ok(boot) => boot,
        Err(error) => stop(format_args!("{error}")).await,
    };
    log::info!("slot {}, {}", boot.slot(), if boot.is_trial() { "on trial" } else { "confirmed" });
    misbehave();

    start(spawner, app::blink(pins::led!(chip)));
    let settings = credentials::load(&mut flash, boot.settings()).await;
    let Some(settings) = settings else { stop(format_args!("no credentials")).await };
    run(spawner, chip.WIFI, settings, flash, board, boot).await;
}

/// Joins the network and runs the agent, for ever.
async fn run(
    spawner: Spawner,
    wifi: WIFI<'static>,
    settings: Settings,
    flash: EspFlash<'static>,
    board: EspBoard<'static>,
    boot: Boot,
) -> ! {
    static SETTINGS: StaticCell<Settings> = StaticCell::new();
    static SOCKET: StaticCell<Sockets> = StaticCell::new();
    static SIGNAL: StaticCell<Signal> = StaticCell::new();
    static NAME: StaticCell<heapless::String<32>> = StaticCell::new();
    let settings: &Settings = SETTINGS.init(settings);
    let signal: &Signal = SIGNAL.init(Signal::new());
    let name: &str = NAME.init(credentials::device_name(settings, board.chip()));

    let controller = match WifiController::new(wifi, ControllerConfig::default()) {
        Ok(controller) => controller,
        Err(error) => stop(format_args!("the radio does not start: {error:?}")).await,
    };
    let stack = network(spawner, Interface::station(), embassy_net::Config::dhcpv4(Default::default()));
    let link = Wifi::new(controller, stack, &settings.networks, signal);

    let mut config = Config::new(name, &settings.host);
    config.broker_port = settings.port;
    if !settings.topic.is_empty() {
        config.base = &settings.topic;
    }
    if !settings.user.is_empty() {
        config.credentials = Some(Credentials { username: &settings.user, password: &settings.password });
    }
    log::info!("{name}: {} bytes of heap left", esp_alloc::HEAP.free());

    let net = Net::new(stack, SOCKET.init(Sockets::new()), settings.port);
    let io = Io { net: &net, clock: &EspClock, flash, board, link, health: app::AppHealth, rng: Rng::new() };
    match Agent::new(config, io, boot).run().await {
        Ok(never) => match never {},
        Err(error) => stop(format_args!("{error}")).await,
    }
}

/// A network interface with its stack, and the task that runs it.
fn network(spawner: Spawner, interface: Interface, config: embassy_net::Config) -> Stack<'static> {
    static RESOURCES: StaticCell<StackResources<SOCKETS>> = StaticCell::new();
    let rng = Rng::new();
    let seed = (u64::from(rng.random()) << 32) | u64::from(rng.random());
    let (stack, runner) = embassy_net::new(interface, config, RESOURCES.init(StackResources::new()), seed);
    start(spawner, run_network(runner));
    stack
}

#[embassy_executor::task]
async fn run_network(mut runner: Runner<'static, Interface>) -> ! {
    runner.run().await
}

/// Starts a task. Each is started once, so there is always room for it.
fn start<S>(spawner: Spawner, task: Result<SpawnToken<S>, SpawnError>) {
    match task {
        Ok(token) => spawner.spawn(token),
        Err(error) => log::error!("a task does not start: {error:?}"),
    }
}

/// The heap, for the radio's driver; the agent needs none.
fn heap() {
    // What the bootloader used is free now.
    esp_alloc::heap_allocator!(#[ram(reclaimed)] size: 64 * 1024);
    esp_alloc::heap_allocator!(size: 64 * 1024);
}

/// What a test wants this firmware to do wrong, right after its start.
fn misbehave() {
    #[cfg(behaviour = "crash")]
    panic!("crashing on purpose");
    #[cfg(behaviour = "hang")]
    loop {
        core::hint::spin_loop();
    }
}

/// Nothing to be done without help. During a trial the watchdog ends this, and the old image returns.
async fn stop(reason: core::fmt::Arguments<'_>) -> ! {
    loop {
        log::error!("{reason}");
        Timer::after(Duration::from_secs(10)).await;
    }
}
