//! Status reports: what a device says about itself, as retained JSON.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{self, Digest};
use crate::json::Writer;

/// State of a device in an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UpdateState {
    /// Nothing asked, nothing done since the boot.
    Idle,
    /// A command is being looked at.
    Checking,
    /// Firmware arrives and is written.
    Downloading,
    /// An attempt failed; another follows.
    Retrying,
    /// The slot is read back and checked.
    Verifying,
    /// The new image is activated; a restart follows.
    Restarting,
    /// The new image runs, not yet confirmed.
    Trial,
    /// The new image is confirmed.
    Confirmed,
    /// The new image failed its trial; the old one runs again.
    RolledBack,
    /// The update was given up.
    Failed,
    /// The command cannot be followed.
    Refused,
    /// The image asked for runs already.
    Current,
    /// The update was cancelled.
    Cancelled,
    /// A state this program does not know, told by a newer device. No device sends it.
    #[serde(other)]
    Unknown,
}

impl UpdateState {
    /// The name in reports.
    pub const fn as_str(self) -> &'static str {
        // An array, as for [`Code`].
        const NAMES: [&str; UpdateState::ALL.len()] = [
            "idle",
            "checking",
            "downloading",
            "retrying",
            "verifying",
            "restarting",
            "trial",
            "confirmed",
            "rolled_back",
            "failed",
            "refused",
            "current",
            "cancelled",
            "unknown",
        ];
        NAMES[self as usize]
    }

    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 14] = [
        Self::Idle,
        Self::Checking,
        Self::Downloading,
        Self::Retrying,
        Self::Verifying,
        Self::Restarting,
        Self::Trial,
        Self::Confirmed,
        Self::RolledBack,
        Self::Failed,
        Self::Refused,
        Self::Current,
        Self::Cancelled,
        Self::Unknown,
    ];

    /// The state of this name; [`Self::Unknown`] for another.
    pub fn of_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|state| state.as_str() == name).unwrap_or(Self::Unknown)
    }

    /// Whether an update is under way.
    pub const fn is_under_way(self) -> bool {
        !self.is_final() && !matches!(self, Self::Idle | Self::Unknown)
    }

    /// Whether an update did not work, or was not taken.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::RolledBack | Self::Failed | Self::Refused)
    }

    /// Whether the device is done with the command.
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Confirmed
                | Self::RolledBack
                | Self::Failed
                | Self::Refused
                | Self::Current
                | Self::Cancelled
        )
    }
}

impl fmt::Display for UpdateState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Trials of an image that may end without the broker having been reached.
pub const MAX_TRIALS: u8 = 5;

