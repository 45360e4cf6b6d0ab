//! What firmware must be to be taken, decided from its first bytes and before the slot is touched.

use core::fmt;

use otaru_format::chip::Chip;
use otaru_format::digest::Digest;
use otaru_format::image::Head;
use otaru_format::release::{Envelope, Manifest, SemVer};
use otaru_format::status::Code;

use super::failure::Failure;
use super::stream::Stop;
use crate::memory::{Failed, Trusted};
use crate::trust::{self, PublicKey, TrustError};

/// The image that failed before and is not to be tried again.
pub(super) struct Barred {
    image: Digest,
    elf: Digest,
    code: Code,
}

impl From<Failed> for Barred {
    fn from(failed: Failed) -> Self {
        Self { image: failed.digest, elf: failed.elf, code: failed.code }
    }
}

impl Barred {
    /// Refuses `image` if it is the one.
    pub(super) fn refuse(barred: Option<&Self>, image: Option<Digest>) -> Result<(), Failure> {
        match barred.filter(|barred| image == Some(barred.image)) {
            Some(barred) => Err(Failure::refusal(
                Code::FailedBefore,
                format_args!(
                    "this image was rolled back before ({}); offer it with \"force\":true to try again",
                    barred.code
                ),
            )),
            None => Ok(()),
        }
    }
}

/// What is asked of firmware.
pub(super) struct Plan<'p> {
    pub(super) chip: Chip,
    /// The project it must be of; `None` when any will do.
    pub(super) project: Option<&'p str>,
    /// The image that was offered; `None` when any will do.
    pub(super) offered: Option<Digest>,
    pub(super) running: Running<'p>,
    pub(super) barred: Option<Barred>,
    pub(super) slot_len: u32,
    pub(super) keys: &'p [PublicKey],
    pub(super) allow_unsigned: bool,
    pub(super) allow_downgrade: bool,
    pub(super) trusted: Trusted,
}

/// The running image.
pub(super) struct Running<'p> {
    pub(super) image: Digest,
    pub(super) elf: Digest,
    pub(super) version: &'p str,
    pub(super) secure_version: u32,
}

