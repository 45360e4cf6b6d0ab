//! A virtual board in this process: flash dump, bootloader, agent, and its life under a name.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use otaru_device::{AllowedHost, Config, Credentials, PublicKey};
use otaru_format::chip::Chip;
use otaru_format::digest::Digest;
use otaru_format::image::Head;
use otaru_format::otadata::{RECORD_LEN, Record, SECTOR_LEN, select};
use otaru_format::partition::{Partition, PartitionTable, TABLE_LEN, TABLE_OFFSET};
use otaru_sim::bootloader::BootloaderKind;
use otaru_sim::clock::SimClock;
use otaru_sim::device::{ChipFacts, Event, Oddity, VirtualDevice};
use otaru_sim::firmware::provision;
use otaru_sim::flash::{FLASH_LEN, Flash, Timing};
use otaru_sim::net::{TokioNet, Wifi};
use otaru_sim::tls::HostTls;

use crate::logging::DEVICE;
use crate::trust;
use crate::ui::clean;
use otaru_broker::client::{BrokerUrl, Login};

/// Settings that a fleet of virtual boards has in common.
#[derive(Debug, Clone)]
pub(crate) struct BoardSettings {
    pub(crate) broker: BrokerUrl,
    pub(crate) base: String,
    pub(crate) bootloader: BootloaderKind,
    pub(crate) speed: f64,
    /// Keys of the releases that its boards take.
    pub(crate) keys: Vec<PublicKey>,
    pub(crate) allow_unsigned: bool,
    /// Facts that chips tell of themselves.
    pub(crate) facts: ChipFacts,
    /// The product that firmware is held against, where it is not the firmware's own name.
    pub(crate) product: Option<String>,
    /// The only hosts they fetch firmware from; none are any.
    pub(crate) hosts: Vec<String>,
    /// The address of this machine that its boards connect from; any, if not given.
    pub(crate) source: Option<IpAddr>,
    /// TLS of its boards.
    pub(crate) tls: HostTls,
}

/// TLS of virtual boards: they trust whom this program does. There is none where that is nobody.
pub(crate) fn tls() -> HostTls {
    let trust = trust::of_this_run();
    match trust.client_config() {
        Ok(_) => HostTls::new(trust),
        Err(_) => HostTls::default(),
    }
}

/// One virtual board.
pub(crate) struct Board {
    pub(crate) name: String,
    pub(crate) chip: Chip,
    pub(crate) flash: Flash,
    clock: SimClock,
}

impl Board {
    /// Opens a board's dump, or makes one with `firmware` on it. Says whether it is new.
    ///
    /// # Errors
    /// When the dump cannot be used, or there is none and no firmware either.
    pub(crate) fn open(
        bench: &BoardSettings,
        dir: &Path,
        name: &str,
        chip: Chip,
        firmware: Option<&[u8]>,
    ) -> anyhow::Result<(Self, bool)> {
        let path = dump_path(dir, name);
        let new = !path.exists();
        let clock = SimClock::new(bench.speed);
        if new && firmware.is_none() {
            bail!("{} does not exist yet; --firmware FILE says what a new device runs", path.display());
        }
        let flash = Flash::open(&path, Timing::W25Q, clock.clone())
            .with_context(|| format!("cannot open the flash dump {}", path.display()))?;
        if let Some(firmware) = firmware.filter(|_| new)
            && let Err(error) = provision(&flash, firmware)
        {
            // A dump without firmware would be taken for a device at the next start.
            let _ = std::fs::remove_file(&path);
            bail!("cannot put the firmware on {name} ({error:?}): is it larger than a slot of 1984 KiB?");
        }
        Ok((Self { name: name.to_owned(), chip, flash, clock }, new))
    }

    /// A board whose flash is in memory and begins as `contents`.
    pub(crate) fn in_memory(bench: &BoardSettings, name: &str, chip: Chip, contents: Rc<[u8]>) -> Self {
        let clock = SimClock::new(bench.speed);
        let flash = Flash::sharing(contents, Timing::W25Q, clock.clone());
        Self { name: name.to_owned(), chip, flash, clock }
    }

    /// Powers the board on; ends when it loses power or finds nothing to boot.
    pub(crate) async fn live(&self, bench: &BoardSettings, on_event: impl FnMut(Event)) -> Event {
        let login = bench.broker.login();
        let mut config = Config::new(&self.name, &bench.broker.host);
        config.broker_port = bench.broker.port;
        config.broker_tls = bench.broker.tls;
        config.topic_prefix = &bench.base;
        config.mqtt = bench.broker.version;
        config.keys = &bench.keys;
        config.allow_unsigned = bench.allow_unsigned;
        config.product = bench.product.as_deref();
        let hosts: Vec<AllowedHost<'_>> = bench.hosts.iter().map(|host| AllowedHost::new(host)).collect();
        config.hosts = &hosts;
        config.credentials = login
            .as_ref()
            .map(|Login { username, password }| Credentials { username, password: password.expose() });
        // Timeouts run on the board's clock but servers do not: what is short at high speed stays bearable.
        config.answer_timeout = config.answer_timeout.max(Duration::from_secs_f64(2.0 * bench.speed));
        let link = Wifi::default().received_at(signal(&self.name));
        let net = TokioNet::new(link.clone());
        let net = match bench.source {
            Some(source) => net.from_address(source),
            None => net,
        };
        let device = VirtualDevice {
            config,
            flash: self.flash.clone(),
            bootloader: bench.bootloader,
            chip: self.chip,
            facts: bench.facts,
            clock: self.clock.clone(),
            net: &net,
            tls: bench.tls.clone(),
            link,
            seed: seed(&self.name),
            // A flash in memory is blank at each start of this program, and its epoch must be a new one.
            power_ons: noise(),
            oddity: Oddity::None,
        };
        DEVICE.scope(self.name.clone(), device.run(on_event)).await
    }
}

