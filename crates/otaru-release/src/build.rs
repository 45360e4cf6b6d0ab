//! From an image to a manifest and its payloads.

use std::fmt;

use otaru_format::digest::Digest;
use otaru_format::image::file::{MERGED_REMEDY, is_merged, kept_len};
use otaru_format::image::{Head, ImageCheck, ImageError, ImageSummary};
use otaru_format::release::{
    KeyId, MAX_ALSO, MAX_ENVELOPE, MAX_PAYLOADS, MAX_REVOKED, ManifestFields, PayloadFields, PayloadKind,
    ReleaseError, SemVer, block_size,
};

/// No ESP flash that images run from is larger, in bytes.
const LARGEST: u32 = 16 << 20;

/// Facts that the image does not say itself.
#[derive(Debug, Clone)]
pub struct Options {
    /// The release's number: 1 or more, and more than every earlier release of the product has.
    pub sequence: u64,
    /// The product, where it is not the image's project name.
    pub product: Option<String>,
    /// The version, where it is not the one in the image: frameworks put their own there.
    pub version: Option<String>,
    /// Further products whose devices take it, at most [`MAX_ALSO`]: the old name of one that is renamed.
    pub also: Vec<String>,
    /// The least version that a device must run to take this release.
    pub min_base: Option<String>,
    /// Keys that devices shall not trust any longer.
    pub revoked: Vec<KeyId>,
    /// Whether to compress; without it, the file is made at once and twice as many bytes go over the air.
    pub compress: bool,
    /// Images that devices run now, whole files: each gets a patch, which such devices fetch in place of the image. At most
    /// [`MAX_BASES`].
    pub bases: Vec<Vec<u8>>,
}

/// Most bases of one release: a manifest has room for sixteen payloads, two of which bring the image itself.
pub const MAX_BASES: usize = MAX_PAYLOADS - 2;

impl Options {
    /// A release with this number, compressed, with everything else from the image.
    pub fn new(sequence: u64) -> Self {
        Self {
            sequence,
            product: None,
            version: None,
            also: Vec::new(),
            min_base: None,
            revoked: Vec::new(),
            compress: true,
            bases: Vec::new(),
        }
    }
}

/// Progress: what is being done, and how far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The work.
    pub stage: Stage,
    /// Pieces that are done: patches or blocks.
    pub done: usize,
    /// All pieces.
    pub of: usize,
    /// Bytes that went in.
    pub taken: u64,
    /// Bytes that came out.
    pub given: u64,
}

/// The long work of making a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A patch for each base.
    Patches,
    /// Compressing the blocks.
    Blocks,
}

/// A release that is complete but for its signature.
#[derive(Debug, Clone)]
pub struct Unsigned {
    pub(crate) manifest: Vec<u8>,
    pub(crate) area: Vec<u8>,
}

/// Why no release can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// The image is no good.
    Image(ImageError),
    /// The file is a whole flash image.
    Merged,
    /// The image has no application descriptor.
    NoDescriptor,
    /// The image tells no version.
    NoVersion,
    /// The image's project name is empty or cannot be read.
    NoProduct,
    /// There are too many further products.
    TooManyNames,
    /// The least base version is no semantic version.
    MinBase,
    /// More keys are revoked than one release can.
    TooManyRevoked,
    /// A base is no good.
    Base {
        /// Number of the base, counted from 0.
        index: usize,
        /// The error.
        why: BaseError,
    },
    /// There are more bases than one release can have patches for.
    TooManyBases,
    /// A value does not fit a manifest.
    Release(ReleaseError),
}

/// Why no patch can lead from an image to a release's.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BaseError {
    /// It is no good image.
    Image(ImageError),
    /// It is for another chip.
    Chip,
    /// It is another product's.
    Project(String),
    /// It is the release's own image.
    Same,
    /// It was given twice.
    Twice,
}

