//! Checking all of a release file: what a device checks, and every payload a device might choose.

use std::fmt;

use otaru_delta::ApplyError;
use otaru_format::digest::Digest;
use otaru_format::image::file::{MERGED_REMEDY, is_merged, kept_len};
use otaru_format::image::{Head, ImageCheck, ImageError};
use otaru_format::release::{Block, Frame, Payload, PayloadKind, ReleaseError};
use otaru_lzma::{Decoder, LzmaError, Workspace};

use crate::file::ReleaseFile;
use crate::keys::PublicKey;
use crate::sign::{SignatureError, signer};

/// Facts known of a good release file.
#[derive(Debug, Clone, Copy)]
pub struct Verified<'a> {
    /// The file.
    pub file: ReleaseFile<'a>,
}

/// Why a release file is no good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerifyError {
    /// The structure is not as it must be.
    Release(ReleaseError),
    /// Nobody vouches for it.
    Signature(SignatureError),
    /// It revokes the key that signed it.
    RevokesItself,
    /// A block does not have its hash.
    Block {
        /// In which payload.
        payload: &'static str,
        /// Number of the block, from 0.
        index: usize,
    },
    /// A frame does not decompress.
    Frame {
        /// Number of the block, from 0.
        index: usize,
        /// Why.
        error: LzmaError,
    },
    /// A patch does not apply to the image it is for.
    Patch(ApplyError),
    /// The blocks are right one by one, but the whole is not the image the manifest names.
    Image,
    /// A bootloader would not start the image.
    NotBootable(ImageError),
    /// It brings a whole flash image.
    Merged,
    /// The image does not say what it is, so devices refuse it.
    Nameless,
    /// The manifest says of the image what the image does not say.
    Disagree {
        /// The fault.
        what: &'static str,
    },
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Release(error) => error.fmt(f),
            Self::Signature(error) => error.fmt(f),
            Self::RevokesItself => f.write_str(
                "it revokes the key that signed it, so no device will take it; sign it with another one",
            ),
            Self::Block { payload, index } => {
                write!(
                    f,
                    "block {index} of the {payload} payload does not have its hash; the file is damaged, copy it again"
                )
            }
            Self::Frame { index, error } => write!(f, "frame {index} of the lzma payload: {error}"),
            Self::Patch(error) => write!(f, "a delta payload: {error}"),
            Self::Image => f.write_str("the image's SHA-256 is not the one in the manifest"),
            Self::NotBootable(error) => write!(f, "a bootloader would not start the image: {error}"),
            Self::Merged => f.write_str(MERGED_REMEDY),
            Self::Nameless => f.write_str(
                "the image has no application descriptor, or its project name cannot be read, so devices refuse it",
            ),
            Self::Disagree { what } => write!(f, "manifest and image disagree about the {what}"),
        }
    }
}

impl std::error::Error for VerifyError {}

impl From<ReleaseError> for VerifyError {
    fn from(error: ReleaseError) -> Self {
        Self::Release(error)
    }
}

/// Checks structure, signature and contents, in this order, but for patches: see [`try_patches`].
///
/// # Errors
/// The first thing that is not as it must be.
pub fn verify<'a>(bytes: &'a [u8], keys: &[PublicKey]) -> Result<Verified<'a>, VerifyError> {
    let file = ReleaseFile::parse(bytes)?;
    check_signature(&file, keys)?;
    check_file(file)
}

/// Checks structure and contents, and nothing of who vouches for them.
///
/// # Errors
/// The first thing that is not as it must be.
pub fn verify_contents(bytes: &[u8]) -> Result<Verified<'_>, VerifyError> {
    check_file(ReleaseFile::parse(bytes)?)
}

/// Counts of a release's patches that were tried, and that were not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Patches {
    /// Patches that made the release's image.
    pub good: usize,
    /// Patches whose base was not among the images given.
    pub untried: usize,
}

/// Applies each patch to the one of `bases` that it is for, whole files.
///
/// # Errors
/// Returns an error if a patch cannot be applied, or does not give the release's image.
pub fn try_patches(file: &ReleaseFile<'_>, bases: &[Vec<u8>]) -> Result<Patches, VerifyError> {
    let mut patches = Patches::default();
    for payload in file.manifest.payloads() {
        let PayloadKind::Delta { base } = payload.kind else { continue };
        match bases.iter().find_map(|file| image_with(file, base)) {
            Some(old) => {
                check_image(file, &patched(file, &payload, old)?)?;
                patches.good += 1;
            }
            None => patches.untried += 1,
        }
    }
    Ok(patches)
}

/// Checks that one of these keys signed the file.
///
/// # Errors
/// Returns [`VerifyError::Signature`] if none of them did, and [`VerifyError::RevokesItself`] if the release revokes the key
/// that did.
pub fn check_signature(file: &ReleaseFile<'_>, keys: &[PublicKey]) -> Result<PublicKey, VerifyError> {
    let key = signer(&file.envelope, keys).map_err(VerifyError::Signature)?;
    if file.manifest.revoked().any(|id| id == key.id()) {
        return Err(VerifyError::RevokesItself);
    }
    Ok(key)
}