macro_rules! codes {
    ($($(#[$meta:meta])+ $name:ident = $number:literal $text:literal,)+) => {
        /// The typed reason of a failure.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Code { $($(#[$meta])+ $name,)+ }

        impl Code {
            /// The name in reports.
            pub const fn as_str(self) -> &'static str {
                // An array stays in flash. What a `match` is compiled to, esp-hal puts into RAM.
                const NAMES: &[&str] = &[$($text),+];
                NAMES[self as usize]
            }

            /// A number that never changes its meaning, for storage.
            pub const fn number(self) -> u8 {
                match self { $(Self::$name => $number,)+ }
            }

            /// The code with this number.
            pub const fn from_number(number: u8) -> Self {
                match number { $($number => Self::$name,)+ _ => Self::Unknown }
            }
        }
    };
}

codes! {
    /// The command cannot be read.
    BadCommand = 1 "bad_command",
    /// The URL's scheme is not supported.
    UnsupportedUrl = 2 "unsupported_url",
    /// The image is for another chip.
    WrongChip = 3 "wrong_chip",
    /// The firmware is another product's.
    WrongProduct = 4 "wrong_product",
    /// The image does not fit the slot.
    TooLarge = 5 "too_large",
    /// The bytes that arrived are not firmware.
    NotAnImage = 6 "not_an_image",
    /// The image was rolled back before.
    FailedBefore = 7 "failed_before",
    /// The device takes signed firmware only.
    Unsigned = 8 "unsigned",
    /// The server's name was not found.
    Dns = 9 "dns",
    /// The server did not accept a connection.
    Connect = 10 "connect",
    /// The server did not answer in time.
    Timeout = 11 "timeout",
    /// The server answered with an error.
    HttpStatus = 12 "http_status",
    /// The server redirects without end.
    TooManyRedirects = 13 "too_many_redirects",
    /// The server or a proxy compressed the body although asked not to.
    Compressed = 14 "compressed",
    // 15 was `length_mismatch`, which is `truncated` now; do not give the number away again.
    /// The file at the URL changed during the download.
    ContentChanged = 16 "content_changed",
    /// The body stopped arriving.
    Stalled = 17 "stalled",
    /// The body ended early.
    Truncated = 18 "truncated",
    /// The server's answer breaks HTTP.
    BadResponse = 19 "bad_response",
    /// The image is not the one that was offered.
    DigestMismatch = 20 "digest_mismatch",
    /// The image's checksum or hash is wrong.
    ImageCorrupt = 21 "image_corrupt",
    /// The flash failed.
    Flash = 22 "flash",
    // 23 was `no_slot`, without which an agent does not start; do not give the number away again.
    /// Power was lost too often.
    Interrupted = 24 "interrupted",
    /// The new image panicked.
    Panic = 25 "panic",
    /// The new image hung.
    Watchdog = 26 "watchdog",
    /// The new image failed its health check.
    Unhealthy = 27 "unhealthy",
    /// The new image did not reach the broker.
    Unreachable = 28 "unreachable",
    /// The new image used up its trial boots.
    TrialBoots = 29 "trial_boots",
    // 30 was `brownout`, which is `power_loss` now; do not give the number away again.
    /// The bootloader found the new image bad.
    BootloaderRejected = 31 "bootloader_rejected",
    /// Power was lost.
    PowerLoss = 32 "power_loss",
    /// The release is signed with a key the device does not trust.
    UnknownKey = 33 "unknown_key",
    /// The release is signed with a key that was revoked.
    RevokedKey = 34 "revoked_key",
    /// The signature is wrong.
    BadSignature = 35 "bad_signature",
    /// The release file is broken.
    BadRelease = 36 "bad_release",
    /// The release is older than one the device has had.
    Downgrade = 37 "downgrade",
    /// The release needs a newer version to be running first.
    BaseTooOld = 38 "base_too_old",
    /// The image's secure version is below the running one's.
    SecureVersion = 39 "secure_version",
    /// A block is not what the release says.
    BlockCorrupt = 40 "block_corrupt",
    // 41 was `replayed`, of signed commands; do not give the number away again.
    /// The image is for other revisions of the chip.
    WrongRevision = 42 "wrong_revision",
    /// The image is for a larger flash chip.
    FlashTooSmall = 43 "flash_too_small",
    /// The update crashed the running image again and again.
    Crashed = 44 "crashed",
    /// The URL, or a redirect, leads to a host that is not on the device's list.
    HostNotAllowed = 45 "host_not_allowed",
    /// A whole flash image, where an application is wanted.
    MergedImage = 46 "merged_image",
    /// The image does not say which product it is for, or the device does not know its own.
    NoProduct = 47 "no_product",
    /// The release revokes more keys than the device has room for.
    NoRoom = 48 "no_room",
    /// Anything else, and what a newer device tells that this program does not know.
    #[serde(other)]
    Unknown = 255 "unknown",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A failure: the code for programs, the detail for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault<S> {
    /// The typed reason.
    pub code: Code,
    /// A sentence.
    pub detail: S,
}

/// The image that failed its trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedImage<S> {
    /// Version.
    pub version: S,
    /// SHA-256 of the image.
    pub image: Digest,
    /// Number of its starts; 0 when nobody counted.
    pub boots: u8,
}

/// Epoch of a device's memory: 64 random bits, drawn when the memory was blank. Shown as 16 hexadecimal digits, because JSON's
/// numbers are exact up to 2^53 only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Epoch(pub u64);

impl Epoch {
    /// The digits.
    fn hex(self) -> heapless::String<16> {
        let mut text = heapless::String::new();
        for byte in self.0.to_be_bytes() {
            digest::push_hex(&mut text, byte);
        }
        text
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.hex())
    }
}

/// The text is not 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BadEpoch;

impl fmt::Display for BadEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an epoch is 16 hexadecimal digits")
    }
}

impl core::error::Error for BadEpoch {}

impl FromStr for Epoch {
    type Err = BadEpoch;

    fn from_str(text: &str) -> Result<Self, BadEpoch> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| digits);
        number.map(Self).ok_or(BadEpoch)
    }
}

impl Serialize for Epoch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.hex())
    }
}

impl<'de> Deserialize<'de> for Epoch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Hex;
        impl serde::de::Visitor<'_> for Hex {
            type Value = Epoch;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("16 hexadecimal digits")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Epoch, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Hex)
    }
}

/// Place of a report among those of its device. Within an epoch `(boots, n)` orders them; an epoch that was not seen before is newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReportNumber {
    /// Epoch of the device's memory.
    pub epoch: Epoch,
    /// Number of this start within the epoch, from 1.
    pub boots: u32,
    /// Number of this report within the start, from 1.
    pub n: u32,
}

impl ReportNumber {
    /// Returns its place among the reports of its epoch, which orders them.
    pub const fn place(self) -> (u32, u32) {
        (self.boots, self.n)
    }
}

