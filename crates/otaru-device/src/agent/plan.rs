//! Deciding whether firmware is taken, from its first bytes and before the slot is touched.
//!
//! Sentences here name the device's own values and nothing that a server sent, unless a trusted key has signed it.

use core::fmt;

use otaru_format::chip::Chip;
use otaru_format::digest::Digest;
use otaru_format::guards::{Guards, MAX_KEYS};
use otaru_format::image::{Head, ImageError};
use otaru_format::partition;
use otaru_format::release::{Envelope, KeyId, Manifest, SemVer};
use otaru_format::status::Code;

use super::failure::{Failure, Reason};
use super::unfit::Unfit;
use crate::memory::Failed;
use crate::trust::{self, PublicKey, TrustError};

/// Demands on firmware.
pub(super) struct Plan<'p> {
    pub(super) chip: Chip,
    /// Revision of the chip, ×100, where it is known.
    pub(super) revision: Option<u16>,
    /// Bytes of the flash chip, where they are known.
    pub(super) flash_size: Option<u32>,
    pub(super) products: Products<'p>,
    /// The image that was offered; `None` when any will do.
    pub(super) offered: Option<Digest>,
    pub(super) running: Running<'p>,
    pub(super) failed: Option<FailedImage>,
    pub(super) slot_len: u32,
    pub(super) keys: &'p [PublicKey],
    pub(super) allow_unsigned: bool,
    pub(super) allow_downgrade: bool,
    /// Whether an image may say nothing about itself.
    pub(super) force: bool,
    /// `None` when they are lost.
    pub(super) guards: Option<Guards>,
}

/// Products that firmware may be for.
#[derive(Clone, Copy)]
pub(super) struct Products<'p> {
    /// The device's own; empty when it does not know it.
    pub(super) own: &'p str,
    /// Others that will do.
    pub(super) others: &'p [&'p str],
    /// Whether any will do.
    pub(super) any: bool,
}

/// The running image.
pub(super) struct Running<'p> {
    pub(super) image: Digest,
    /// SHA-256 of its head.
    pub(super) head: Digest,
    pub(super) version: &'p str,
    pub(super) secure_version: u32,
}

/// Verdict on firmware that may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is to be fetched.
    Wanted,
    /// It runs already.
    AlreadyRunning,
}

/// The image that failed before and is not to be tried again.
pub(super) struct FailedImage {
    image: Digest,
    head: Digest,
    sequence: u64,
    code: Code,
}

impl From<Failed> for FailedImage {
    fn from(failed: Failed) -> Self {
        Self { image: failed.digest, head: failed.head, sequence: failed.sequence, code: failed.code }
    }
}

impl Products<'_> {
    /// Whether firmware may be for a product for which `is` holds.
    fn admit(&self, is: &dyn Fn(&str) -> bool) -> Result<(), Unfit> {
        let own = Some(self.own).filter(|own| !own.is_empty());
        let fits = self.any || own.into_iter().chain(self.others.iter().copied()).any(is);
        if fits { Ok(()) } else { Err(Unfit::Product) }
    }
}

/// Counts the bytes that stand where a partition table begins, of its first two, among these that begin at byte `at` of an image.
pub(super) fn table_bytes(at: u32, bytes: &[u8]) -> u8 {
    let found = |(place, wanted): (u32, &u8)| {
        let index = place.checked_sub(at)? as usize;
        (bytes.get(index)? == wanted).then_some(())
    };
    (partition::TABLE_OFFSET..).zip(&partition::MAGIC).filter_map(found).count() as u8
}

