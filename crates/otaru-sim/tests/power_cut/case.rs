//! The updates that power is taken from: what is offered to which device, and what must be true of it in the end.

use std::fmt;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::Duration;

use otaru_device::PublicKey;
use otaru_format::chip::Chip;
use otaru_format::digest::Digest;
use otaru_format::image::{DescriptorFields, ImageFields};
use otaru_format::status::{Code, Status, UpdateState};
use otaru_sim::bootloader::BootloaderKind;
use otaru_sim::clock::SimClock;
use otaru_sim::device::Event;
use otaru_sim::flash::{PowerCut, SECTOR};
use otaru_sim::geometry::Geometry;
use otaru_sim::lab::broker::{Memory, Message};
use otaru_sim::lab::release::{Key, Recipe};
use otaru_sim::lab::{DEVICE, HostConfig, Lab, PROJECT, Setup};
use otaru_sim::tls::HostTls;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use crate::authority::Authority;

/// One 64 KiB block and two sectors.
const SIZE: usize = 70_000;
const OLD_AND_NEW: [&str; 2] = ["1.0.0", "1.1.0"];
const REPEATED: usize = 900;
/// Whom devices trust that take only what is signed.
static KEYS: LazyLock<[PublicKey; 1]> = LazyLock::new(|| [Key(1).public()]);
const LIMIT: Duration = Duration::from_secs(4 * 3600);
/// The sectors on both sides of the slot, which belong to others.
const NEIGHBOUR: [u8; SECTOR as usize] = [0x5A; SECTOR as usize];

/// Files that are served: the image and the file it comes in.
pub(crate) struct Offered {
    pub(crate) name: &'static str,
    /// The image that runs before.
    old: Vec<u8>,
    image: Vec<u8>,
    file: Vec<u8>,
    /// Whether devices take only what is signed.
    signed: bool,
}

impl Offered {
    pub(crate) fn bare() -> Self {
        let [old, image] = OLD_AND_NEW.map(|version| firmware(version, SIZE, REPEATED));
        Self { name: "bare image", old, file: image.clone(), image, signed: false }
    }

    /// A signed release, of which the compressed payload is taken.
    pub(crate) fn release() -> Self {
        let file = Recipe::new("1.1.0", 5).make(&Self::bare().image).unwrap();
        Self { name: "signed release", file, signed: true, ..Self::bare() }
    }

    /// The same with a patch for the image that runs, which is taken.
    pub(crate) fn delta() -> Self {
        let [old, image] = OLD_AND_NEW.map(|version| firmware(version, SIZE, SIZE));
        let patch = otaru_delta::encode(&old, &image).unwrap();
        let recipe = Recipe { patches: vec![(Digest::of(&old), patch)], ..Recipe::new("1.1.0", 5) };
        Self { name: "delta", file: recipe.make(&image).unwrap(), old, image, signed: true }
    }
}

/// An image that begins with some bytes of its own, and goes on with what all have: so many bytes, numbered and repeated, so that no
/// two pages are the same. Few bytes repeated often are unpacked in no time, and many make a small patch that copies the old image.
fn firmware(version: &str, size: usize, repeated: usize) -> Vec<u8> {
    let digest = Digest::of(version.as_bytes());
    let descriptor = DescriptorFields { project: PROJECT, version, secure_version: 0, elf_sha256: digest };
    let noise = |seed: u8, len: usize| {
        let mut bytes = vec![0; len];
        SmallRng::from_seed([seed; 32]).fill(&mut bytes[..]);
        bytes
    };
    let mut code = noise(digest.0[0], usize::from(digest.0[1]) * 4 + 256);
    let pattern = noise(0, repeated);
    for number in (0_u32..).take_while(|number| *number as usize * repeated < size) {
        code.extend(number.to_le_bytes());
        code.extend(&pattern);
    }
    code.truncate(size);
    let segments = &[(0x3C00_0020, &code[..64]), (0x4038_0000, &code[64..])];
    ImageFields { chip: Chip::Esp32C3, descriptor, segments, hash_appended: true }.emit()
}

/// An update of one kind of device.
pub(crate) struct Case<'a> {
    pub(crate) geometry: &'a Geometry,
    bootloader: BootloaderKind,
    new: &'a Offered,
    /// Contents of the flash before it.
    before: Rc<[u8]>,
    /// TLS of device and host, if they speak it.
    tls: Option<(HostTls, HostConfig)>,
}

impl fmt::Display for Case<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { geometry, bootloader, new, .. } = self;
        let tls = if self.tls.is_some() { " over TLS" } else { "" };
        write!(f, "power cut, {}, {bootloader:?} bootloader, {}{tls}", geometry.name, new.name)
    }
}

impl<'a> Case<'a> {
    pub(crate) fn new(geometry: &'a Geometry, bootloader: BootloaderKind, new: &'a Offered) -> Self {
        let flash = geometry.blank_chip(SimClock::new(1.0));
        geometry.provision(&flash, &new.old).unwrap();
        let older = firmware("0.9.0", SIZE + 9000, SIZE);
        flash.provision(geometry.first_target().start, &older).unwrap();
        for at in neighbours(geometry) {
            flash.provision(at, &NEIGHBOUR).unwrap();
        }
        Self { geometry, bootloader, new, before: flash.contents().unwrap().into(), tls: None }
    }

