//! Writing manifests.

use super::blocks::block_size;
use super::cbor::{Major, Writer};
use super::error::{ReleaseError, malformed};
use super::header::MAX_ENVELOPE;
use super::key_id::KeyId;
use super::manifest::{FORMAT, Manifest};
use super::payload::PayloadKind;
use crate::digest::Digest;

/// A manifest to be written. The block size follows from the image's size.
#[derive(Debug, Clone, Copy)]
pub struct ManifestFields<'a> {
    /// 1 to 32 bytes.
    pub product: &'a str,
    /// The chip, as image headers number them.
    pub chip_id: u16,
    /// 1 to 32 bytes.
    pub version: &'a str,
    /// 1 to [`MAX_SEQUENCE`](super::MAX_SEQUENCE).
    pub sequence: u64,
    /// SHA-256 of the image, without a signature block behind it.
    pub image: Digest,
    /// Bytes of the image, a signature block behind it included.
    pub size: u32,
    /// SHA-256 of each block.
    pub blocks: &'a [Digest],
    /// In the file's order: deltas, LZMA, raw.
    pub payloads: &'a [PayloadFields<'a>],
    /// A semantic version.
    pub min_base: Option<&'a str>,
    /// 0 for none.
    pub secure_version: u32,
    /// In rising order, none twice.
    pub revoked: &'a [KeyId],
    /// Further products, 1 to 32 bytes each, in rising order of their bytes, none twice.
    pub also: &'a [&'a str],
}

/// A payload to be written. Where it begins follows from the ones before it.
#[derive(Debug, Clone, Copy)]
pub struct PayloadFields<'a> {
    /// Form.
    pub kind: PayloadKind,
    /// Length in bytes.
    pub len: u32,
    /// For LZMA the bytes of each frame, else nothing.
    pub frames: &'a [u32],
}

impl ManifestFields<'_> {
    /// Writes the manifest.
    ///
    /// # Errors
    /// Returns an error if [`Manifest::parse`] would refuse the manifest because of a field, or if `buf` is too short;
    /// [`MAX_ENVELOPE`] bytes are always enough.
    pub fn emit<'b>(&self, buf: &'b mut [u8]) -> Result<&'b [u8], ReleaseError> {
        let limit = buf.len().min(MAX_ENVELOPE) as u32;
        let mut writer = Writer::new(buf);
        let optional = [
            self.min_base.is_some(),
            self.secure_version != 0,
            !self.revoked.is_empty(),
            !self.also.is_empty(),
        ];
        writer.head(Major::Map, 10 + optional.into_iter().filter(|there| *there).count() as u64);
        self.write_identity(&mut writer);
        self.write_image(&mut writer);
        self.write_payloads(&mut writer)?;
        self.write_conditions(&mut writer);
        let bytes = writer.finish().ok_or(ReleaseError::Oversized { len: limit.saturating_add(1), limit })?;
        Manifest::parse(bytes)?;
        Ok(bytes)
    }

    fn write_identity(&self, writer: &mut Writer<'_>) {
        write_identity(writer, self.product, self.chip_id, self.version, self.sequence);
    }

    fn write_image(&self, writer: &mut Writer<'_>) {
        writer.unsigned(6);
        writer.bytes(&self.image.0);
        writer.unsigned(7);
        writer.unsigned(self.size.into());
        writer.unsigned(8);
        writer.unsigned(block_size(self.size).into());
        writer.unsigned(9);
        writer.head(Major::Bytes, self.blocks.len() as u64 * 32);
        self.blocks.iter().for_each(|hash| writer.raw(&hash.0));
    }

    fn write_payloads(&self, writer: &mut Writer<'_>) -> Result<(), ReleaseError> {
        writer.unsigned(10);
        writer.head(Major::Array, self.payloads.len() as u64);
        let mut offset: u32 = 0;
        for payload in self.payloads {
            payload.write(offset, writer);
            let end = offset.checked_add(payload.len);
            offset = end.ok_or(malformed("the payloads have more bytes than a file can have"))?;
        }
        Ok(())
    }

    fn write_conditions(&self, writer: &mut Writer<'_>) {
        if let Some(version) = self.min_base {
            writer.unsigned(11);
            writer.text(version);
        }
        if self.secure_version != 0 {
            writer.unsigned(12);
            writer.unsigned(self.secure_version.into());
        }
        if !self.revoked.is_empty() {
            writer.unsigned(13);
            writer.head(Major::Array, self.revoked.len() as u64);
            self.revoked.iter().for_each(|id| writer.bytes(&id.0));
        }
        if !self.also.is_empty() {
            writer.unsigned(14);
            writer.head(Major::Array, self.also.len() as u64);
            self.also.iter().for_each(|name| writer.text(name));
        }
    }
}

/// Writes the manifest of the same release with another sequence; every other field stays, byte for byte.
///
/// # Errors
/// Returns an error if `manifest` is not a manifest, the sequence is 0 or above [`MAX_SEQUENCE`](super::MAX_SEQUENCE), or `buf`
/// is too short; [`MAX_ENVELOPE`] bytes are always enough.
pub fn with_sequence<'b>(
    manifest: &[u8],
    sequence: u64,
    buf: &'b mut [u8],
) -> Result<&'b [u8], ReleaseError> {
    let old = Manifest::parse(manifest)?;
    let (Some((map, _)), limit) = (manifest.split_first(), buf.len().min(MAX_ENVELOPE) as u32) else {
        return Err(malformed("the manifest is empty"));
    };
    let mut before = [0; MAX_ENVELOPE];
    let mut writer = Writer::new(&mut before);
    write_identity(&mut writer, old.product, old.chip_id, old.version, old.sequence);
    let identity = writer.finish().ok_or(malformed("the manifest is too long"))?.len();
    let rest = manifest.get(1 + identity..).ok_or(malformed("the manifest ends early"))?;
    let mut writer = Writer::new(buf);
    writer.raw(&[*map]);
    write_identity(&mut writer, old.product, old.chip_id, old.version, sequence);
    writer.raw(rest);
    let bytes = writer.finish().ok_or(ReleaseError::Oversized { len: limit.saturating_add(1), limit })?;
    Manifest::parse(bytes)?;
    Ok(bytes)
}

fn write_identity(writer: &mut Writer<'_>, product: &str, chip_id: u16, version: &str, sequence: u64) {
    writer.unsigned(1);
    writer.unsigned(FORMAT);
    writer.unsigned(2);
    writer.text(product);
    writer.unsigned(3);
    writer.unsigned(chip_id.into());
    writer.unsigned(4);
    writer.text(version);
    writer.unsigned(5);
    writer.unsigned(sequence);
}

impl PayloadFields<'_> {
    fn write(&self, offset: u32, writer: &mut Writer<'_>) {
        writer.head(Major::Map, if self.kind == PayloadKind::Raw { 3 } else { 4 });
        for (key, value) in [(1, self.kind.number()), (2, offset.into()), (3, self.len.into())] {
            writer.unsigned(key);
            writer.unsigned(value);
        }
        match self.kind {
            PayloadKind::Raw => {}
            PayloadKind::Lzma => {
                writer.unsigned(4);
                writer.head(Major::Array, self.frames.len() as u64);
                self.frames.iter().for_each(|len| writer.unsigned((*len).into()));
            }
            PayloadKind::Delta { base } => {
                writer.unsigned(5);
                writer.bytes(&base.0);
            }
        }
    }
}