/// The contents of a flash with this firmware on it.
///
/// # Errors
/// When it does not fit.
pub(crate) fn provisioned(firmware: &[u8]) -> anyhow::Result<Rc<[u8]>> {
    let blank = vec![0xFF; FLASH_LEN as usize];
    let flash = Flash::from_bytes(blank, Timing::INSTANT, SimClock::new(1.0));
    let made = provision(&flash, firmware).and_then(|()| flash.contents());
    made.map(Into::into).map_err(|error| {
        anyhow!("cannot put the firmware on a board ({error:?}): is it larger than a slot of 1984 KiB?")
    })
}

/// Returns the file that keeps a board's flash.
pub(crate) fn dump_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.bin"))
}

/// Signal of a virtual board, in dBm: some stand beside the access point, some behind walls.
fn signal(name: &str) -> i8 {
    let number = Digest::of(name.as_bytes()).0[31];
    -40 - i8::try_from(number % 40).unwrap_or(0)
}

fn seed(name: &str) -> u64 {
    let digest = Digest::of(name.as_bytes()).0;
    u64::from_le_bytes([
        digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7],
    ])
}

/// A number that is another each time.
fn noise() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(())
}

/// A flash dump, read with no help of the agent.
pub(crate) struct Dump {
    bytes: Vec<u8>,
    slots: Vec<Partition>,
    records: [Option<Record>; 2],
}

impl Dump {
    /// Reads a dump.
    ///
    /// # Errors
    /// When it cannot be read or has no partition table.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let at = TABLE_OFFSET as usize;
        let table = bytes.get(at..at + TABLE_LEN).context("the dump is too short")?;
        let table = PartitionTable::parse(table).with_context(|| path.display().to_string())?;
        let slots = (0..table.slots()).filter_map(|index| table.slot(index)).collect();
        let mut records = [None; 2];
        if let Some(otadata) = table.otadata() {
            for (sector, record) in records.iter_mut().enumerate() {
                let at = otadata.offset as usize + sector * SECTOR_LEN as usize;
                *record = bytes.get(at..at + RECORD_LEN).and_then(Record::parse);
            }
        }
        Ok(Self { bytes, slots, records })
    }

    /// The slot that otadata selects, and its state; slot 0 while otadata is blank.
    pub(crate) fn selected(&self) -> (u8, Option<Record>) {
        let record = select(&self.records).and_then(|sector| self.records[sector]);
        let slots = u8::try_from(self.slots.len()).unwrap_or(u8::MAX);
        (record.map_or(0, |record| record.slot(slots)), record)
    }

    /// Whether the slot begins with exactly these bytes.
    pub(crate) fn slot_holds(&self, slot: u8, image: &[u8]) -> bool {
        let Some(partition) = self.slots.get(usize::from(slot)) else { return false };
        let at = partition.offset as usize;
        image.len() <= partition.size as usize && self.bytes.get(at..at + image.len()) == Some(image)
    }

    /// The chip of the image in the selected slot.
    pub(crate) fn chip(&self) -> Option<Chip> {
        let partition = self.slots.get(usize::from(self.selected().0))?;
        Head::parse(self.bytes.get(partition.offset as usize..)?).ok()?.header.chip()
    }
}

/// Tells what happened to a board.
pub(crate) fn happened(event: &Event) -> String {
    match event {
        Event::Booted { address, version, reason } => {
            format!("boots {} from {} (reset: {})", clean(version), slot_name(*address), reason.as_str())
        }
        Event::NothingBootable => "is BRICKED: the bootloader finds no good image in its flash".into(),
        Event::PowerLost => "lost power".into(),
    }
}

/// The slot at this flash offset in the default layout, by name.
pub(crate) fn slot_name(address: u32) -> String {
    let layout = otaru_format::partition::default_layout();
    let found = layout.iter().find(|partition| partition.offset == address);
    found.map_or_else(|| format!("0x{address:x}"), |partition| partition.label.as_str().to_owned())
}

/// The address of this machine that the broker sees; what devices of the same network reach.
pub(crate) async fn address_towards(broker: &BrokerUrl) -> std::io::Result<IpAddr> {
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "no address");
    for address in tokio::net::lookup_host((broker.host.as_str(), broker.port)).await? {
        let any: std::net::SocketAddr = match address {
            std::net::SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
            std::net::SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = tokio::net::UdpSocket::bind(any).await?;
        // Connecting a UDP socket sends nothing; it only asks for the route.
        match socket.connect(address).await {
            Ok(()) => return Ok(socket.local_addr()?.ip()),
            Err(error) => last = error,
        }
    }
    Err(last)
}
