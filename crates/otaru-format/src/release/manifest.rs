//! The manifest: what a release is, its blocks' hashes, and its payloads.

use super::blocks::{Block, Blocks};
use super::cbor::{Major, Reader};
use super::error::{ReleaseError, malformed};
use super::key_id::KeyId;
use super::limits::{MAX_ALSO, MAX_AREA, MAX_PAYLOADS, MAX_REVOKED, MAX_SEQUENCE, MAX_TEXT};
use super::payload::{Payload, PayloadKind};
use super::semver::SemVer;
use crate::digest::Digest;
use crate::name::has_control;

/// The manifest format this module knows: the value of key 1.
pub(super) const FORMAT: u64 = 1;

/// A manifest whose every part has been checked, read in place.
///
/// Whether its signature is good, and whether its payloads hold what it says, is not known yet.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Manifest<'a> {
    /// The product, which is the image's project name.
    pub product: &'a str,
    /// The chip, as image headers number them.
    pub chip_id: u16,
    /// The version.
    pub version: &'a str,
    /// The release's number, which rises with every release of a product: 1 to [`MAX_SEQUENCE`].
    pub sequence: u64,
    /// SHA-256 of the image, without a signature block behind it.
    pub image: Digest,
    /// Bytes of the image, a signature block behind it included.
    pub size: u32,
    /// Bytes of each block but the last.
    pub block_size: u32,
    /// The least version that may be running; a [`SemVer`].
    pub min_base: Option<&'a str>,
    /// The anti-rollback version; 0 when none is given.
    pub secure_version: u32,
    blocks: Blocks<'a>,
    payloads: Table<'a>,
    revoked: &'a [u8],
    also: &'a [u8],
}

/// The payload table, item by item.
#[derive(Debug, Clone, Copy)]
struct Table<'a> {
    reader: Reader<'a>,
    left: u64,
}

impl<'a> Iterator for Table<'a> {
    type Item = Payload<'a>;

    fn next(&mut self) -> Option<Payload<'a>> {
        self.left = self.left.checked_sub(1)?;
        Payload::read(&mut self.reader).ok()
    }
}

impl<'a> Manifest<'a> {
    /// Reads a manifest, which is all of `bytes`, and checks everything that can be checked without its payloads.
    ///
    /// # Errors
    /// Returns an error if a rule of `docs/release-file.md` is broken.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ReleaseError> {
        let mut fields = Fields::begin(bytes)?;
        let product = fields.text(2, malformed("the product is not 1 to 32 bytes of text"))?;
        let chip_id = fields.small(3, malformed("the chip is no chip id"))?;
        let version = fields.text(4, malformed("the version is not 1 to 32 bytes of text"))?;
        // Whoever numbers releases by hand or by milliseconds is far below the limit.
        let no_sequence = malformed(
            "the sequence is not 1 to 9007199254740991 (2^53 - 1): make the release again with a lower one",
        );
        let sequence = fields.required(5, Reader::unsigned, no_sequence)?;
        let image = fields.required(6, Reader::array_of, malformed("the image's digest is no SHA-256"))?;
        let size = fields.small(7, malformed("the image's size is no 32-bit number"))?;
        let block = fields.small(8, malformed("the block size is no 32-bit number"))?;
        let hashes = fields.required(9, Reader::bytes, malformed("there are no block hashes"))?;
        let payloads = fields.payloads()?;
        let min_base = fields.min_base()?;
        let secure_version = fields.secure_version()?;
        let revoked = fields.revoked()?;
        let also = fields.also(product)?;
        fields.end()?;
        if !(1..=MAX_SEQUENCE).contains(&sequence) {
            return Err(no_sequence);
        }
        let blocks = Blocks::new(size, block, hashes)?;
        let image = Digest(*image);
        check_payloads(payloads, &blocks, &image)?;
        Ok(Self {
            product,
            chip_id,
            version,
            sequence,
            image,
            size,
            block_size: block,
            min_base,
            secure_version,
            blocks,
            payloads,
            revoked,
            also,
        })
    }

    /// Number of the image's blocks: 1 to [`MAX_BLOCKS`](super::MAX_BLOCKS).
    pub fn block_count(&self) -> usize {
        self.blocks.count()
    }

    /// A block; `None` past the last.
    pub fn block(&self, index: usize) -> Option<Block> {
        self.blocks.get(index)
    }

    /// All blocks, in order.
    pub fn blocks(&self) -> impl Iterator<Item = Block> + use<'a> {
        let blocks = self.blocks;
        (0..blocks.count()).map_while(move |index| blocks.get(index))
    }

    /// All payloads, in the file's order: deltas, LZMA, raw. At least one needs no base.
    pub fn payloads(&self) -> impl Iterator<Item = Payload<'a>> + use<'a> {
        self.payloads
    }

    /// The keys that this release revokes.
    pub fn revoked(&self) -> impl Iterator<Item = KeyId> + use<'a> {
        let mut reader = Reader::new(self.revoked);
        core::iter::from_fn(move || reader.array_of().map(|id| KeyId(*id)))
    }

    /// Further products that the release is for.
    pub fn also(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut reader = Reader::new(self.also);
        core::iter::from_fn(move || reader.text())
    }

    /// Whether the release is for this product.
    pub fn is_for(&self, product: &str) -> bool {
        self.product == product || self.also().any(|also| also == product)
    }

    /// Bytes of the payload area: the payloads fill it without gaps.
    pub fn area_len(&self) -> u32 {
        self.payloads().fold(0, |end, payload| payload.offset.saturating_add(payload.len).max(end))
    }
}

