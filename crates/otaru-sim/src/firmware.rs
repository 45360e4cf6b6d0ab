//! Synthetic firmware: a valid ESP image that says how a virtual device behaves when it runs it.

use std::fmt;
use std::str::FromStr;

use otaru_format::chip::Chip;
use otaru_format::digest::Digest;
use otaru_format::image::{DescriptorFields, HEAD_LEN, HEADER_LEN, Header, ImageFields, SEGMENT_HEADER_LEN};
use rand::rngs::SmallRng;
use rand::{RngCore as _, SeedableRng as _};

use crate::flash::{Flash, FlashError};
use crate::geometry::Geometry;

/// Stands right after the descriptor.
const MARKER: &[u8; 16] = b"otaru-behaviour:";
/// Most bytes that the checksum takes with the zeros before it.
const CHECKSUM_LEN: usize = 16;
/// Bytes of the appended SHA-256.
const SHA_LEN: usize = 32;
/// Smallest synthetic image, in bytes.
pub const MIN_SIZE: usize = 1024;

/// Behaviour of an image when it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Behaviour {
    /// It works.
    #[default]
    Healthy,
    /// It panics at boot.
    Crash,
    /// It hangs at boot.
    Hang,
    /// It fails its health check.
    Unhealthy,
    /// It never reaches the network.
    Deaf,
    /// It draws so much at boot that the supply voltage dips.
    Brownout,
    /// It works, until an update fills the other slot: then it panics.
    CrashInUpdate,
    /// The health check lets nothing else run, and never ends.
    Blocks,
    /// It works for an hour, and then lets nothing run any more.
    Seizes,
    /// It panics at boot on one device in twenty, always the same ones, and works on the others.
    Fragile,
}

impl Behaviour {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Healthy,
        Self::Crash,
        Self::Hang,
        Self::Unhealthy,
        Self::Deaf,
        Self::Brownout,
        Self::CrashInUpdate,
        Self::Blocks,
        Self::Seizes,
        Self::Fragile,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Crash => "crash",
            Self::Hang => "hang",
            Self::Unhealthy => "unhealthy",
            Self::Deaf => "deaf",
            Self::Brownout => "brownout",
            Self::CrashInUpdate => "crash_in_update",
            Self::Blocks => "blocks",
            Self::Seizes => "seizes",
            Self::Fragile => "fragile",
        }
    }
}

impl Behaviour {
    /// Returns the behaviour on the device with this seed.
    pub(crate) fn on(self, seed: u64) -> Self {
        match self {
            Self::Fragile if seed.is_multiple_of(20) => Self::Crash,
            Self::Fragile => Self::Healthy,
            other => other,
        }
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Behaviour {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|b| b.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|behaviour| behaviour.name()).collect();
            format!("use one of {}", names.join(", "))
        })
    }
}

/// The behaviour an image's first bytes ask for; real firmware is healthy.
pub fn behaviour_of(image: &[u8]) -> Behaviour {
    let tail = image.get(HEAD_LEN..).and_then(|tail| tail.strip_prefix(MARKER));
    let name = tail.map(|tail| tail.split(|b| *b == 0).next().unwrap_or_default());
    name.and_then(|name| std::str::from_utf8(name).ok()?.parse().ok()).unwrap_or_default()
}

/// A synthetic image to be made.
#[derive(Debug, Clone)]
pub struct FirmwareSpec {
    /// The chip it is for.
    pub chip: Chip,
    /// Project.
    pub project: String,
    /// Version.
    pub version: String,
    /// Anti-rollback version.
    pub secure_version: u32,
    /// Size in bytes; rounded up to a multiple of 16, and to [`MIN_SIZE`].
    pub size: usize,
    /// Behaviour when it runs.
    pub behaviour: Behaviour,
}

