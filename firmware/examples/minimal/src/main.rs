//! The update agent in a firmware that has Wi-Fi already. What Otaru adds stands between the marks, and is counted:
//! no more than twenty lines.
#![no_std]
#![no_main]

use embassy_executor::Spawner;
use embassy_net::{Runner, StackResources};
use embassy_time::{Duration, Timer};
use esp_hal::ram;
use esp_hal::rng::Rng;
use esp_hal::timer::timg::TimerGroup;
use esp_radio::wifi::sta::StationConfig;
use esp_radio::wifi::{
    AuthenticationMethodConfig, Config as WifiConfig, ControllerConfig, Interface, WifiController,
};
use static_cell::{ConstStaticCell, StaticCell};
// otaru: begin
use otaru_device::{Agent, AlwaysHealthy, Config, PublicKey, Workspace};
use otaru_esp_hal::{EspBoard, EspFlash, EspPlatform, Net, Sockets, StackLink};
// otaru: end

esp_bootloader_esp_idf::esp_app_desc!();

/// Public key, as `otaru keygen` printed it. With this one, which anybody can sign under, the agent does not start.
// otaru: begin
const RELEASE_KEY: PublicKey = PublicKey::from_bytes([0; 32]);
// otaru: end

// otaru: begin
otaru_esp_hal::main!(firmware);
// otaru: end

#[embassy_executor::task]
async fn firmware(spawner: Spawner) {
    let chip = esp_hal::init(esp_hal::Config::default());
    // otaru: begin
    let mut board = EspBoard::new(chip.RTC_TIMER);
    let mut flash = EspFlash::new(chip.FLASH);
    let mut config = Config::new("minimal", "broker.lan");
    config.keys = &[RELEASE_KEY];
    // otaru: end
    esp_println::logger::init_logger(log::LevelFilter::Info);
    esp_alloc::heap_allocator!(#[ram(reclaimed)] size: 64 * 1024);
    // What remains of the main memory is the stack's: an update wants 48 KiB.
    esp_alloc::heap_allocator!(size: 16 * 1024);
    esp_rtos::start(TimerGroup::new(chip.TIMG0).timer0, chip.FROM_CPU_INTR0);
    // otaru: begin
    let boot = match otaru_device::begin(&mut flash, &mut board, &config).await {
        Ok(boot) => boot,
        Err(error) => board.refuse(&error).await,
    };
    // otaru: end

    let Ok(controller) = WifiController::new(chip.WIFI, ControllerConfig::default()) else {
        panic!("the radio does not start");
    };
    static RESOURCES: StaticCell<StackResources<5>> = StaticCell::new();
    let dhcp = embassy_net::Config::dhcpv4(Default::default());
    let resources = RESOURCES.init(StackResources::new());
    let (stack, runner) =
        embassy_net::new(Interface::station(), dhcp, resources, u64::from(Rng::new().random()));
    if let (Ok(network), Ok(wifi)) = (run_network(runner), stay_joined(controller)) {
        spawner.spawn(network);
        spawner.spawn(wifi);
    }

    // otaru: begin
    static SOCKETS: StaticCell<Sockets> = StaticCell::new();
    let net = Net::new(stack, SOCKETS.init_with(Sockets::new), config.broker_port);
    static WORKSPACE: ConstStaticCell<Workspace> = ConstStaticCell::new(Workspace::new());
    let parts = EspPlatform::parts(&net, flash, board, StackLink::new(stack), AlwaysHealthy);
    let mut agent = Agent::new(config, parts, WORKSPACE.take(), boot).expect("a sound configuration");
    match agent.run().await {}
    // otaru: end
}

#[embassy_executor::task]
async fn run_network(mut runner: Runner<'static, Interface>) -> ! {
    runner.run().await
}

/// The firmware's own way of staying on the network.
#[embassy_executor::task]
async fn stay_joined(mut controller: WifiController<'static>) -> ! {
    let network = StationConfig::default()
        .with_ssid("home".try_into().unwrap_or_default())
        .with_authentication(AuthenticationMethodConfig::Open);
    let _ = controller.set_config(&WifiConfig::Station(network));
    loop {
        if !controller.is_connected() {
            let _ = controller.connect_async().await;
        }
        Timer::after(Duration::from_secs(1)).await;
    }
}
