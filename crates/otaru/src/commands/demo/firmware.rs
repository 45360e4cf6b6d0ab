//! The demo's firmware: a synthetic lamp in several versions.

use otaru_format::chip::Chip;
use otaru_format::digest::Digest;
use otaru_sim::firmware::{Behaviour, FirmwareSpec};

/// The chip of all boards.
pub(super) const CHIP: Chip = Chip::Esp32C3;
/// Bytes of the demo's firmware: large enough that its way can be watched.
const SIZE: usize = 768 << 10;

/// A firmware file on the demo's server.
pub(super) struct Release {
    pub(super) version: &'static str,
    pub(super) bytes: Vec<u8>,
    pub(super) digest: Digest,
    pub(super) url: String,
}

impl Release {
    pub(super) fn new(version: &'static str, bytes: Vec<u8>, url: String) -> Self {
        Self { version, digest: Digest::of(&bytes), bytes, url }
    }
}

/// Builds a synthetic lamp.
pub(super) fn lamp(version: &str, behaviour: Behaviour) -> Vec<u8> {
    FirmwareSpec {
        chip: CHIP,
        project: "lamp".into(),
        version: version.into(),
        secure_version: 0,
        size: SIZE,
        behaviour,
    }
    .build()
}
