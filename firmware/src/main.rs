//! Ready-made firmware: joins a known network, blinks, says that it lives, and updates itself over the air.
//!
//! [`firmware`] is the order of things; each has a module. [`credentials`] are what the device was told, [`setup`] is
//! how it is told by phone, [`wifi`] joins and stays joined, [`app`] is what a user would replace with something
//! useful. The agent's side of the chip is the crate `otaru-esp-hal`.
#![no_std]
#![no_main]
#![forbid(clippy::undocumented_unsafe_blocks)]

extern crate alloc;

mod app;
mod budget;
mod chip;
mod credentials;
mod heartbeat;
mod misbehave;
mod pins;
mod setup;
mod tasks;
#[cfg(feature = "with-tls")]
mod time;
#[cfg(feature = "with-tls")]
mod tls;
mod wifi;

use alloc::boxed::Box;

use embassy_executor::Spawner;
#[cfg(not(feature = "agent"))]
use embassy_futures::select::Either;
use embassy_futures::select::select;
use embassy_net::{Runner, Stack, StackResources};
#[cfg(feature = "agent")]
use embassy_time::Instant;
use embassy_time::{Duration, Timer};
use esp_hal::clock::CpuClock;
use esp_hal::ram;
use esp_hal::rng::Rng;
use esp_hal::system::software_reset;
use esp_hal::timer::timg::TimerGroup;
use esp_radio::wifi::{ControllerConfig, Interface, WifiController};
use otaru_device::Board;
use otaru_device::format::topic::DEFAULT_BASE;
#[cfg(feature = "agent")]
use otaru_device::{Agent, Config, Credentials, Workspace};
use otaru_esp_hal::{EspBoard, EspFlash, FRAMES, memory};
#[cfg(feature = "agent")]
use otaru_esp_hal::{EspPlatform, Net, Sockets};
use otaru_setup::Settings;
use otaru_setup::proof::{Choice, Standing};
#[cfg(feature = "agent")]
use static_cell::ConstStaticCell;
use static_cell::StaticCell;

use crate::app::VERSION;
use crate::chip::BUDGET;
use crate::tasks::start;
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

#[cfg(feature = "agent")]
const VARIABLES: usize = size_of::<Workspace>() + size_of::<Sockets>();
#[cfg(not(feature = "agent"))]
const VARIABLES: usize = 0;
const _: () = assert!(
    BUDGET.holds(VARIABLES),
    "the chip's memory does not hold the firmware's variables: see budget.rs"
);

/// Sockets at once: MQTT, a download, name lookup, DHCP, the heartbeat, the time where there is TLS, and one to spare.
const SOCKETS: usize = if cfg!(feature = "with-tls") { 7 } else { 6 };

otaru_esp_hal::main!(firmware);

/// The start stands on the heap and is given back when the agent runs, so that no static memory is kept for it.
#[embassy_executor::task]
async fn firmware(spawner: Spawner) {
    heap();
    Box::pin(start_up(spawner)).await;
}

async fn start_up(spawner: Spawner) {
    let chip = esp_hal::init(esp_hal::Config::default().with_cpu_clock(CpuClock::max()));
    let mut board = EspBoard::new(chip.RTC_TIMER); // Arms the watchdog, before anything that could hang.
    #[cfg(not(behaviour = "crash_in_update"))]
    esp_println::logger::init_logger(log::LevelFilter::Info);
    #[cfg(behaviour = "crash_in_update")]
    misbehave::watch_the_lines();
    esp_rtos::start(TimerGroup::new(chip.TIMG0).timer0, chip.FROM_CPU_INTR0);
    log::info!("otaru-firmware {VERSION} on {}, start: {}", board.chip(), board.reset_reason().as_str());

    start(spawner, app::blink(pins::led!(chip)));
    let mut flash = EspFlash::new(chip.FLASH);
    let boot = begin(&mut flash, &mut board).await;
    misbehave::at_start();
    #[cfg(behaviour = "block")]
    misbehave::later(spawner, board.reset_reason());
    #[cfg(behaviour = "tell_heap")]
    misbehave::tell_heap(spawner);

    start(spawner, setup::watch(pins::button!(chip)));
    let asked = setup::asked_for();
    let choice = credentials::load(&mut flash, boot.settings()).await;
    let mut controller = match WifiController::new(chip.WIFI, radio()) {
        Ok(controller) => controller,
        Err(error) => board.give_up(pause(&boot), format_args!("the radio does not start: {error:?}")).await,
    };
    match choice {
        Choice::Join(settings, standing) if !asked => {
            run(spawner, controller, (settings, standing), flash, board, boot)
        }
        choice => {
            let (interface, addresses) = match setup::network(&mut controller).await {
                Ok(network) => network,
                Err(error) => {
                    board
                        .give_up(pause(&boot), format_args!("the access point does not open: {error:?}"))
                        .await
                }
            };
            let stack = network(spawner, interface, addresses);
            let open = match (is_trial(&boot), &choice) {
                // An image that has lost its settings does not come further than this: the old one knew them.
                (true, _) => Some(setup::ON_TRIAL),
                (false, Choice::SetUp { again: false }) => None,
                (false, _) => Some(setup::OPEN),
            };
            select(setup::serve(stack, &mut flash, boot.settings(), open), feed(&mut board)).await;
            if let Choice::SetUp { again: true } = choice {
                credentials::try_again(&mut flash, boot.settings()).await;
            }
            software_reset()
        }
    }
}