/// The manifest's map, field by field in rising order of keys.
struct Fields<'a> {
    reader: Reader<'a>,
    left: u64,
    /// The next field's key, if it has been read already.
    key: Option<u64>,
}

impl<'a> Fields<'a> {
    fn begin(bytes: &'a [u8]) -> Result<Self, ReleaseError> {
        const MAP: ReleaseError = malformed("the manifest is no map in deterministic CBOR");
        let mut reader = Reader::new(bytes);
        let left = reader.head(Major::Map).ok_or(MAP)?;
        let mut fields = Self { reader, left, key: None };
        match fields.required(1, Reader::unsigned, malformed("the manifest does not tell its format"))? {
            FORMAT => Ok(fields),
            version => Err(ReleaseError::NewerLayout { version }),
        }
    }

    /// Whether the next field has this key; if so, its value is next.
    fn has(&mut self, key: u64) -> Result<bool, ReleaseError> {
        if self.key.is_none() && self.left > 0 {
            self.left -= 1;
            self.key = Some(self.reader.unsigned().ok_or(malformed("a field's key is no number"))?);
        }
        let found = self.key == Some(key);
        if found {
            self.key = None;
        }
        Ok(found)
    }

    fn required<T>(
        &mut self,
        key: u64,
        read: impl FnOnce(&mut Reader<'a>) -> Option<T>,
        otherwise: ReleaseError,
    ) -> Result<T, ReleaseError> {
        if self.has(key)? { read(&mut self.reader).ok_or(otherwise) } else { Err(otherwise) }
    }

    fn small<T: TryFrom<u64>>(&mut self, key: u64, otherwise: ReleaseError) -> Result<T, ReleaseError> {
        self.required(key, |reader| reader.unsigned()?.try_into().ok(), otherwise)
    }

    fn text(&mut self, key: u64, otherwise: ReleaseError) -> Result<&'a str, ReleaseError> {
        self.required(key, |reader| reader.text().filter(|text| is_good_text(text)), otherwise)
    }