impl Plan<'_> {
    /// Whether firmware without a signature is taken at all.
    pub(super) fn admit_unsigned(&self) -> Result<(), Reason> {
        if self.allow_unsigned { Ok(()) } else { Err(TrustError::Unsigned.into()) }
    }

    /// Decides by an image's first bytes whether it can run here, however it comes. `table` says that a partition table stands at
    /// its usual place.
    pub(super) fn judge(&self, head: &[u8], table: bool) -> Result<(), Unfit> {
        let Head { header, descriptor } = Head::parse(head).map_err(|_| Unfit::Broken)?;
        let secure_version = descriptor.map_or(0, |descriptor| descriptor.secure_version());
        let larger = |own| header.flash_size().is_some_and(|size| size > own);
        let unfit = if table && descriptor.is_none() {
            Unfit::Merged
        } else if header.chip() != Some(self.chip) {
            Unfit::Chip
        } else if self.revision.is_some_and(|revision| !header.admits_revision(revision)) {
            Unfit::Revision
        } else if self.flash_size.is_some_and(larger) {
            Unfit::FlashSize
        } else if !self.force && descriptor.and_then(|descriptor| descriptor.product()).is_none() {
            Unfit::Nameless
        } else if secure_version < self.running.secure_version {
            Unfit::SecureVersion
        } else {
            return Ok(());
        };
        Err(unfit)
    }

    /// Decides by a bare image's first bytes whether it fits. Only its name says which product it is for.
    pub(super) fn judge_bare(&self, head: &[u8], table: bool) -> Result<(), Unfit> {
        self.judge(head, table)?;
        let descriptor = Head::parse(head).ok().and_then(|head| head.descriptor);
        match descriptor.and_then(|descriptor| descriptor.product()) {
            Some(name) => self.products.admit(&|product| product == name),
            // What says nothing has come so far by force.
            None => Ok(()),
        }
    }

    /// Decides by a bare image's first bytes whether to go on.
    pub(super) fn admit_image(&self, head: &[u8]) -> Result<Admission, Reason> {
        self.judge_bare(head, false)?;
        if let Some(offered) = self.offered {
            // Where a digest was offered, nothing else tells one image from another.
            return self.admit_again(offered, None).map(|()| Admission::Wanted);
        }
        let descriptor = Head::parse(head)?.descriptor;
        if descriptor.is_none_or(|descriptor| descriptor.elf_sha256().is_zero()) {
            return Ok(Admission::Wanted);
        }
        let head = Digest::of(head);
        if head == self.running.head {
            return Ok(Admission::AlreadyRunning);
        }
        match &self.failed {
            Some(failed) if failed.head == head && !self.force => Err(Reason::FailedBefore),
            _ => Ok(Admission::Wanted),
        }
    }

    /// Whether this image failed before, and comes in no later release than then: bare with `None`, which a forced command lifts.
    pub(super) fn is_barred(&self, image: Digest, sequence: Option<u64>) -> bool {
        let lifted = |failed: &FailedImage| match sequence {
            Some(sequence) => sequence > failed.sequence,
            None => self.force,
        };
        self.failed.as_ref().is_some_and(|failed| failed.image == image && !lifted(failed))
    }

    /// Refuses an image that failed before, unless it comes in a later release than then.
    pub(super) fn admit_again(&self, image: Digest, sequence: Option<u64>) -> Result<(), Reason> {
        if self.is_barred(image, sequence) { Err(Reason::FailedBefore) } else { Ok(()) }
    }

    /// Decides by a release's envelope whether to go on, the signature first of all.
    pub(super) fn admit_release<'m>(
        &self,
        envelope: &Envelope<'m>,
    ) -> Result<(Manifest<'m>, Admission), Reason> {
        let signer = match trust::verify(envelope, self.keys, self.revoked()) {
            Ok(id) => Some(id),
            Err(TrustError::Unsigned) if self.allow_unsigned => None,
            Err(error) => return Err(error.into()),
        };
        let manifest = Manifest::parse(envelope.payload())?;
        // Nobody vouches for the end of a key but another key: an unsigned release revokes nothing either.
        if manifest.revoked().any(|id| signer.is_none_or(|signer| signer == id)) {
            return Err(Reason::RevokesSigner);
        }
        if Chip::from_id(manifest.chip_id) != Some(self.chip) {
            return Err(Unfit::Chip.into());
        }
        self.products.admit(&|product| manifest.is_for(product))?;
        if manifest.size > self.slot_len {
            return Err(Reason::TooLarge);
        }
        if self.offered.is_some_and(|offered| offered != manifest.image) {
            return Err(Reason::Mismatch { written: false });
        }
        self.admit_revocations(&manifest)?;
        if manifest.image == self.running.image {
            return Ok((manifest, Admission::AlreadyRunning));
        }
        if manifest.secure_version < self.running.secure_version {
            return Err(Unfit::SecureVersion.into());
        }
        self.admit_order(&manifest)?;
        self.admit_again(manifest.image, Some(manifest.sequence))?;
        Ok((manifest, Admission::Wanted))
    }

    /// Refuses a release whose revocations could not be kept.
    fn admit_revocations(&self, manifest: &Manifest<'_>) -> Result<(), Reason> {
        let known = self.revoked();
        let more = manifest.revoked().filter(|key| !known.contains(key)).count();
        if known.len() + more > MAX_KEYS { Err(Reason::TooManyRevoked) } else { Ok(()) }
    }

    /// Keys that count no more.
    fn revoked(&self) -> &[KeyId] {
        self.guards.as_ref().map_or(&[], |guards| &guards.revoked)
    }

    /// Refuses what would lead back, or skip a version. A sequence belongs to one image.
    fn admit_order(&self, manifest: &Manifest<'_>) -> Result<(), Reason> {
        let running = self.running.version;
        match &self.guards {
            _ if self.allow_downgrade => {}
            Some(guards) if manifest.sequence < guards.sequence => return Err(Reason::Older),
            Some(guards) if manifest.sequence == guards.sequence && manifest.image != guards.image => {
                return Err(Reason::SequenceTaken);
            }
            // Versions that cannot be compared say nothing; the device would else never be updated again.
            None if compare(manifest.version, running).is_some_and(|order| order.is_lt()) => {
                return Err(Reason::GuardsLost);
            }
            _ => {}
        }
        match manifest.min_base {
            Some(least) if compare(running, least).is_none_or(|order| order.is_lt()) => {
                Err(Reason::BaseTooOld)
            }
            _ => Ok(()),
        }
    }

    /// Returns the failure with its sentence.
    pub(super) fn failure(&self, reason: Reason) -> Failure {
        let own = self.products.own;
        let sequence = self.guards.as_ref().map_or(0, |guards| guards.sequence);
        let text = |detail: fmt::Arguments<'_>| Failure::new(reason.code(own), detail);
        let failure = match reason {
            Reason::Unfit(Unfit::Chip) => {
                text(format_args!("the firmware is for another chip; this device is an {}", self.chip))
            }
            Reason::Unfit(Unfit::Revision) => {
                let revision = self.revision.unwrap_or_default();
                text(format_args!(
                    "the firmware is for other revisions of the chip; this one is v{}.{}",
                    revision / 100,
                    revision % 100
                ))
            }
            Reason::Unfit(Unfit::FlashSize) => text(format_args!(
                "the firmware is for a larger flash chip; this one has {} KiB",
                self.flash_size.unwrap_or_default() / 1024
            )),
            Reason::Unfit(Unfit::SecureVersion) => text(format_args!(
                "the firmware's secure version is below that of the running image, {}",
                self.running.secure_version
            )),
            Reason::Unfit(Unfit::Nameless) if !own.is_empty() => text(format_args!(
                "the firmware does not say which product it is for; this device is \"{own}\""
            )),
            Reason::Unfit(Unfit::Product) if !own.is_empty() => {
                text(format_args!("the firmware is for another product; this device is \"{own}\""))
            }
            Reason::Distrust(error) => text(format_args!("{}", error.on(self.keys))),
            Reason::TooLarge | Reason::Image(ImageError::TooLarge { .. }) => {
                text(format_args!("the firmware does not fit the slot of {} bytes", self.slot_len))
            }
            Reason::FailedBefore => text(format_args!(
                "this image was rolled back before ({}); to try it again: {}",
                self.failed.as_ref().map_or(Code::Unknown, |failed| failed.code),
                if self.allow_unsigned { "\"force\": true" } else { "a release with a higher sequence" }
            )),
            Reason::Older => {
                text(format_args!("the release is older than release {sequence}, which this device has had"))
            }
            Reason::SequenceTaken => text(format_args!(
                "release {sequence} was another image on this device; sign this one again with a higher sequence"
            )),
            Reason::GuardsLost => text(format_args!(
                "this device has lost which releases it had, and takes none below version {}",
                self.running.version
            )),
            Reason::BaseTooOld => text(format_args!(
                "version {} is too old for this release; install a release in between first",
                self.running.version
            )),
            Reason::Release(what) => text(format_args!("the release is damaged or badly made: {what}")),
            Reason::Block { number, count } => text(format_args!(
                "block {number} of {count} is not what the release says, also when fetched again"
            )),
            Reason::Fetch(error) => text(format_args!("{error}")),
            _ => text(format_args!("{}", reason.words())),
        };
        Failure { refused: reason.is_refusal(), ..failure }
    }
}

