//! A server and its devices in one process, for `cargo xtask bench fleet --streams`: each device's way to the broker is a stream in
//! memory, which the broker serves as it serves a socket. So there may be more devices than a process may have open files.
//!
//! The devices are those of `otaru sim`: the whole agent, over flash in memory. Downloads go over sockets, since few are under way at a time.
//! Devices run in threads named `devices`, so that their processor time can be told from the server's. They are switched on
//! before the server says where it is, and connect once standard input is closed: what memory grows by from then on is mostly the server's.
#![forbid(unsafe_code)]
// The layout of a virtual device's future, with the whole agent in it, nests deeper than 128 queries.
#![recursion_limit = "256"]

use std::cell::Cell;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use clap::Parser;
use embedded_io_adapters::tokio_1::FromTokio;
use embedded_io_async::{ErrorType, Read, Write};
use embedded_nal_async::{AddrType, Dns, TcpConnect};
use otaru_format::chip::Chip;
use otaru_format::image::Head;
use otaru_server::config::{Config, MqttConfig};
use otaru_server::mqtt::Entrance;
use otaru_server::server::Server;
use otaru_sim::bootloader::BootloaderKind;
use otaru_sim::clock::SimClock;
use otaru_sim::device::{ChipFacts, Oddity, VirtualDevice};
use otaru_sim::firmware::provision;
use otaru_sim::flash::{FLASH_LEN, Flash, Timing};
use otaru_sim::net::{Connection, TokioNet, Wifi};
use tokio::io::DuplexStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;
use tokio::task::LocalSet;
use tracing_subscriber::EnvFilter;

/// That of `otaru serve`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Connections that the broker has room for: streams need no files.
const ROOM: usize = 100_000;
/// Bytes that wait in a stream in each direction before its writer waits.
const STREAM: usize = 4 << 10;
/// The broker, as the devices' settings have it. Nothing listens there.
const BROKER: Ipv4Addr = Ipv4Addr::new(10, 255, 255, 254);
/// Interval of looking whether all devices are switched on.
const LOOK: Duration = Duration::from_millis(100);

/// Runs a server, and devices in its own process.
#[derive(Parser)]
struct Args {
    /// Folder of the server's data
    #[arg(long)]
    data: PathBuf,
    /// Address of the API and of downloads
    #[arg(long)]
    http: SocketAddr,
    /// Address of the metrics
    #[arg(long)]
    metrics: SocketAddr,
    /// Firmware of the devices
    #[arg(long)]
    firmware: PathBuf,
    /// Number of devices
    #[arg(long)]
    devices: u32,
    /// Threads that they run in
    #[arg(long, default_value_t = 2)]
    threads: u32,
    /// Factor by which their flash and waits are faster than real time
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    // The devices' own lines are of no interest: a crowd that comes at once is told to come again, each of them several times.
    let filter = EnvFilter::new("warn,otaru=off,otaru_broker=warn,otaru_server=warn");
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let fleet = Fleet::read(&args)?;
    runtime.block_on(async {
        let mut server = Server::start(config(&args)).await?;
        let entrance = server.mqtt_entrance().context("the server has no broker of its own")?;
        let (open, is_open) = watch::channel(false);
        let came = Arc::new(AtomicU32::new(0));
        let gate = Gate { entrance, server: Handle::current(), is_open, came: Arc::clone(&came) };
        for thread in 0..args.threads {
            let numbers = (thread..args.devices).step_by(args.threads.max(1) as usize).collect();
            let (fleet, gate) = (fleet.clone(), gate.clone());
            std::thread::Builder::new().name("devices".into()).spawn(move || fleet.run(numbers, &gate))?;
        }
        while came.load(Ordering::Relaxed) < args.devices {
            tokio::time::sleep(LOOK).await;
        }
        let token = server.first_token().context("the server made no token")?;
        println!("{}", serde_json::json!({"event": "listening", "token": token}));
        tokio::task::spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new())).await??;
        open.send_replace(true);
        Err(anyhow!("the server ended: {}", server.failed().await))
    })
}

fn config(args: &Args) -> Config {
    Config {
        data: args.data.clone(),
        database: None,
        http: args.http,
        tls: None,
        mqtt: MqttConfig::Embedded {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            room: ROOM,
            proxies: Vec::new(),
        },
        base: "ESP32/ota".into(),
        public_url: None,
        trusted_proxies: Vec::new(),
        dev: true,
        guests: false,
        signing_key: None,
        trusted_keys: Vec::new(),
        device_limits: otaru_server::devices::bounds::Bounds::default(),
        upload_limits: otaru_server::releases::UploadLimits::default(),
        http_limits: otaru_server::http::Limits::default(),
        metrics: Some(args.metrics),
        artifacts: Default::default(),
        download_memory: otaru_server::artifacts::DEFAULT_MEMORY,
        home_assistant: None,
    }
}

/// Devices to run: what they have in common.
#[derive(Clone)]
struct Fleet {
    firmware: Arc<[u8]>,
    chip: Chip,
    speed: f64,
}