/// A status report. `S` is `&str` on a device and `String` on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status<S> {
    /// The device's name.
    pub device: S,
    /// Chip.
    pub chip: S,
    /// State of the update.
    pub state: UpdateState,
    /// The running image's project.
    pub project: S,
    /// The product that firmware is held against: as configured, else that of the last release that was confirmed, else the
    /// project. Devices that know of no such thing do not tell it.
    #[serde(skip_serializing_if = "Option::is_none", default = "none")]
    pub product: Option<S>,
    /// The running image's version.
    pub version: S,
    /// The running image's SHA-256.
    pub image: Digest,
    /// The slot it runs from: 0 for `ota_0`; 255 for the factory partition.
    pub slot: u8,
    /// Whether the running image is confirmed.
    pub confirmed: bool,
    /// Per cent of the download.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub progress: Option<u8>,
    /// Number of this attempt at the download; 0 outside a download.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub attempt: u8,
    /// The deployment of the last command.
    #[serde(skip_serializing_if = "Option::is_none", default = "none")]
    pub deployment: Option<S>,
    /// The error.
    #[serde(skip_serializing_if = "Option::is_none", default = "none")]
    pub error: Option<Fault<S>>,
    /// The image that was rolled back.
    #[serde(skip_serializing_if = "Option::is_none", default = "none")]
    pub failed: Option<FailedImage<S>>,
    /// Whether the record of earlier releases is lost, or there is no room for one: the device then takes nothing below the version
    /// that it runs.
    #[serde(skip_serializing_if = "is_false", default)]
    pub guards_lost: bool,
    /// Why the device started last.
    pub boot: S,
    /// Seconds since then.
    pub uptime: u32,
    /// Signal strength of the network in dBm, where that is known: -30 beside the access point, -80 far away.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rssi: Option<i8>,
    /// Fewest bytes of heap that were free since the start.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub free_heap: Option<u32>,
    /// Bytes of stack that were never used since the start.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub free_stack: Option<u32>,
    /// Highest order of an offer that the device followed ([`crate::command::Offer::order`]).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub order: Option<u64>,
    /// Epoch of the device's memory, or of this start where it has none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub epoch: Option<Epoch>,
    /// Number of this start within the epoch, from 1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub boots: Option<u32>,
    /// Number of this report within the start, from 1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub n: Option<u32>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u8) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

fn none<T>() -> Option<T> {
    None
}

impl<S> Status<S> {
    /// The trial that comes next, of [`MAX_TRIALS`], where the new image did not reach the broker and will be tried again.
    pub fn next_trial(&self) -> Option<u8> {
        next_trial(self.state, self.error.as_ref().map(|fault| fault.code), self.attempt)
    }

    /// Place of the report among those of its device; `None` for a device that numbers none.
    pub fn number(&self) -> Option<ReportNumber> {
        Some(ReportNumber { epoch: self.epoch?, boots: self.boots?, n: self.n? })
    }
}

/// The same for a report of which these are known.
pub fn next_trial(state: UpdateState, code: Option<Code>, attempt: u8) -> Option<u8> {
    let waits = state == UpdateState::Retrying && code == Some(Code::Unreachable);
    waits.then(|| attempt.saturating_add(1).min(MAX_TRIALS))
}