/// Compares versions, which may begin with a `v`; `None` when one of them is no semantic version.
fn compare(one: &str, other: &str) -> Option<core::cmp::Ordering> {
    let bare = |version: &'_ str| -> usize { usize::from(version.starts_with('V')) };
    let one = SemVer::parse(one.get(bare(one)..)?).ok()?;
    let other = SemVer::parse(other.get(bare(other)..)?).ok()?;
    Some(one.cmp(&other))
}

#[cfg(test)]
mod tests {
    use core::cmp::Ordering;

    use otaru_format::image::HEAD_LEN;

    use super::*;

    /// The image of the test vectors: project `lamp`, version 1.2.3, for an ESP32-C3 of any revision below 1.0 with 4 MB.
    fn head() -> [u8; HEAD_LEN] {
        *include_bytes!("../../../otaru-format/tests/vectors/image.bin").first_chunk().unwrap()
    }

    fn plan() -> Plan<'static> {
        Plan {
            chip: Chip::Esp32C3,
            revision: None,
            flash_size: None,
            products: Products { own: "lamp", others: &[], any: false },
            offered: None,
            running: Running {
                image: Digest::of(b"running"),
                head: Digest::of(b"its head"),
                version: "1.0.0",
                secure_version: 0,
            },
            failed: None,
            slot_len: 1 << 20,
            keys: &[],
            allow_unsigned: true,
            allow_downgrade: false,
            force: false,
            guards: Some(Guards::default()),
        }
    }

    /// Layout of `esp_image_header_t` and `esp_app_desc_t`.
    const FLASH_AT: usize = 3;
    const MIN_AT: usize = 15;
    const MAX_AT: usize = 17;
    const DESCRIPTOR_AT: usize = 32;
    const SECURE_AT: usize = 36;
    const NAME_AT: usize = 80;

    #[test]
    fn a_descriptor_that_is_not_there_says_nothing() {
        let mut head = head();
        assert_eq!(plan().judge_bare(&head, false), Ok(()));
        assert_eq!(plan().judge_bare(&head, true), Ok(()), "a table's bytes may be code");
        let forced = Plan { force: true, ..plan() };
        for name in [&b"\0"[..], b"\xFF", b"lam\xFF", b"lamp\n"] {
            let mut odd = head;
            odd[NAME_AT..NAME_AT + name.len()].copy_from_slice(name);
            assert_eq!(plan().judge_bare(&odd, false), Err(Unfit::Nameless), "{name:?}");
            assert_eq!(forced.judge_bare(&odd, false), Ok(()));
        }
        head[DESCRIPTOR_AT] ^= 1;
        assert_eq!(plan().judge_bare(&head, false), Err(Unfit::Nameless));
        assert_eq!(plan().failure(Unfit::Nameless.into()).code, Code::NoProduct);
        assert_eq!(forced.judge_bare(&head, false), Ok(()));
        assert_eq!(forced.judge_bare(&head, true), Err(Unfit::Merged));
        assert_eq!(plan().judge_bare(&head, true), Err(Unfit::Merged));
    }

    #[test]
    fn the_secure_version_of_an_image_that_does_not_tell_is_0() {
        let running = Running { secure_version: 7, ..plan().running };
        let plan = Plan { running, force: true, ..plan() };
        let mut head = head();
        head[SECURE_AT..SECURE_AT + 4].copy_from_slice(&7_u32.to_le_bytes());
        assert_eq!(plan.judge(&head, false), Ok(()));
        head[DESCRIPTOR_AT] ^= 1;
        assert_eq!(plan.judge(&head, false), Err(Unfit::SecureVersion));
    }

    #[test]
    fn any_of_the_products_will_do_and_none_is_no_product() {
        let with = |own, others, any| Plan { products: Products { own, others, any }, ..plan() };
        assert_eq!(with("lock", &["lamp"], false).judge_bare(&head(), false), Ok(()));
        assert_eq!(with("lock", &[], true).judge_bare(&head(), false), Ok(()));
        assert_eq!(with("lock", &["clock"], false).judge_bare(&head(), false), Err(Unfit::Product));
        let unknown = with("", &[], false);
        assert_eq!(unknown.judge_bare(&head(), false), Err(Unfit::Product));
        assert_eq!(unknown.failure(Unfit::Product.into()).code, Code::NoProduct);
    }

    #[test]
    fn revision_and_flash_are_compared_where_they_are_known() {
        let with = |revision, flash_size| Plan { revision, flash_size, ..plan() };
        let mut head = head();
        head[FLASH_AT] = 0x30;
        head[MIN_AT..MIN_AT + 2].copy_from_slice(&3_u16.to_le_bytes());
        head[MAX_AT..MAX_AT + 2].copy_from_slice(&199_u16.to_le_bytes());
        for (revision, flash, expected) in [
            (None, None, Ok(())),
            (Some(3), Some(8 << 20), Ok(())),
            (Some(199), Some(16 << 20), Ok(())),
            (Some(2), None, Err(Unfit::Revision)),
            (Some(200), None, Err(Unfit::Revision)),
            (Some(3), Some(4 << 20), Err(Unfit::FlashSize)),
        ] {
            assert_eq!(with(revision, flash).judge(&head, false), expected, "{revision:?} {flash:?}");
        }
        for none in [0, u16::MAX] {
            head[MAX_AT..MAX_AT + 2].copy_from_slice(&none.to_le_bytes());
            assert_eq!(with(Some(399), None).judge(&head, false), Ok(()));
        }
        assert!(with(Some(301), None).failure(Unfit::Revision.into()).detail.contains("v3.1"));
    }

    #[test]
    fn a_digest_is_the_only_identity_where_there_is_one() {
        let head = head();
        let failed = || FailedImage {
            image: Digest::of(b"failed"),
            head: Digest::of(&head),
            sequence: 5,
            code: Code::Panic,
        };
        let running = || Running { head: Digest::of(&head), ..plan().running };
        let code = |plan: &Plan<'_>, head: &[u8]| match plan.admit_image(head) {
            Ok(Admission::Wanted) => "taken",
            Ok(Admission::AlreadyRunning) => "current",
            Err(reason) => plan.failure(reason).code.as_str(),
        };
        let mut other_header = head;
        other_header[FLASH_AT] ^= 0x10;
        let bare = Plan { running: running(), ..plan() };
        assert_eq!((code(&bare, &head), code(&bare, &other_header)), ("current", "taken"));
        let bare = Plan { failed: Some(failed()), ..plan() };
        assert_eq!((code(&bare, &head), code(&bare, &other_header)), ("failed_before", "taken"));
        let offered = Some(Digest::of(b"another"));
        let named = Plan { running: running(), failed: Some(failed()), offered, ..plan() };
        assert_eq!(code(&named, &head), "taken");
        let named = Plan { failed: Some(failed()), offered: Some(Digest::of(b"failed")), ..plan() };
        assert_eq!(code(&named, &other_header), "failed_before");
        assert!(!named.is_barred(Digest::of(b"failed"), Some(6)), "a later release may try again");
        // Two builds without a digest of their ELF file may begin alike.
        let mut untold = head;
        untold[DESCRIPTOR_AT + 144..DESCRIPTOR_AT + 176].fill(0);
        let bare = Plan { running: Running { head: Digest::of(&untold), ..plan().running }, ..plan() };
        assert_eq!(code(&bare, &untold), "taken");
    }

    #[test]
    fn a_table_is_found_across_pieces() {
        assert_eq!(table_bytes(0x8000, &[0xAA, 0x50]), 2);
        assert_eq!(table_bytes(0x7FFF, &[0, 0xAA]) + table_bytes(0x8001, &[0x50]), 2);
        assert_eq!(table_bytes(0x8000, &[0x50, 0xAA]), 0);
        assert_eq!(table_bytes(0x8002, &[0xAA, 0x50]) + table_bytes(0, &[0xAA, 0x50]), 0);
    }

    #[test]
    fn versions_are_ordered_by_number() {
        assert_eq!(compare("1.10.0", "1.9.9"), Some(Ordering::Greater));
        assert_eq!(compare("V2.0.0", "v2.0.0-rc1"), Some(Ordering::Greater));
        assert_eq!(compare("1.2.3", "1.2.4"), Some(Ordering::Less));
        assert_eq!(compare("nightly", "0.0.1"), None);
    }
}