impl fmt::Display for BaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(error) => write!(f, "no good ESP image: {error}"),
            Self::Chip => f.write_str("it is for another chip, so no device runs it that takes this release"),
            Self::Project(name) => {
                write!(f, "it is {name:?}, so no device runs it that takes this release")
            }
            Self::Same => f.write_str("it is the image that is released"),
            Self::Twice => f.write_str("it was given twice"),
        }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(error) => write!(f, "no good ESP image: {error}"),
            Self::Merged => f.write_str(MERGED_REMEDY),
            Self::NoDescriptor => f.write_str(
                "the image has no application descriptor, so its project and version are unknown; with esp-hal, \
                 esp_bootloader_esp_idf::esp_app_desc!() adds one",
            ),
            Self::NoVersion => f.write_str(
                "the image tells no version; set it in Cargo.toml, or as PROJECT_VER in ESP-IDF",
            ),
            Self::NoProduct => f.write_str(
                "the image's project name is empty or cannot be read; set it where the firmware is built, or devices \
                 refuse the image",
            ),
            Self::TooManyNames => write!(f, "one release is for at most {MAX_ALSO} further products"),
            Self::MinBase => f.write_str("the least base version must look like 1.2.3"),
            Self::TooManyRevoked => write!(f, "one release revokes at most {MAX_REVOKED} keys; make several"),
            Self::Base { index, why } => write!(f, "base {}: {why}", index + 1),
            Self::TooManyBases => {
                write!(f, "one release has patches for at most {MAX_BASES} bases; leave out those that few devices run")
            }
            Self::Release(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BuildError {}

impl From<ReleaseError> for BuildError {
    fn from(error: ReleaseError) -> Self {
        Self::Release(error)
    }
}

/// Makes a release of the image at the start of `file`. A signature block of secure boot behind it is kept; anything else that
/// follows the image is left out.
///
/// # Errors
/// Returns an error if the image is invalid or names no project or version, if an option is invalid, or if a base cannot be used.
pub fn build(
    file: &[u8],
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Unsigned, BuildError> {
    if is_merged(file) {
        return Err(BuildError::Merged);
    }
    let summary = check(file)?;
    let image = &file[..kept_len(file, summary.len) as usize];
    let size = image.len() as u32;
    let descriptor = Head::parse(image).map_err(BuildError::Image)?.descriptor;
    let descriptor = descriptor.ok_or(BuildError::NoDescriptor)?;
    let project = descriptor.product().ok_or(BuildError::NoProduct)?;
    let product = options.product.as_deref().unwrap_or(project);
    let version = options.version.as_deref().unwrap_or(descriptor.version());
    if version.is_empty() {
        return Err(BuildError::NoVersion);
    }
    let revoked = revoked(&options.revoked)?;
    let also = also(&options.also, product)?;
    if options.min_base.as_deref().is_some_and(|version| SemVer::parse(version).is_err()) {
        return Err(BuildError::MinBase);
    }
    let bases = bases(&options.bases, &summary, project)?;
    let blocks: Vec<&[u8]> = image.chunks(block_size(size) as usize).collect();
    let hashes: Vec<Digest> = blocks.iter().map(|block| Digest::of(block)).collect();
    let raw = PayloadFields { kind: PayloadKind::Raw, len: size, frames: &[] };
    let fields = ManifestFields {
        product,
        chip_id: summary.header.chip_id,
        version,
        sequence: options.sequence,
        image: summary.digest,
        size,
        blocks: &hashes,
        payloads: &[raw],
        min_base: options.min_base.as_deref(),
        secure_version: descriptor.secure_version(),
        revoked: &revoked,
        also: &also,
    };
    // What cannot be is told before the long work.
    emit(&fields)?;
    let patches = make_patches(&bases, image, progress);
    let frames = if options.compress { compress(&blocks, progress) } else { Vec::new() };
    assemble(&fields, image, &patches, &frames)
}

/// A base: its digest and its image.
type Base<'b> = (Digest, &'b [u8]);

fn bases<'b>(files: &'b [Vec<u8>], new: &ImageSummary, project: &str) -> Result<Vec<Base<'b>>, BuildError> {
    if files.len() > MAX_BASES {
        return Err(BuildError::TooManyBases);
    }
    let mut bases: Vec<Base<'b>> = Vec::with_capacity(files.len());
    for (index, file) in files.iter().enumerate() {
        let base = base(file, new, project).map_err(|why| BuildError::Base { index, why })?;
        if bases.iter().any(|(digest, _)| *digest == base.0) {
            return Err(BuildError::Base { index, why: BaseError::Twice });
        }
        bases.push(base);
    }
    Ok(bases)
}

