//! Contents of an uploaded file: an image, or a release file. Checked as devices will check it, so that what they would refuse is not taken.

use std::ops::Range;

use otaru_api::Needs;
use otaru_format::chip::Chip;
use otaru_format::digest::Digest;
use otaru_format::image::file::{MERGED_REMEDY, is_merged, kept_len};
use otaru_format::image::{Descriptor, HEAD_LEN, Head, ImageCheck, ImageError};
use otaru_format::name::is_unruly;
use otaru_format::release::{KeyId, PayloadKind};
use otaru_release::file::{ReleaseFile, is_release};
use otaru_release::verify::{VerifyError, verify, verify_contents};

use super::Keys;
use super::naming::Naming;
use super::remarks::OwnNames;

/// No ESP flash that images run from is larger, in bytes.
const LARGEST: u32 = 16 << 20;

/// Contents of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The image, as devices report it.
    pub image: Digest,
    /// Bytes of the image.
    pub image_size: u32,
    /// Bytes of the file that are kept: the image and its signature block if it has one, or all of a release file.
    pub kept: usize,
    /// The product.
    pub product: String,
    /// The version.
    pub version: String,
    /// Names that the image gives itself, where that can be read.
    pub own: Option<OwnNames>,
    /// Demands of the header on boards, where that can be read.
    pub needs: Option<Needs>,
    /// The chip it runs on.
    pub chip: Chip,
    /// The kind of file.
    pub kind: Kind,
}

/// A kind of file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The image as it is.
    Image,
    /// A release file.
    Release(ReleaseParts),
}

/// Contents of a release file besides its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseParts {
    /// The key that signed it; where the server trusts no key in particular, the one it says.
    pub signed_by: Option<KeyId>,
    /// The sequence.
    pub sequence: u64,
    /// Bytes of the compressed image.
    pub compressed: Option<u32>,
    /// Images with a patch, and the patch's bytes.
    pub deltas: Vec<(Digest, u32)>,
    /// Range of the image in the file.
    pub raw: Option<Range<usize>>,
}