/// Starts what joins the network and lives on it. The agent is a task of its own: what it calls does not stand on the frame of
/// what came before it.
fn run(
    spawner: Spawner,
    controller: WifiController<'static>,
    (settings, standing): (Settings, Option<Standing>),
    flash: EspFlash<'static>,
    board: EspBoard<'static>,
    boot: Boot,
) {
    static SETTINGS: StaticCell<Settings> = StaticCell::new();
    static SIGNAL: Signal = Signal::new();
    static NAME: StaticCell<heapless::String<32>> = StaticCell::new();
    let settings: &'static Settings = SETTINGS.init(settings);
    let name: &'static str = NAME.init(credentials::device_name(settings, board.chip()));
    let topic: &'static str = if settings.topic.is_empty() { DEFAULT_BASE } else { &settings.topic };

    let stack = network(spawner, Interface::station(), embassy_net::Config::dhcpv4(Default::default()));
    let link = Wifi::new(controller, stack, &settings.networks, &SIGNAL);
    start(spawner, heartbeat::run(stack, settings, name, topic, &SIGNAL));
    prove(spawner, settings, standing, &boot);
    let unused = memory::free_stack().unwrap_or(0);
    log::info!("{name}: {} bytes of heap left, {unused} of stack", esp_alloc::HEAP.free());
    #[cfg(feature = "with-tls")]
    if let (true, Some(server)) = (tls::is_built_in() || settings.trust.is_some(), tls::time_server()) {
        time::remember(&tls::CLOCK);
        start(spawner, time::run(stack, server, &tls::CLOCK));
    }
    start(spawner, live(name, topic, settings, stack, link, flash, board, boot));
}

#[cfg(feature = "agent")]
type Boot = otaru_device::Boot;
/// Slots, of which a firmware without an agent wants to know where settings are.
#[cfg(not(feature = "agent"))]
type Boot = otaru_device::slots::Slots;

/// The agent's first look: counts a trial boot, or goes back to the old image.
#[cfg(feature = "agent")]
async fn begin(flash: &mut EspFlash<'_>, board: &mut EspBoard<'_>) -> Boot {
    // Names come later: they may be in flash, and a trial is counted before anything else is touched.
    match otaru_device::begin(flash, board, &config("", "")).await {
        Ok(boot) => {
            let trial = if boot.is_trial() { ", on trial" } else { "" };
            log::info!(
                "slot {}{trial}; looked at it in {} ms",
                boot.slot().number(),
                Instant::now().as_millis()
            );
            boot
        }
        Err(error) => board.refuse(&error).await,
    }
}

#[cfg(not(feature = "agent"))]
async fn begin(flash: &mut EspFlash<'_>, board: &mut EspBoard<'_>) -> Boot {
    match Boot::open(flash, board.running_address()).await {
        Ok(slots) => slots,
        Err(error) => board.refuse(&error).await,
    }
}

#[cfg(feature = "agent")]
fn is_trial(boot: &Boot) -> bool {
    boot.is_trial()
}

#[cfg(not(feature = "agent"))]
fn is_trial(_: &Boot) -> bool {
    false
}

/// Has settings that are still to be proved watched. A new image is judged by itself first.
#[cfg(feature = "agent")]
fn prove(spawner: Spawner, settings: &'static Settings, standing: Option<Standing>, boot: &Boot) {
    let (Some(standing), Some(region), false) = (standing, boot.settings(), boot.is_trial()) else { return };
    // SAFETY: This second handle reads and writes the settings' part of flash only, which the agent leaves alone, and each
    // operation is one call that is over before another task of this executor runs. TLS has read what was set before the first one.
    let flash = EspFlash::new(unsafe { esp_hal::peripherals::FLASH::steal() });
    start(spawner, credentials::watch(flash, region, settings, standing));
}