fn base<'b>(file: &'b [u8], new: &ImageSummary, project: &str) -> Result<Base<'b>, BaseError> {
    let mut check = ImageCheck::new(LARGEST);
    check.feed(file).map_err(BaseError::Image)?;
    let summary = check.finish().map_err(BaseError::Image)?;
    if summary.header.chip_id != new.header.chip_id {
        return Err(BaseError::Chip);
    }
    if summary.digest == new.digest {
        return Err(BaseError::Same);
    }
    let image = &file[..summary.len as usize];
    let descriptor = Head::parse(image).map_err(BaseError::Image)?.descriptor;
    match descriptor.filter(|descriptor| descriptor.project() != project) {
        Some(other) => Err(BaseError::Project(other.project().to_owned())),
        None => Ok((summary.digest, image)),
    }
}

/// The patches that are worth it: smaller than the image.
fn make_patches(
    bases: &[Base<'_>],
    image: &[u8],
    progress: &mut dyn FnMut(Progress),
) -> Vec<(Digest, Vec<u8>)> {
    let mut state = Progress { stage: Stage::Patches, done: 0, of: bases.len(), taken: 0, given: 0 };
    let mut patches = Vec::with_capacity(bases.len());
    for (digest, base) in bases {
        progress(state);
        // No image is too long for it: both have passed the check.
        let Ok(patch) = otaru_delta::encode(base, image) else { continue };
        state.done += 1;
        state.taken += image.len() as u64;
        state.given += patch.len() as u64;
        progress(state);
        if patch.len() < image.len() {
            patches.push((*digest, patch));
        }
    }
    patches
}

fn check(file: &[u8]) -> Result<ImageSummary, BuildError> {
    let mut check = ImageCheck::new(LARGEST);
    check.feed(file).map_err(BuildError::Image)?;
    check.finish().map_err(BuildError::Image)
}

fn revoked(keys: &[KeyId]) -> Result<Vec<KeyId>, BuildError> {
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    keys.dedup();
    if keys.len() > MAX_REVOKED { Err(BuildError::TooManyRevoked) } else { Ok(keys) }
}

fn also<'o>(names: &'o [String], product: &str) -> Result<Vec<&'o str>, BuildError> {
    let mut names: Vec<&str> = names.iter().map(String::as_str).filter(|name| *name != product).collect();
    names.sort_unstable();
    names.dedup();
    if names.len() > MAX_ALSO { Err(BuildError::TooManyNames) } else { Ok(names) }
}

fn emit(fields: &ManifestFields<'_>) -> Result<Vec<u8>, ReleaseError> {
    fields.emit(&mut [0; MAX_ENVELOPE]).map(<[u8]>::to_vec)
}

/// One frame a block; a block that does not get smaller is its own frame.
fn compress(blocks: &[&[u8]], progress: &mut dyn FnMut(Progress)) -> Vec<Vec<u8>> {
    let mut state = Progress { stage: Stage::Blocks, done: 0, of: blocks.len(), taken: 0, given: 0 };
    progress(state);
    let mut frames = Vec::with_capacity(blocks.len());
    for block in blocks {
        let frame = otaru_lzma::encode(block);
        let frame = if frame.len() < block.len() { frame } else { block.to_vec() };
        state.done += 1;
        state.taken += block.len() as u64;
        state.given += frame.len() as u64;
        progress(state);
        frames.push(frame);
    }
    frames
}

fn assemble(
    fields: &ManifestFields<'_>,
    image: &[u8],
    patches: &[(Digest, Vec<u8>)],
    frames: &[Vec<u8>],
) -> Result<Unsigned, BuildError> {
    let mut payloads = Vec::new();
    let mut area = Vec::new();
    for (base, patch) in patches {
        payloads.push(PayloadFields {
            kind: PayloadKind::Delta { base: *base },
            len: patch.len() as u32,
            frames: &[],
        });
        area.extend_from_slice(patch);
    }
    let lengths: Vec<u32> = frames.iter().map(|frame| frame.len() as u32).collect();
    let compressed: u32 = lengths.iter().sum();
    // A compressed payload that is not smaller is of no use to anybody.
    if !frames.is_empty() && compressed < fields.size {
        payloads.push(PayloadFields { kind: PayloadKind::Lzma, len: compressed, frames: &lengths });
        frames.iter().for_each(|frame| area.extend_from_slice(frame));
    }
    payloads.push(PayloadFields { kind: PayloadKind::Raw, len: fields.size, frames: &[] });
    area.extend_from_slice(image);
    Ok(Unsigned { manifest: emit(&ManifestFields { payloads: &payloads, ..*fields })?, area })
}
