//! A firmware file, read and checked as a device and its bootloader will check it.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use otaru_format::chip::Chip;
use otaru_format::digest::Digest;
use otaru_format::image::file::{MERGED_REMEDY, Trailer, is_merged, kept_len};
use otaru_format::image::{HEADER_LEN, Head, ImageCheck, ImageError, ImageSummary, SEGMENT_HEADER_LEN};
use otaru_server::releases::remarks::{self, OwnNames};

/// No ESP flash that images run from is larger, in bytes.
const LARGEST: u32 = 16 << 20;

/// A part of an image and where it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) address: u32,
    pub(crate) len: u32,
}

/// Facts from the application descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) project: String,
    /// Whether devices can tell from the name which product it is.
    pub(crate) named: bool,
    pub(crate) version: String,
    pub(crate) idf_version: String,
    pub(crate) built: String,
    pub(crate) secure_version: u32,
    pub(crate) elf_sha256: Digest,
}

/// A good firmware file.
#[derive(Debug, Clone)]
pub(crate) struct Firmware {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
    pub(crate) summary: ImageSummary,
    pub(crate) about: Option<About>,
    pub(crate) segments: Vec<Segment>,
}

/// Why a file is no good firmware.
#[derive(Debug)]
pub(crate) enum FirmwareError {
    Read(PathBuf, std::io::Error),
    TooLarge(PathBuf),
    Merged(PathBuf),
    Bad { path: PathBuf, error: ImageError, hint: Option<&'static str> },
}

impl fmt::Display for FirmwareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => write!(f, "cannot read {}: {error}", path.display()),
            Self::TooLarge(path) => write!(f, "{} has more than 16 MiB: no ESP image", path.display()),
            Self::Merged(path) => write!(f, "{} is no application: {MERGED_REMEDY}", path.display()),
            Self::Bad { path, error, hint } => {
                write!(f, "{} is no good ESP image: {error}", path.display())?;
                hint.map_or(Ok(()), |hint| write!(f, "; {hint}"))
            }
        }
    }
}

impl std::error::Error for FirmwareError {}

impl Firmware {
    /// Reads and checks a file.
    pub(crate) fn read(path: &Path) -> Result<Self, FirmwareError> {
        let failed = |error| FirmwareError::Read(path.to_owned(), error);
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(u64::from(LARGEST) + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > LARGEST as usize {
            return Err(FirmwareError::TooLarge(path.to_owned()));
        }
        Self::check(path, bytes)
    }

    fn check(path: &Path, bytes: Vec<u8>) -> Result<Self, FirmwareError> {
        let bad = |error| FirmwareError::Bad { path: path.to_owned(), error, hint: hint(&bytes) };
        if is_merged(&bytes) {
            return Err(FirmwareError::Merged(path.to_owned()));
        }
        let mut check = ImageCheck::new(LARGEST);
        check.feed(&bytes).map_err(bad)?;
        let summary = check.finish().map_err(bad)?;
        let about = Head::parse(&bytes).map_err(bad)?.descriptor.map(|d| About {
            project: d.project().to_owned(),
            named: d.product().is_some(),
            version: d.version().to_owned(),
            idf_version: d.idf_version().to_owned(),
            built: format!("{} {}", d.date(), d.time()).trim().to_owned(),
            secure_version: d.secure_version(),
            elf_sha256: d.elf_sha256(),
        });
        let segments = segments(&bytes, summary.header.segments);
        Ok(Self { path: path.to_owned(), summary, about, segments, bytes })
    }

    /// The chip it is for, if it is one we know.
    pub(crate) fn chip(&self) -> Option<Chip> {
        self.summary.header.chip()
    }

    /// The chip's name, or its number.
    pub(crate) fn chip_name(&self) -> String {
        match self.chip() {
            Some(chip) => chip.name().to_owned(),
            None => format!("unknown (id {})", self.summary.header.chip_id),
        }
    }

    /// The image's bytes, and its signature block if there is one, without what else follows in the file.
    pub(crate) fn kept(&self) -> &[u8] {
        &self.bytes[..kept_len(&self.bytes, self.summary.len) as usize]
    }

    /// Whether a signature block of secure boot follows the image.
    pub(crate) fn is_signed(&self) -> bool {
        Trailer::of(&self.bytes, self.summary.len) == Trailer::Signature
    }

    /// Bytes in the file that are neither the image nor its signature block.
    pub(crate) fn trailing(&self) -> usize {
        self.bytes.len() - self.kept().len()
    }

    /// Tells what was kept of the file beside the image, and what was left out.
    pub(crate) fn remarks(&self) -> Vec<String> {
        remarks::of_file(self.trailing() as u64, self.is_signed())
    }

    /// The names that the image has for itself.
    pub(crate) fn own_names(&self) -> Option<OwnNames> {
        let about = self.about.as_ref()?;
        Some(OwnNames { project: about.project.clone(), version: about.version.clone() })
    }

    /// Why devices do not take it, unless they are forced.
    pub(crate) fn nameless(&self) -> Option<&'static str> {
        match &self.about {
            None => Some("it has no application descriptor; is it a bootloader?"),
            Some(about) if !about.named => Some("its project name is empty or cannot be read"),
            Some(_) => None,
        }
    }
}