impl<S: AsRef<str>> Status<S> {
    /// The report as JSON, fields and order as serde has them; `None` when `buf` is too short.
    pub fn to_json<'b>(&self, buf: &'b mut [u8]) -> Option<&'b str> {
        let mut json = Writer::new(buf);
        json.text("device", self.device.as_ref());
        json.text("chip", self.chip.as_ref());
        json.text("state", self.state.as_str());
        json.text("project", self.project.as_ref());
        json.text_if("product", self.product.as_ref().map(S::as_ref));
        json.text("version", self.version.as_ref());
        json.text("image", &self.image.hex());
        json.number("slot", self.slot.into());
        json.flag("confirmed", self.confirmed);
        json.number_if("progress", self.progress.map(u64::from));
        json.number_if("attempt", Some(self.attempt.into()).filter(|attempt| *attempt != 0));
        json.text_if("deployment", self.deployment.as_ref().map(S::as_ref));
        if let Some(error) = &self.error {
            json.open("error");
            json.text("code", error.code.as_str());
            json.text("detail", error.detail.as_ref());
            json.close();
        }
        if let Some(failed) = &self.failed {
            json.open("failed");
            json.text("version", failed.version.as_ref());
            json.text("image", &failed.image.hex());
            json.number("boots", failed.boots.into());
            json.close();
        }
        if self.guards_lost {
            json.flag("guards_lost", true);
        }
        json.text("boot", self.boot.as_ref());
        json.number("uptime", self.uptime.into());
        if let Some(rssi) = self.rssi {
            json.signed("rssi", rssi.into());
        }
        json.number_if("free_heap", self.free_heap.map(u64::from));
        json.number_if("free_stack", self.free_stack.map(u64::from));
        json.number_if("order", self.order);
        if let Some(epoch) = self.epoch {
            json.text("epoch", &epoch.hex());
        }
        json.number_if("boots", self.boots.map(u64::from));
        json.number_if("n", self.n.map(u64::from));
        json.finish()
    }

    /// The product that firmware is held against; of a device that does not tell it, the running image's project.
    pub fn product(&self) -> &str {
        self.product.as_ref().unwrap_or(&self.project).as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    #[test]
    fn a_report_leads_back_on_a_host() {
        let status = Status::<&str> {
            device: "d",
            chip: "esp32c3",
            state: UpdateState::RolledBack,
            project: "p",
            product: Some("q"),
            version: "1.0",
            image: Digest::of(b"x"),
            slot: 1,
            confirmed: true,
            progress: None,
            attempt: 0,
            deployment: None,
            error: Some(Fault { code: Code::Panic, detail: "at \"main\":\n1" }),
            failed: Some(FailedImage { version: "2.0", image: Digest::of(b"y"), boots: 3 }),
            guards_lost: false,
            boot: "panic",
            uptime: 7,
            rssi: None,
            free_heap: Some(117_040),
            free_stack: None,
            order: None,
            epoch: None,
            boots: None,
            n: None,
        };
        let mut buf = [0; 1024];
        let json = status.to_json(&mut buf).unwrap();
        let host: Status<String> = serde_json::from_str(json).unwrap();
        assert_eq!(host.state, UpdateState::RolledBack);
        assert_eq!(host.product(), "q");
        assert_eq!(host.error.unwrap().detail, "at \"main\":\n1");
        assert_eq!(status.number(), None, "an older device numbers nothing");
        let full = Status {
            progress: Some(40),
            attempt: 2,
            deployment: Some("d-7"),
            guards_lost: true,
            rssi: Some(-71),
            free_stack: Some(16_384),
            order: Some(u64::MAX),
            epoch: Some(Epoch(0x0123_4567_89ab_cdef)),
            boots: Some(u32::MAX),
            n: Some(7),
            error: Some(Fault { code: Code::Panic, detail: "at main" }),
            ..status
        };
        let json = full.to_json(&mut buf).unwrap();
        assert_eq!(json, serde_json::to_string(&full).unwrap());
        assert!(json.ends_with(r#""epoch":"0123456789abcdef","boots":4294967295,"n":7}"#), "{json}");
        let host: Status<String> = serde_json::from_str(json).unwrap();
        let number = ReportNumber { epoch: Epoch(0x0123_4567_89ab_cdef), boots: u32::MAX, n: 7 };
        assert_eq!((host.number(), host.order), (Some(number), Some(u64::MAX)));
    }

    #[test]
    fn an_epoch_is_16_digits() {
        for epoch in [Epoch(0), Epoch(1), Epoch(u64::MAX)] {
            assert_eq!(std::format!("{epoch}").parse(), Ok(epoch));
        }
        for text in ["", "1", "+123456789abcdef", "0123456789abcdeg", "0123456789abcdef0"] {
            assert_eq!(text.parse::<Epoch>(), Err(BadEpoch), "{text}");
        }
    }

    #[test]
    fn words_of_newer_devices_are_unknown() {
        let status: Status<String> = serde_json::from_str(
            r#"{"device":"d","chip":"esp32p4","state":"pondering","project":"p","version":"9",
                "image":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","slot":0,
                "confirmed":true,"error":{"code":"moonstruck","detail":"full moon"},"boot":"tidal","uptime":1,
                "mood":{"is":"new"}}"#,
        )
        .unwrap();
        assert_eq!(status.state, UpdateState::Unknown);
        assert_eq!((status.product.as_deref(), status.product()), (None, "p"));
        assert!(!status.state.is_final());
        let error = status.error.unwrap();
        assert_eq!((error.code, error.detail.as_str()), (Code::Unknown, "full moon"));
    }

    #[test]
    fn every_state_is_read_back_as_itself() {
        for (place, state) in UpdateState::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, place);
            assert_eq!(serde_json::to_string(&state).unwrap(), std::format!("\"{state}\""));
            assert_eq!(UpdateState::of_name(state.as_str()), state);
        }
    }

    #[test]
    fn every_code_is_read_back_as_itself() {
        for number in 0..=255 {
            let code = Code::from_number(number);
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(json, std::format!("\"{code}\""));
            assert_eq!(serde_json::from_str::<Code>(&json).unwrap(), code);
        }
    }

    #[test]
    fn numbers_of_codes_lead_back() {
        for number in 0..=255 {
            let code = Code::from_number(number);
            assert!(code == Code::Unknown || code.number() == number);
        }
    }
}