impl FirmwareSpec {
    /// The image. The same specification gives the same bytes.
    pub fn build(&self) -> Vec<u8> {
        let size = self.size.max(MIN_SIZE).next_multiple_of(16);
        let Self { chip, project, version, secure_version, behaviour, .. } = self;
        let identity = format!("{chip} {project} {version} {secure_version} {behaviour}");
        let digest = Digest::of(identity.as_bytes());
        let descriptor = DescriptorFields {
            project: &self.project,
            version: &self.version,
            secure_version: self.secure_version,
            elf_sha256: digest,
        };
        let mut first = MARKER.to_vec();
        first.extend(self.behaviour.name().as_bytes());
        first.resize(64, 0);
        let overhead = HEAD_LEN + first.len() + SEGMENT_HEADER_LEN + CHECKSUM_LEN + SHA_LEN;
        let second =
            code(&digest, &Digest::of(format!("{chip} {project}").as_bytes()), (size - overhead) / 4 * 4);
        let segments = &[(0x3C00_0020, first.as_slice()), (0x4038_0000, &second)];
        ImageFields { chip: self.chip, descriptor, segments, hash_appended: true }.emit()
    }
}

/// Chips that an image is for, as its header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// Bytes of the flash it was made for; 4 MiB where none are given.
    pub flash_size: Option<u32>,
    /// Lowest chip revision, ×100.
    pub min_revision: Option<u16>,
    /// Highest chip revision, ×100; none where only the lowest is given.
    pub max_revision: Option<u16>,
}

impl FirmwareSpec {
    /// The image for chips like these. Sizes that no flash chip has are rounded up to one.
    pub fn build_for(&self, needs: Needs) -> Vec<u8> {
        let mut image = self.build();
        let Ok(mut header) = Header::parse(&image) else { return image };
        if let Some(size) = needs.flash_size {
            let mebibytes = size.div_ceil(1 << 20).max(1).next_power_of_two();
            header.spi_speed_size = header.spi_speed_size & 0x0F | (mebibytes.trailing_zeros() as u8) << 4;
        }
        if needs.min_revision.is_some() || needs.max_revision.is_some() {
            header.min_revision = needs.min_revision.unwrap_or(0);
            header.max_revision = needs.max_revision.unwrap_or(u16::MAX);
        }
        image[..HEADER_LEN].copy_from_slice(&header.emit());
        // The checksum is that of the segments; the hash is that of everything.
        let end = image.len() - SHA_LEN;
        let hash = Digest::of(&image[..end]);
        image[end..].copy_from_slice(&hash.0);
        image
    }
}

/// Returns a stand-in for machine code, so many bytes: what is new in this image at the front, and behind it what all images of the
/// product have, moved by that. So a patch between two of them is small although no block of them is the same.
fn code(image: &Digest, product: &Digest, len: usize) -> Vec<u8> {
    let new = usize::from(image.0[8]) * 4 + 256;
    let mut code = noise(image, new);
    code.extend(noise(product, len.saturating_sub(new)));
    code.truncate(len);
    code
}

/// As compressible as machine code is: fewer values than a byte has.
fn noise(seed: &Digest, len: usize) -> Vec<u8> {
    let mut first = [0; 8];
    first.copy_from_slice(&seed.0[..8]);
    let mut bytes = vec![0; len];
    SmallRng::seed_from_u64(u64::from_le_bytes(first)).fill_bytes(&mut bytes);
    bytes.iter_mut().for_each(|byte| *byte %= 21);
    bytes
}

/// Puts Otaru's partition table for 4 MiB, blank otadata and an app in `ota_0` on a chip, as a flashing tool does.
///
/// # Errors
/// Returns [`FlashError::OutOfBounds`] if the image is larger than its slot.
pub fn provision(flash: &Flash, image: &[u8]) -> Result<(), FlashError> {
    Geometry::default().provision(flash, image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use otaru_format::image::ImageCheck;

    #[test]
    fn images_are_good_and_say_how_they_behave() {
        for (behaviour, size) in
            Behaviour::ALL.into_iter().zip([0, 1024, 4096, 70_000, 1 << 20].into_iter().cycle())
        {
            let spec = FirmwareSpec {
                chip: Chip::Esp32S3,
                project: "p".into(),
                version: "1".into(),
                secure_version: 0,
                size,
                behaviour,
            };
            let image = spec.build();
            let mut check = ImageCheck::new(2 << 20);
            check.feed(&image).unwrap();
            assert_eq!(check.finish().unwrap().len as usize, image.len());
            assert_eq!(image.len(), size.max(MIN_SIZE).next_multiple_of(16));
            assert_eq!(behaviour_of(&image), behaviour);
        }
    }
}