impl Plan<'_> {
    fn refuse(code: Code, detail: fmt::Arguments<'_>) -> Stop {
        Failure::refusal(code, detail).into()
    }

    /// Whether firmware without a signature is taken at all.
    pub(super) fn admit_unsigned(&self) -> Result<(), Stop> {
        if self.allow_unsigned { Ok(()) } else { Err(signature_failure(TrustError::Unsigned).into()) }
    }

    /// Decides by an image's first bytes whether to go on.
    pub(super) fn admit_image(&self, head: &[u8]) -> Result<(), Stop> {
        let bytes = head;
        let head = Head::parse(bytes)?;
        self.admit_chip(head.header.chip())?;
        keep_secure_version(self.running.secure_version, secure_version_of(bytes))?;
        let Some(descriptor) = head.descriptor else { return Ok(()) };
        self.admit_project(descriptor.project())?;
        let elf = descriptor.elf_sha256();
        if elf.is_zero() {
            return Ok(());
        }
        if elf == self.running.elf {
            return Err(Stop::SameAsRunning);
        }
        if self.barred.as_ref().is_some_and(|barred| barred.elf == elf) {
            return Err(Self::refuse(
                Code::FailedBefore,
                format_args!(
                    "version {} was rolled back before; offer it with \"force\":true to try again",
                    descriptor.version()
                ),
            ));
        }
        Ok(())
    }

    /// Decides by a release's envelope whether to go on, the signature first of all.
    pub(super) fn admit_release<'m>(&self, envelope: &Envelope<'m>) -> Result<Manifest<'m>, Stop> {
        let signer = match trust::verify(envelope, self.keys, &self.trusted.revoked) {
            Ok(id) => Some(id),
            Err(TrustError::Unsigned) if self.allow_unsigned => None,
            Err(error) => return Err(signature_failure(error).into()),
        };
        let manifest = Manifest::parse(envelope.payload())?;
        // Nobody vouches for the end of a key but another key: an unsigned release revokes nothing either.
        if manifest.revoked().any(|id| signer.is_none_or(|signer| signer == id)) {
            return Err(Self::refuse(
                Code::BadRelease,
                format_args!("a release cannot revoke the key that signs it, nor any without a signature"),
            ));
        }
        self.admit_chip(Chip::from_id(manifest.chip_id))?;
        self.admit_project(manifest.product)?;
        if manifest.size > self.slot_len {
            return Err(Self::too_large(manifest.size, self.slot_len));
        }
        if self.offered.is_some_and(|offered| offered != manifest.image) {
            return Err(Self::refuse(
                Code::DigestMismatch,
                format_args!("the release at the URL is not the image that was offered: {}", manifest.image),
            ));
        }
        if manifest.image == self.running.image {
            return Err(Stop::SameAsRunning);
        }
        Barred::refuse(self.barred.as_ref(), Some(manifest.image))?;
        keep_secure_version(self.running.secure_version, manifest.secure_version)?;
        self.admit_order(&manifest)?;
        Ok(manifest)
    }

    pub(super) fn too_large(size: u32, slot_len: u32) -> Stop {
        Self::refuse(Code::TooLarge, format_args!("{size} bytes do not fit the slot of {slot_len}"))
    }

    fn admit_chip(&self, chip: Option<Chip>) -> Result<(), Stop> {
        if chip == Some(self.chip) {
            return Ok(());
        }
        let found = chip.map_or("an unknown chip", Chip::name);
        Err(Self::refuse(Code::WrongChip, format_args!("the firmware is for {found}, this is {}", self.chip)))
    }

    fn admit_project(&self, project: &str) -> Result<(), Stop> {
        match self.project.filter(|wanted| *wanted != project) {
            Some(wanted) => Err(Self::refuse(
                Code::WrongProduct,
                format_args!("the firmware is {project:?}, this device runs {wanted:?}"),
            )),
            None => Ok(()),
        }
    }

    fn admit_order(&self, manifest: &Manifest<'_>) -> Result<(), Stop> {
        let newest = self.trusted.sequence;
        if manifest.sequence < newest && !self.allow_downgrade {
            return Err(Self::refuse(
                Code::Downgrade,
                format_args!(
                    "release {} is older than release {newest}, which this device has had",
                    manifest.sequence
                ),
            ));
        }
        match manifest.min_base {
            Some(least) if !is_at_least(self.running.version, least) => Err(Self::refuse(
                Code::BaseTooOld,
                format_args!(
                    "version {} runs and {} must first; install that release before",
                    self.running.version, least
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// The secure version never goes down, whoever signs (ESP-IDF's anti-rollback). Held against the running image's,
/// as long as no eFuse can be read.
pub(super) fn keep_secure_version(running: u32, offered: u32) -> Result<(), Failure> {
    if offered >= running {
        return Ok(());
    }
    Err(Failure::refusal(
        Code::SecureVersion,
        format_args!("secure version {offered} is below the {running} of the running image"),
    ))
}

/// The secure version in an image's first bytes; 0 where there is no descriptor to tell.
pub(super) fn secure_version_of(head: &[u8]) -> u32 {
    let descriptor = Head::parse(head).ok().and_then(|head| head.descriptor);
    descriptor.map_or(0, |descriptor| descriptor.secure_version())
}

fn signature_failure(error: TrustError) -> Failure {
    Failure::refusal(error.code(), format_args!("{error}"))
}

/// Whether `version`, which may begin with a `v`, is `least` or later; what is no version is early.
fn is_at_least(version: &str, least: &str) -> bool {
    let bare = version.strip_prefix(['v', 'V']).unwrap_or(version);
    match (SemVer::parse(bare), SemVer::parse(least)) {
        (Ok(version), Ok(least)) => version >= least,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_does_not_tell_has_secure_version_0() {
        let image = include_bytes!("../../../otaru-format/tests/vectors/image.bin");
        let mut head = *image.first_chunk::<{ otaru_format::image::HEAD_LEN }>().unwrap();
        // Layout of `esp_app_desc_t`: a magic word, then the secure version.
        head[36..40].copy_from_slice(&7_u32.to_le_bytes());
        assert_eq!(secure_version_of(&head), 7);
        head[32] ^= 1;
        assert_eq!(secure_version_of(&head), 0);
        assert_eq!(keep_secure_version(1, 0).unwrap_err().code, Code::SecureVersion);
    }

    #[test]
    fn versions_are_ordered_by_number() {
        assert!(is_at_least("1.10.0", "1.9.9"));
        assert!(is_at_least("v2.0.0", "2.0.0-rc1"));
        assert!(!is_at_least("1.2.3", "1.2.4"));
        assert!(!is_at_least("nightly", "0.0.1"));
    }
}
