//! Virtual devices, the firmware they get, and what their flash says afterwards.

use std::path::{Path, PathBuf};

use otaru_format::chip::Chip;
use otaru_format::digest::Digest;
use otaru_format::otadata::{Record, select};
use otaru_format::status::{Status, UpdateState};
use otaru_sim::firmware::{Behaviour, FirmwareSpec};
use otaru_testing::{Program, run};
use tempfile::TempDir;

use crate::common::otaru;
use crate::real_peers::broker::Broker;
use crate::real_peers::web::Web;

/// The device where there is one.
pub(crate) const DEVICE: &str = "sim-0001";
/// Bytes of a slot.
pub(crate) const SLOT: usize = 0x1F_0000;
/// Offset of the second slot.
const OTA_1: usize = 0x21_0000;
/// Range of the agent's own state.
const OWN_STATE: std::ops::Range<usize> = 0x1_0000..0x1_8000;

/// A folder with `old.bin` and `new.bin`, and the devices' flash.
pub(crate) struct Bench {
    dir: TempDir,
    pub(crate) new: Vec<u8>,
    speed: f64,
    /// The public key of its releases, if the devices take nothing else.
    key: Option<PathBuf>,
}

impl Bench {
    /// Synthetic firmware of this size; `speed` is that of the devices.
    pub(crate) fn new(size: usize, speed: f64) -> Self {
        let build = |version: &str| {
            let (project, behaviour) = ("lamp".to_owned(), Behaviour::Healthy);
            FirmwareSpec {
                chip: Chip::Esp32C3,
                project,
                version: version.into(),
                secure_version: 0,
                size,
                behaviour,
            }
            .build()
        };
        Self::with(&build("1.0.0"), build("1.1.0"), speed)
    }

    /// This firmware.
    pub(crate) fn with(old: &[u8], new: Vec<u8>, speed: f64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("www")).unwrap();
        std::fs::create_dir(dir.path().join("nginx")).unwrap();
        std::fs::write(dir.path().join("old.bin"), old).unwrap();
        std::fs::write(dir.path().join("www/new.bin"), &new).unwrap();
        Self { dir, new, speed, key: None }
    }

    /// Makes a key and a release of the new firmware, `new.otaru`, and devices that take nothing else. Gives back the
    /// release's length.
    #[track_caller]
    pub(crate) fn sign(&mut self) -> usize {
        run(otaru(&["keygen", "-o", &self.path("key.pem")])).with_code(0);
        self.release("www/new.bin", "new.otaru", &[]);
        self.key = Some(self.path("key.pub.pem").into());
        std::fs::metadata(self.served("new.otaru")).unwrap().len().try_into().unwrap()
    }

    /// Makes a release of the old firmware too, `old.otaru`, signed with the same key.
    #[track_caller]
    pub(crate) fn release_old(&self, sequence: u64) {
        self.release("old.bin", "old.otaru", &["--sequence", &sequence.to_string()]);
    }

    #[track_caller]
    fn release(&self, image: &str, release: &str, more: &[&str]) {
        let (image, key, release) = (self.path(image), self.path("key.pem"), self.served(release));
        let mut command = otaru(&["release", &image, "--key", &key, "-o", &release]);
        command.args(more);
        run(command).with_code(0);
    }

    /// Signs a release in the folder again, with a sequence above its own.
    #[track_caller]
    pub(crate) fn sign_again(&self, release: &str, new: &str) {
        let (key, old, new) = (self.path("key.pem"), self.served(release), self.served(new));
        run(otaru(&["resign", &old, "--key", &key, "--sequence", "-o", &new])).with_code(0);
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// A file in the folder that is served.
    pub(crate) fn served(&self, name: &str) -> String {
        self.path(&format!("www/{name}"))
    }

    /// The new firmware behind `otaru files`.
    pub(crate) fn own(&self) -> Web {
        Web::own(&self.dir.path().join("www"))
    }

    /// The new firmware behind Python's web server.
    pub(crate) fn python(&self) -> Web {
        Web::python(&self.dir.path().join("www"))
    }

    /// The new firmware behind nginx.
    pub(crate) fn nginx(&self) -> Web {
        Web::nginx(&self.dir.path().join("www"), &self.dir.path().join("nginx"))
    }

    /// Virtual devices on the old firmware, or on what they have; they log.
    pub(crate) fn devices(&self, broker: &Broker, count: usize) -> Program {
        let (speed, count) = (self.speed.to_string(), count.to_string());
        let mut command = otaru(&["sim", "-v", "--json", "--speed", &speed, "--devices", &count]);
        command.args(["--broker", &broker.url(), "--mqtt-version", &broker.kind().version().to_string()]);
        command.arg("--dir").arg(self.boards());
        command.arg("--firmware").arg(self.dir.path().join("old.bin"));
        if let Some(key) = &self.key {
            command.arg("--key").arg(key);
        }
        Program::start(command)
    }

    /// One virtual device, up and known to the broker.
    #[track_caller]
    pub(crate) fn device(&self, broker: &Broker) -> Program {
        let device = self.devices(broker, 1);
        broker.report(DEVICE, |status| status.state == UpdateState::Idle);
        device
    }

    /// Whether a report says that the new firmware runs and is there to stay.
    pub(crate) fn is_done(&self, status: &Status<String>) -> bool {
        status.confirmed && status.slot == 1 && status.image == self.new_digest()
    }

    /// The new image's digest, over what the file has of it.
    fn new_digest(&self) -> Digest {
        let mut check = otaru_format::image::ImageCheck::new(16 << 20);
        check.feed(&self.new).unwrap();
        check.finish().unwrap().digest
    }

    /// Waits until the device reports the new firmware as confirmed, and looks at its flash.
    #[track_caller]
    pub(crate) fn ends_on_the_new_image(&self, broker: &Broker) {
        broker.report(DEVICE, |status| self.is_done(status));
        self.flash_has_the_new_image(DEVICE);
    }

    /// The second slot is selected and holds the file byte for byte.
    #[track_caller]
    pub(crate) fn flash_has_the_new_image(&self, device: &str) {
        let flash = self.flash(device);
        let records = [0xE000, 0xF000].map(|at| Record::parse(&flash[at..at + 32]));
        let record = records[select(&records).expect("otadata selects nothing")].unwrap();
        assert_eq!(record.slot(2), 1, "{device}");
        assert!(flash[OTA_1..OTA_1 + self.new.len()] == self.new, "{device}: the slot differs from the file");
    }

    /// The flash without the agent's own state.
    pub(crate) fn foreign_flash(&self, device: &str) -> Vec<u8> {
        let mut flash = self.flash(device);
        flash.drain(OWN_STATE);
        flash
    }

    fn flash(&self, device: &str) -> Vec<u8> {
        std::fs::read(self.boards().join(format!("{device}.bin"))).unwrap()
    }

    fn boards(&self) -> PathBuf {
        Path::new(self.dir.path()).join("boards")
    }
}