    /// The same, with the file behind TLS.
    pub(crate) fn over_tls(self) -> Self {
        let ca = Authority::new("ours");
        Self { tls: Some((ca.trusted(), ca.host(&["files"]))), ..self }
    }

    /// Returns the contents of the flash before the update.
    pub(crate) fn before(&self) -> &[u8] {
        &self.before
    }

    fn setup(&self) -> Setup {
        let geometry = self.geometry.clone();
        let mut setup = Setup { geometry, bootloader: self.bootloader, ..Setup::default() };
        if let Some((device, host)) = &self.tls {
            (setup.tls, setup.host_tls) = (device.clone(), Some(host.clone()));
        }
        if self.new.signed {
            setup.config.allow_unsigned = false;
            setup.config.keys = &*KEYS;
        }
        setup
    }

    /// A lab before the update, whose device is off.
    pub(crate) fn flashed(&self) -> Lab {
        let lab = Lab::flashed(self.setup(), Rc::clone(&self.before));
        lab.serve(&self.new.file);
        command(&lab);
        lab
    }

    /// A lab before the update, whose device is off and whose broker keeps this.
    pub(crate) fn left(&self, memory: &Memory) -> Lab {
        let lab = Lab::flashed(self.setup(), Rc::clone(&self.before));
        lab.broker.remember(memory);
        lab.serve(&self.new.file);
        lab
    }

    /// A lab whose device lost power in its update, after everything that was under way has arrived.
    pub(crate) async fn lose_power(&self, cut: PowerCut) -> Lab {
        let mut lab = self.flashed();
        lab.power_on();
        lab.flash.cut_at(cut);
        let lost = tokio::time::timeout(LIMIT, lab.flash.wait_power_lost()).await;
        assert!(lost.is_ok(), "{self}: {cut:?} did not happen");
        tokio::time::sleep(Duration::from_secs(1)).await;
        lab
    }

    /// Waits until the new image says that it runs and that its retained command is done, in a message behind the first `said`. A device
    /// that may give up is told once more.
    pub(crate) async fn settle(&self, lab: &Lab, said: usize) {
        let topic = format!("ESP32/ota/{DEVICE}/status");
        let status = |message: &Message| {
            let own = message.topic == topic;
            own.then(|| serde_json::from_str::<Status<String>>(&message.payload).ok()).flatten()
        };
        let done = |message: &Message| {
            status(message)
                .is_some_and(|status| status.version == "1.1.0" && status.state == UpdateState::Current)
        };
        let gave_up = |message: &Message| status(message).is_some_and(|status| self.may_give_up(&status));
        let (mut seen, mut heard) = (said, lab.broker.messages().len());
        let mut end = None;
        while end != Some(true) {
            let news = lab.broker.wait_until(|messages| {
                let (done, gave_up) =
                    (messages[seen..].iter().any(done), messages[heard..].iter().any(gave_up));
                (seen, heard) = (messages.len(), messages.len());
                end = (done || gave_up).then_some(done);
                end.is_some()
            });
            let news = tokio::time::timeout(LIMIT, news).await;
            assert!(news.is_ok(), "{self}: did not end on the new image: {:?}", lab.reports().last());
            if end == Some(false) {
                command(lab);
            }
        }
    }

    /// Whether this is the one report of a failure that is right: a bootloader that rolls back ends a trial that loses power, and without
    /// an `otaru` partition the old image cannot know how often that was. It says so and bars nothing (docs/flash.md).
    fn may_give_up(&self, report: &Status<String>) -> bool {
        let forgets = self.geometry.part("otaru").is_empty() && self.bootloader == BootloaderKind::Rollback;
        let code = report.error.as_ref().map(|error| error.code);
        forgets && report.state == UpdateState::RolledBack && code == Some(Code::PowerLoss)
    }

    /// Fails unless the device is as it must be after the update, and was honest meanwhile.
    pub(crate) fn check(&self, lab: &Lab, cuts: &[PowerCut]) {
        assert!(!lab.events().contains(&Event::NothingBootable), "{self}: bricked by {cuts:?}");
        for report in lab.reports() {
            let bad = matches!(
                report.state,
                UpdateState::RolledBack | UpdateState::Failed | UpdateState::Refused | UpdateState::Cancelled
            );
            assert!(!bad || self.may_give_up(&report), "{self}: a false report after {cuts:?}: {report:?}");
            let honest = report.state != UpdateState::Confirmed || report.version == "1.1.0";
            assert!(honest, "{self}: a false success after {cuts:?}: {report:?}");
        }
        let slot = self.geometry.first_target().start;
        assert!(lab.flash.holds(slot, &self.new.image).unwrap(), "{self}: the slot differs after {cuts:?}");
        for at in neighbours(self.geometry) {
            assert!(lab.flash.holds(at, &NEIGHBOUR).unwrap(), "{self}: {at:#x} was changed after {cuts:?}");
        }
    }
}

/// Publishes the command, as an operator does.
fn command(lab: &Lab) {
    lab.broker.publish(&format!("ESP32/ota/{DEVICE}/update"), lab.url(), true);
}

/// Returns the starts of the sectors directly before and behind the slot.
fn neighbours(geometry: &Geometry) -> impl Iterator<Item = u32> + use<> {
    let (slot, len) = (geometry.first_target(), geometry.flash_len);
    [slot.start - SECTOR, slot.end].into_iter().filter(move |at| at + SECTOR <= len)
}