impl Fleet {
    fn read(args: &Args) -> Result<Self> {
        let path = args.firmware.display();
        let firmware = std::fs::read(&args.firmware).with_context(|| format!("cannot read {path}"))?;
        let chip = Head::parse(&firmware).ok().and_then(|head| head.header.chip());
        let chip = chip.with_context(|| format!("{path} is no firmware for a chip that is known"))?;
        Ok(Self { firmware: firmware.into(), chip, speed: args.speed })
    }

    /// Runs the devices with these numbers in this thread.
    fn run(self, numbers: Vec<u32>, gate: &Gate) {
        let run = || -> Result<()> {
            let contents = self.contents()?;
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let local = LocalSet::new();
            for number in numbers {
                local.spawn_local(self.clone().live(number, Rc::clone(&contents), gate.clone()));
            }
            runtime.block_on(local);
            Ok(())
        };
        if let Err(error) = run() {
            tracing::error!(%error, "devices cannot run");
        }
    }

    /// The contents of their flash in the beginning.
    fn contents(&self) -> Result<Rc<[u8]>> {
        let flash = Flash::from_bytes(vec![0xFF; FLASH_LEN as usize], Timing::INSTANT, SimClock::new(1.0));
        let made = provision(&flash, &self.firmware).and_then(|()| flash.contents());
        made.map(Into::into).map_err(|error| anyhow!("cannot put the firmware on a board: {error:?}"))
    }

    /// The life of a device.
    async fn live(self, number: u32, contents: Rc<[u8]>, gate: Gate) {
        let [_, high, middle, low] = number.to_be_bytes();
        let broker = IpAddr::from(BROKER);
        let (name, host) = (format!("dev0-{:04}", number + 1), broker.to_string());
        let clock = SimClock::new(self.speed);
        let net = Net {
            broker,
            // A private address each, as a broker that is tried out wants them.
            peer: (Ipv4Addr::new(10, high, middle, low), 1883).into(),
            // An address has a share of the HTTP connections.
            sockets: TokioNet::new(Wifi::default()).from_address(Ipv4Addr::new(127, 0, 1, low).into()),
            gate,
            has_waited: Cell::new(false),
        };
        let mut config = otaru_device::Config::new(&name, &host);
        config.allow_unsigned = true;
        let device = VirtualDevice {
            config,
            flash: Flash::sharing(contents, Timing::W25Q, clock.clone()),
            bootloader: BootloaderKind::Plain,
            chip: self.chip,
            facts: ChipFacts::default(),
            clock,
            net: &net,
            tls: otaru_sim::tls::HostTls::default(),
            link: Wifi::default(),
            seed: u64::from(number),
            power_ons: rand::random(),
            oddity: Oddity::None,
        };
        let end = device.run(|_| ()).await;
        tracing::error!(%name, ?end, "a device ended");
    }
}

/// The devices' way to the broker, shut in the beginning.
#[derive(Clone)]
struct Gate {
    entrance: Entrance,
    server: Handle,
    is_open: watch::Receiver<bool>,
    /// Number of devices that came to it.
    came: Arc<AtomicU32>,
}

/// The network of a device: streams to the broker, sockets for downloads.
struct Net {
    broker: IpAddr,
    /// The device, as the broker sees it.
    peer: SocketAddr,
    sockets: TokioNet,
    gate: Gate,
    has_waited: Cell<bool>,
}

impl TcpConnect for Net {
    type Error = io::Error;
    type Connection<'a> = Wire;

    async fn connect(&self, remote: SocketAddr) -> io::Result<Wire> {
        if remote.ip() != self.broker {
            return Ok(Wire::Socket(self.sockets.connect(remote).await?));
        }
        let gate = &self.gate;
        if !self.has_waited.replace(true) {
            gate.came.fetch_add(1, Ordering::Relaxed);
        }
        let mut is_open = gate.is_open.clone();
        is_open.wait_for(|is_open| *is_open).await.map_err(io::Error::other)?;
        let (ours, theirs) = tokio::io::duplex(STREAM);
        gate.server.spawn(gate.entrance.serve(theirs, self.peer));
        Ok(Wire::Stream(FromTokio::new(ours)))
    }
}

impl Dns for Net {
    type Error = io::Error;

    async fn get_host_by_name(&self, host: &str, kind: AddrType) -> io::Result<IpAddr> {
        self.sockets.get_host_by_name(host, kind).await
    }

    async fn get_host_by_address(&self, address: IpAddr, result: &mut [u8]) -> io::Result<usize> {
        self.sockets.get_host_by_address(address, result).await
    }
}

/// A connection of a device.
enum Wire {
    Stream(FromTokio<DuplexStream>),
    Socket(Connection),
}

impl ErrorType for Wire {
    type Error = io::Error;
}

impl Read for Wire {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stream(stream) => stream.read(buf).await,
            Self::Socket(socket) => socket.read(buf).await,
        }
    }
}

impl Write for Wire {
    async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stream(stream) => stream.write(buf).await,
            Self::Socket(socket) => socket.write(buf).await,
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(stream) => stream.flush().await,
            Self::Socket(socket) => socket.flush().await,
        }
    }
}