    fn payloads(&mut self) -> Result<Table<'a>, ReleaseError> {
        const COUNT: ReleaseError = malformed("there are not 1 to 16 payloads");
        let left = self.required(10, |reader| reader.head(Major::Array), COUNT)?;
        if left == 0 || left > MAX_PAYLOADS as u64 {
            return Err(COUNT);
        }
        let table = Table { reader: self.reader, left };
        for _ in 0..left {
            Payload::read(&mut self.reader)?;
        }
        Ok(table)
    }

    fn min_base(&mut self) -> Result<Option<&'a str>, ReleaseError> {
        const MIN_BASE: ReleaseError = malformed("the least base version is no semantic version");
        if !self.has(11)? {
            return Ok(None);
        }
        let text = self.reader.text().filter(|text| is_good_text(text)).ok_or(MIN_BASE)?;
        SemVer::parse(text).map_err(|_| MIN_BASE)?;
        Ok(Some(text))
    }

    fn secure_version(&mut self) -> Result<u32, ReleaseError> {
        if !self.has(12)? {
            return Ok(0);
        }
        // A zero means that there is none, and then the field is left out.
        let version = self.reader.unsigned32().filter(|version| *version > 0);
        version.ok_or(malformed("the secure version is not a 32-bit number above 0"))
    }

    fn revoked(&mut self) -> Result<&'a [u8], ReleaseError> {
        const REVOKED: ReleaseError = malformed("the revoked keys are not 1 to 4 different key ids");
        if !self.has(13)? {
            return Ok(&[]);
        }
        let count = self.reader.head(Major::Array);
        let count = count.filter(|count| (1..=MAX_REVOKED as u64).contains(count)).ok_or(REVOKED)?;
        let mut last: Option<&[u8; 8]> = None;
        let ids = self.reader.span(|reader| {
            (0..count).try_for_each(|_| {
                let id = reader.array_of()?;
                // In rising order, so that none is there twice.
                last.is_none_or(|last| last < id).then(|| last = Some(id))
            })
        });
        ids.ok_or(REVOKED)
    }

    fn also(&mut self, product: &str) -> Result<&'a [u8], ReleaseError> {
        const ALSO: ReleaseError = malformed("the further products are not 1 to 4 other names");
        if !self.has(14)? {
            return Ok(&[]);
        }
        let count = self.reader.head(Major::Array);
        let count = count.filter(|count| (1..=MAX_ALSO as u64).contains(count)).ok_or(ALSO)?;
        let mut last: Option<&str> = None;
        let names = self.reader.span(|reader| {
            (0..count).try_for_each(|_| {
                let name = reader.text().filter(|name| is_good_text(name) && *name != product)?;
                // In rising order, so that none is there twice.
                last.is_none_or(|last| last < name).then(|| last = Some(name))
            })
        });
        names.ok_or(ALSO)
    }

    fn end(mut self) -> Result<(), ReleaseError> {
        // Asking for a key that no field has reads the next one's, if there is one.
        self.has(u64::MAX)?;
        match (self.key, self.left, self.reader.is_empty()) {
            (None, 0, true) => Ok(()),
            (None, 0, false) => Err(malformed("something follows the manifest")),
            _ => Err(malformed("the manifest has unknown fields, or fields out of order")),
        }
    }
}

/// Whether a product or a version can be this: 1 to [`MAX_TEXT`] bytes, and, as they are shown to people, no control characters.
pub fn is_good_text(text: &str) -> bool {
    (1..=MAX_TEXT).contains(&text.len()) && !has_control(text)
}

fn check_payloads(table: Table<'_>, blocks: &Blocks<'_>, image: &Digest) -> Result<(), ReleaseError> {
    let mut end: u32 = 0;
    let mut before: Option<PayloadKind> = None;
    for payload in table {
        payload.check(blocks, image)?;
        if payload.offset != end {
            return Err(malformed("the payloads do not follow each other without gaps"));
        }
        end = end
            .checked_add(payload.len)
            .filter(|end| *end <= MAX_AREA)
            .ok_or(malformed("the payloads have more bytes than a file can have"))?;
        if !before.is_none_or(|before| may_follow(before, payload.kind)) {
            return Err(malformed("the payloads are not in the order delta, LZMA, raw"));
        }
        if same_base_before(table, &payload) {
            return Err(malformed("two deltas have the same base"));
        }
        before = Some(payload.kind);
    }
    match before {
        Some(last) if !last.needs_base() => Ok(()),
        _ => Err(malformed("every payload needs a base")),
    }
}

/// Deltas may be several, the others are there once.
fn may_follow(before: PayloadKind, kind: PayloadKind) -> bool {
    before.needs_base() || kind.number() < before.number()
}

fn same_base_before(mut table: Table<'_>, payload: &Payload<'_>) -> bool {
    payload.kind.needs_base()
        && table.any(|other| other.offset < payload.offset && other.kind == payload.kind)
}