/// Nothing here hears of a broker.
#[cfg(not(feature = "agent"))]
fn prove(_: Spawner, _: &'static Settings, _: Option<Standing>, _: &Boot) {}

/// Time to say what is wrong before the restart that may help: a new image is soon to make room for the old one.
fn pause(boot: &Boot) -> core::time::Duration {
    core::time::Duration::from_secs(if is_trial(boot) { 60 } else { 15 * 60 })
}

/// Feeds the watchdog while something else than the agent runs.
async fn feed(board: &mut EspBoard<'_>) -> ! {
    loop {
        board.feed_watchdog();
        Timer::after(Duration::from_secs(1)).await;
    }
}

/// The agent's settings, but for those that a user gave.
#[cfg(feature = "agent")]
fn config<'a>(name: &'a str, host: &'a str) -> Config<'a> {
    let mut config = Config::new(name, host);
    // Also the image's hash must be done within: a second on a chip, more in an emulator on a busy machine.
    config.watchdog = core::time::Duration::from_secs(60);
    if cfg!(behaviour = "impatient") {
        config.trial_deadline = core::time::Duration::from_secs(45);
        config.watchdog = core::time::Duration::from_secs(30);
    }
    config
}

/// Runs the agent.
#[cfg(feature = "agent")]
#[embassy_executor::task]
async fn live(
    name: &'static str,
    topic: &'static str,
    settings: &'static Settings,
    stack: Stack<'static>,
    link: Wifi<'static>,
    flash: EspFlash<'static>,
    mut board: EspBoard<'static>,
    boot: Boot,
) -> ! {
    static SOCKETS: StaticCell<Sockets> = StaticCell::new();
    static WORKSPACE: ConstStaticCell<Workspace> = ConstStaticCell::new(Workspace::new());
    let mut config = config(name, &settings.host);
    config.broker_port = settings.port;
    config.broker_tls = settings.tls;
    config.mqtt = settings.mqtt;
    config.topic_prefix = topic;
    (config.allow_unsigned, config.keys, config.hosts) = credentials::TRUST;
    if !settings.user.is_empty() {
        config.credentials = Some(Credentials { username: &settings.user, password: &settings.password });
    }
    // Settings and keys were checked by the same code before they were kept.
    if let Err(error) = config.check() {
        board.give_up(pause(&boot), format_args!("{error}")).await
    }
    #[cfg(feature = "with-tls")]
    let mut flash = flash;
    #[cfg(feature = "with-tls")]
    let tls = credentials::start_tls(&mut flash, boot.settings(), settings).await;
    #[cfg(not(feature = "with-tls"))]
    let tls = &otaru_device::NoTls;
    if config.broker_tls && !otaru_device::Tls::is_ready(tls) {
        board.give_up(pause(&boot), format_args!("{}", otaru_device::ConfigError::NoTls)).await
    }
    let net = Net::new(stack, SOCKETS.init_with(Sockets::new), settings.port);
    let parts = EspPlatform::parts_with_tls(&net, tls, flash, board, link, app::AppHealth);
    match Agent::new(config, parts, WORKSPACE.take(), boot) {
        Ok(mut agent) => match agent.run().await {},
        Err(_) => software_reset(),
    }
}

/// Only keeps the network.
#[cfg(not(feature = "agent"))]
#[embassy_executor::task]
async fn live(
    _name: &'static str,
    _topic: &'static str,
    _settings: &'static Settings,
    _stack: Stack<'static>,
    mut link: Wifi<'static>,
    _flash: EspFlash<'static>,
    mut board: EspBoard<'static>,
    _boot: Boot,
) -> ! {
    use otaru_device::Link as _;
    let watchdog = feed(&mut board);
    let stay = async {
        loop {
            if !link.is_up() {
                let _ = link.reconnect().await;
            }
            Timer::after(Duration::from_secs(1)).await;
        }
    };
    match select(stay, watchdog).await {
        Either::First(never) | Either::Second(never) => never,
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

/// The heap in the main memory; with TLS its variables and larger futures take of it, so that the stack keeps its size.
#[cfg(all(not(feature = "esp32s2"), feature = "with-tls"))]
const MAIN_HEAP: usize = (BUDGET.heap - tls::VARIABLES) as usize;
#[cfg(not(any(feature = "esp32s2", feature = "with-tls")))]
const MAIN_HEAP: usize = BUDGET.heap as usize;

/// The heap, for the radio's driver and for sessions of TLS; the agent itself needs none.
fn heap() {
    // What the bootloader used is free now.
    esp_alloc::heap_allocator!(#[ram(reclaimed)] size: BUDGET.reclaimed as usize);
    #[cfg(not(feature = "esp32s2"))]
    esp_alloc::heap_allocator!(size: MAIN_HEAP);
}

/// The radio's settings: room for what a download's window lets arrive at once. A buffer takes 1.6 KB of the heap.
fn radio() -> ControllerConfig {
    const _: () = assert!(FRAMES <= 25, "the driver takes no more static buffers");
    ControllerConfig::default().with_rx_queue_size(FRAMES).with_static_rx_buf_num(FRAMES as u8)
}