fn check_file(file: ReleaseFile<'_>) -> Result<Verified<'_>, VerifyError> {
    file.check_len()?;
    for payload in file.manifest.payloads() {
        match payload.kind {
            PayloadKind::Delta { .. } => {}
            PayloadKind::Raw | PayloadKind::Lzma => check_image(&file, &image_of(&file, &payload)?)?,
        }
    }
    Ok(Verified { file })
}

/// The image at the start of a file, if it is the one with this digest.
fn image_with(file: &[u8], digest: Digest) -> Option<&[u8]> {
    let mut check = ImageCheck::new(u32::MAX);
    check.feed(file).ok()?;
    let summary = check.finish().ok().filter(|summary| summary.digest == digest)?;
    file.get(..summary.len as usize)
}

/// The image as a patch makes it of an older one.
fn patched(file: &ReleaseFile<'_>, payload: &Payload<'_>, old: &[u8]) -> Result<Vec<u8>, VerifyError> {
    let patch = file.payload(payload).ok_or(ReleaseError::Truncated)?;
    otaru_delta::apply_to_slice(old, patch, file.manifest.size).map_err(VerifyError::Patch)
}

/// The image as a payload brings it, block by block, each against its hash.
fn image_of(file: &ReleaseFile<'_>, payload: &Payload<'_>) -> Result<Vec<u8>, VerifyError> {
    let name = kind_name(payload.kind);
    let mut image = Vec::with_capacity(file.manifest.size as usize);
    let mut workspace = Workspace::new();
    for (index, block) in file.manifest.blocks().enumerate() {
        let frame = payload.frame(&file.manifest, index).ok_or(ReleaseError::Truncated)?;
        let bytes = file.frame(frame).ok_or(ReleaseError::Truncated)?;
        let start = image.len();
        if frame.stored {
            image.extend_from_slice(bytes);
        } else {
            decode(bytes, &block, &mut workspace, &mut image)
                .map_err(|error| VerifyError::Frame { index, error })?;
        }
        if Digest::of(&image[start..]) != block.hash {
            return Err(VerifyError::Block { payload: name, index });
        }
    }
    Ok(image)
}

/// Names a payload, for messages.
pub fn kind_name(kind: PayloadKind) -> &'static str {
    match kind {
        PayloadKind::Raw => "raw",
        PayloadKind::Lzma => "lzma",
        PayloadKind::Delta { .. } => "delta",
    }
}

fn decode(
    mut frame: &[u8],
    block: &Block,
    workspace: &mut Workspace,
    image: &mut Vec<u8>,
) -> Result<(), LzmaError> {
    let mut decoder = Decoder::new(workspace, block.len);
    loop {
        let step = decoder.decode(frame)?;
        frame = &frame[step.consumed..];
        image.extend_from_slice(step.output);
        if frame.is_empty() && step.output.is_empty() {
            return decoder.finish();
        }
    }
}

/// Checks what a payload brings: the image, and behind it nothing but a signature block.
fn check_image(file: &ReleaseFile<'_>, stored: &[u8]) -> Result<(), VerifyError> {
    let manifest = &file.manifest;
    if is_merged(stored) {
        return Err(VerifyError::Merged);
    }
    let mut check = ImageCheck::new(manifest.size);
    let checked = check.feed(stored).and_then(|()| check.finish());
    let summary = match checked {
        Ok(summary) if summary.digest == manifest.image => summary,
        // Where these are not even the bytes that are named, that is what is wrong.
        Err(error) if Digest::of(stored) == manifest.image => return Err(VerifyError::NotBootable(error)),
        _ => return Err(VerifyError::Image),
    };
    let descriptor = Head::parse(stored).map_err(VerifyError::NotBootable)?.descriptor;
    let descriptor = descriptor.filter(|descriptor| descriptor.product().is_some());
    let descriptor = descriptor.ok_or(VerifyError::Nameless)?;
    let disagreement = if kept_len(stored, summary.len) != manifest.size {
        Some("size")
    } else if summary.header.chip_id != manifest.chip_id {
        Some("chip")
    } else if descriptor.secure_version() != manifest.secure_version {
        Some("secure version")
    } else {
        None
    };
    disagreement.map_or(Ok(()), |what| Err(VerifyError::Disagree { what }))
}

/// Frames of a payload that are stored as they are.
pub fn stored_frames(file: &ReleaseFile<'_>, payload: &Payload<'_>) -> usize {
    let frames = (0..file.manifest.block_count()).filter_map(|index| payload.frame(&file.manifest, index));
    frames.filter(|frame: &Frame| frame.stored).count()
}
