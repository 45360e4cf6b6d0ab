//! Status reports: what a device says about itself, as retained JSON.

mod code;
mod epoch;
mod state;
#[cfg(test)]
mod tests;
mod tls;

pub use code::Code;
pub use epoch::{BadEpoch, Epoch};
use serde::{Deserialize, Serialize};
pub use state::UpdateState;
pub use tls::{CaIds, Dates, TlsReport};

use crate::digest::Digest;
use crate::json::Writer;

/// Trials of an image that may end without the broker having been reached.
pub const MAX_TRIALS: u8 = 5;

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
    /// Whether the download was redirected from `https://` to `http://`. It is followed only where a signature or the digest that was
    /// offered vouches for the firmware.
    #[serde(skip_serializing_if = "is_false", default)]
    pub left_tls: bool,
    /// TLS of the connection to the broker; `None` where there is none, and for devices that do not tell.
    #[serde(skip_serializing_if = "Option::is_none", default = "none")]
    pub tls: Option<TlsReport<S>>,
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
        if self.left_tls {
            json.flag("left_tls", true);
        }
        if let Some(tls) = &self.tls {
            json.open("tls");
            json.text("trusts", tls.trusts.as_ref());
            json.text("dates", tls.dates.as_str());
            json.close();
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