/// Why a file is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is no good image.
    #[error("it is no good ESP image: {0}; {1}")]
    Image(ImageError, &'static str),
    /// It is a whole flash image.
    #[error("{MERGED_REMEDY}")]
    Merged,
    /// It does not say what it is.
    #[error(
        "the image has no application descriptor, so its project and version are unknown; with esp-hal, \
         esp_bootloader_esp_idf::esp_app_desc!() adds one"
    )]
    NoDescriptor,
    /// A name is missing or odd.
    #[error(
        "the image's {0} is {1:?}; it must be 1 to 32 printable characters: set it where the firmware is built"
    )]
    Name(&'static str, String),
    /// A release file is to be called otherwise than its manifest says.
    #[error(
        "it is a release file, whose {0} is {1:?}; that cannot be {2:?} without making the file anew: `otaru release IMAGE.bin --{0} \
         {2:?}`"
    )]
    Manifest(&'static str, String, String),
    /// The chip is none that is known.
    #[error("it is for a chip with the id {0}, which this server does not know; it may be too old for it")]
    Chip(u16),
    /// It is no good release file.
    #[error("it is no good release file: {0}")]
    Release(#[from] VerifyError),
}

impl Contents {
    /// Reads a whole file.
    ///
    /// # Errors
    /// When devices would refuse it, or it does not say what it is.
    pub fn read(bytes: &[u8], keys: &Keys) -> Result<Self, Refused> {
        Self::read_as(bytes, keys, &Naming::default())
    }

    /// Reads a whole file that is called otherwise than it says itself.
    ///
    /// # Errors
    /// When devices would refuse it, it does not say what it is, or a release file is called otherwise.
    pub fn read_as(bytes: &[u8], keys: &Keys, naming: &Naming) -> Result<Self, Refused> {
        let mut contents = if is_release(bytes) { of_release(bytes, keys)? } else { of_image(bytes)? };
        for (what, name, wanted) in [
            ("product", &mut contents.product, &naming.product),
            ("version", &mut contents.version, &naming.version),
        ] {
            let Some(wanted) = wanted.as_ref().filter(|wanted| *wanted != name) else { continue };
            if contents.kind != Kind::Image {
                return Err(Refused::Manifest(what, name.clone(), wanted.clone()));
            }
            name.clone_from(wanted);
        }
        for (what, name) in [("project name", &contents.product), ("version", &contents.version)] {
            if name.is_empty() || name.chars().any(is_unruly) {
                return Err(Refused::Name(what, name.clone()));
            }
        }
        Ok(contents)
    }
}

fn of_image(bytes: &[u8]) -> Result<Contents, Refused> {
    if is_merged(bytes) {
        return Err(Refused::Merged);
    }
    let bad = |error| Refused::Image(error, remedy(bytes, error));
    let mut check = ImageCheck::new(LARGEST);
    check.feed(bytes).map_err(bad)?;
    let summary = check.finish().map_err(bad)?;
    let descriptor: Descriptor<'_> =
        Head::parse(bytes).map_err(bad)?.descriptor.ok_or(Refused::NoDescriptor)?;
    if descriptor.product().is_none() {
        return Err(Refused::Name("project name", descriptor.project().to_owned()));
    }
    Ok(Contents {
        image: summary.digest,
        image_size: summary.len,
        kept: kept_len(bytes, summary.len) as usize,
        product: descriptor.project().to_owned(),
        version: descriptor.version().to_owned(),
        own: Some(OwnNames::from(&descriptor)),
        needs: Some(Needs::from(&summary.header)),
        chip: chip(summary.header.chip_id)?,
        kind: Kind::Image,
    })
}

fn of_release(bytes: &[u8], keys: &Keys) -> Result<Contents, Refused> {
    // Memory is taken by what the manifest says, and anybody may have written that.
    if ReleaseFile::parse(bytes).map_err(VerifyError::from)?.manifest.size > LARGEST {
        return Err(VerifyError::NotBootable(ImageError::TooLarge { limit: LARGEST }).into());
    }
    let trusted = keys.trusted();
    let file = if trusted.is_empty() { verify_contents(bytes)? } else { verify(bytes, trusted)? }.file;
    let manifest = &file.manifest;
    let parts = parts(bytes, &file);
    let head = parts.raw.clone().and_then(|raw| bytes.get(raw)?.get(..HEAD_LEN));
    let head = head.and_then(|head| Head::parse(head).ok());
    Ok(Contents {
        image: manifest.image,
        image_size: manifest.size,
        kept: bytes.len(),
        product: manifest.product.to_owned(),
        version: manifest.version.to_owned(),
        own: head.as_ref().and_then(|head| head.descriptor.as_ref()).map(OwnNames::from),
        needs: head.as_ref().map(|head| Needs::from(&head.header)),
        chip: chip(manifest.chip_id)?,
        kind: Kind::Release(parts),
    })
}

/// Reads the contents of a release file, which has been verified.
fn parts(bytes: &[u8], file: &ReleaseFile<'_>) -> ReleaseParts {
    let area = bytes.len() - file.area().len();
    let mut parts = ReleaseParts {
        signed_by: file.envelope.key_id(),
        sequence: file.manifest.sequence,
        compressed: None,
        deltas: Vec::new(),
        raw: None,
    };
    for payload in file.manifest.payloads() {
        match payload.kind {
            PayloadKind::Raw => {
                let start = area + payload.offset as usize;
                parts.raw = Some(start..start + payload.len as usize);
            }
            PayloadKind::Lzma => parts.compressed = Some(payload.len),
            PayloadKind::Delta { base } => parts.deltas.push((base, payload.len)),
        }
    }
    parts
}

fn chip(id: u16) -> Result<Chip, Refused> {
    Chip::from_id(id).ok_or(Refused::Chip(id))
}

/// Advice about a file that is no good image.
fn remedy(bytes: &[u8], error: ImageError) -> &'static str {
    match bytes {
        [] => "the file is empty",
        [0x7F, b'E', b'L', b'F', ..] => {
            "it is an ELF file; make an image of it with `espflash save-image` or `esptool elf2image`"
        }
        [0x1F, 0x8B, ..] | [b'P', b'K', ..] => "it is an archive; unpack it first",
        [0xFF, ..] => "it looks like a flash dump; upload the application alone",
        _ => match error {
            ImageError::NotAnImage { .. } => "upload the application's .bin, or an .otaru file",
            _ => "the file was cut off or damaged; copy or build it again, and upload that",
        },
    }
}