/// The segments' headers. The image has been checked, so they are all there.
fn segments(bytes: &[u8], count: u8) -> Vec<Segment> {
    let mut at = HEADER_LEN;
    let mut found = Vec::new();
    for _ in 0..count {
        let Some(&[a, b, c, d, e, f, g, h]) = bytes.get(at..at + SEGMENT_HEADER_LEN) else { break };
        let len = u32::from_le_bytes([e, f, g, h]);
        found.push(Segment { address: u32::from_le_bytes([a, b, c, d]), len });
        at += SEGMENT_HEADER_LEN + len as usize;
    }
    found
}

/// Guesses what the file may be instead.
fn hint(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [] => Some("the file is empty"),
        [0x7F, b'E', b'L', b'F', ..] => {
            Some("it is an ELF file; make an image of it with `espflash save-image` or `esptool elf2image`")
        }
        bytes if otaru_release::file::is_release(bytes) => {
            Some("it is a release file; `otaru inspect` shows what is in it")
        }
        [0x1F, 0x8B, ..] | [b'P', b'K', ..] => Some("it is an archive; unpack it first"),
        [0xFF, ..] => Some("it looks like a flash dump; the application begins at its own offset"),
        [b'<', ..] => Some("it looks like a web page; was the download an error page?"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use otaru_sim::firmware::{Behaviour, FirmwareSpec};

    fn image() -> Vec<u8> {
        let (chip, behaviour) = (Chip::Esp32C3, Behaviour::Healthy);
        FirmwareSpec {
            chip,
            project: "p".into(),
            version: "1.2.3".into(),
            secure_version: 0,
            size: 5000,
            behaviour,
        }
        .build()
    }

    fn why(bytes: Vec<u8>) -> String {
        Firmware::check(Path::new("f.bin"), bytes).unwrap_err().to_string()
    }

    #[test]
    fn a_good_file_tells_what_it_is() {
        let mut bytes = image();
        bytes.extend([0; 7]);
        let firmware = Firmware::check(Path::new("f.bin"), bytes).unwrap();
        assert_eq!(firmware.chip(), Some(Chip::Esp32C3));
        assert_eq!(firmware.about.as_ref().unwrap().version, "1.2.3");
        assert_eq!(firmware.trailing(), 7);
        assert_eq!(firmware.summary.digest, Digest::of(firmware.kept()));
        assert_eq!(firmware.segments.len(), 2);
    }

    #[test]
    fn a_merged_image_is_told_what_to_use_instead() {
        let mut merged = vec![0xFF; 0x1000];
        merged.extend(image());
        assert!(why(merged).contains("the application's own .bin"));
    }

    #[test]
    fn a_signature_block_is_kept() {
        let mut bytes = image();
        bytes.resize(8192, 0xFF);
        bytes.extend([0xE7, 0x02]);
        bytes.resize(3 * 4096, 0);
        bytes.extend([1, 2, 3]);
        let firmware = Firmware::check(Path::new("f.bin"), bytes).unwrap();
        assert!(firmware.is_signed());
        assert_eq!((firmware.kept().len(), firmware.trailing()), (3 * 4096, 3));
    }

    #[test]
    fn bad_files_tell_why() {
        let mut flipped = image();
        flipped[2000] ^= 1;
        assert!(why(flipped).contains("checksum"));
        let mut cut = image();
        cut.truncate(3000);
        assert!(why(cut).contains("ends early"));
        assert!(why(b"\x7fELF".to_vec()).contains("ELF file"));
        assert!(why(Vec::new()).contains("empty"));
    }
}