#[cfg(test)]
mod tests {
    use otaru_format::release::{
        MAX_ENVELOPE, ManifestFields, PayloadFields, block_size, emit_unsigned, header,
    };
    use otaru_release::build::{Options, build};
    use otaru_release::keys::SecretKey;

    use super::*;
    use crate::releases::samples::image;

    fn why(bytes: &[u8], keys: &Keys) -> String {
        Contents::read(bytes, keys).unwrap_err().to_string()
    }

    #[test]
    fn an_image_says_what_it_is() {
        let bytes = image("lamp", "1.2.3", 1);
        let contents = Contents::read(&bytes, &Keys::default()).unwrap();
        assert_eq!((contents.product.as_str(), contents.version.as_str()), ("lamp", "1.2.3"));
        assert_eq!((contents.image, contents.chip), (Digest::of(&bytes), Chip::Esp32C3));
        assert_eq!(contents.image_size as usize, bytes.len());
    }

    #[test]
    fn a_bad_file_is_refused_with_a_remedy() {
        let (good, keys) = (image("lamp", "1.2.3", 1), Keys::default());
        let torn = why(&good[..good.len() - 100], &keys);
        assert!(torn.contains("ends early") && torn.contains("upload that"), "{torn}");
        let mut flipped = good.clone();
        flipped[3000] ^= 1;
        assert!(why(&flipped, &keys).contains("checksum"));
        assert!(why(b"\x7fELF", &keys).contains("save-image"));
        assert!(why(b"", &keys).contains("empty"));
        let merged = [&[0xFF; 0x1000][..], &good].concat();
        assert!(why(&merged, &keys).contains("the application's own .bin"));
        assert!(why(b"<html>", &keys).contains("web page"));
        assert!(why(&image("", "1.2.3", 1), &keys).contains("project name"));
        assert!(why(&image("lamp", "1\n2", 1), &keys).contains("version"));
    }

    #[test]
    fn a_release_file_cannot_claim_more_than_any_flash_holds() {
        let size = LARGEST + 1;
        let blocks = vec![Digest::ZERO; size.div_ceil(block_size(size)) as usize];
        let fields = ManifestFields {
            product: "lamp",
            chip_id: Chip::Esp32C3.id(),
            version: "1.0.0",
            sequence: 1,
            image: Digest::of(b"image"),
            size,
            blocks: &blocks,
            payloads: &[PayloadFields { kind: PayloadKind::Raw, len: size, frames: &[] }],
            min_base: None,
            secure_version: 0,
            revoked: &[],
            also: &[],
        };
        let (mut manifest, mut envelope) = ([0; MAX_ENVELOPE], [0; MAX_ENVELOPE]);
        let envelope = emit_unsigned(fields.emit(&mut manifest).unwrap(), &mut envelope).unwrap();
        let file = [&header(envelope.len()).unwrap(), envelope].concat();
        assert!(why(&file, &Keys::default()).contains("larger than"));
    }

    #[test]
    fn who_signed_a_release_matters_once_keys_are_known() {
        let bytes = image("lamp", "1.2.3", 1);
        let unsigned = build(&bytes, &Options::new(7), &mut |_| {}).unwrap();
        let (ours, theirs) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
        let their_id = theirs.public().id();
        let signed = unsigned.sign(&theirs).unwrap();
        let anybody = Contents::read(&signed, &Keys::default()).unwrap();
        let Kind::Release(parts) = &anybody.kind else { panic!("{anybody:?}") };
        assert_eq!((parts.signed_by, parts.sequence), (Some(their_id), 7));
        assert_eq!(signed[parts.raw.clone().unwrap()], bytes);
        let trusting = Keys::new(Some(ours), vec![theirs.public()]);
        assert_eq!(Contents::read(&signed, &trusting).unwrap(), anybody);
        let strict = Keys::new(Some(SecretKey::from_seed(&[1; 32])), Vec::new());
        assert!(why(&signed, &strict).contains("none of the keys"));
        assert!(why(&unsigned.without_signature().unwrap(), &strict).contains("not signed"));
        assert!(why(&signed[..signed.len() - 1], &strict).contains("release file"));
    }
}
