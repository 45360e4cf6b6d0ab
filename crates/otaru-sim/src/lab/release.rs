//! Release files for the lab's device, signed with keys that everybody knows.

use ed25519_dalek::{Signer as _, SigningKey};
use otaru_device::PublicKey;
use otaru_format::chip::Chip;
use otaru_format::digest::Digest;
use otaru_format::release::{
    KeyId, MAX_ENVELOPE, ManifestFields, PayloadFields, PayloadKind, ReleaseError, ToSign, block_size,
    emit_unsigned, header,
};

use super::PROJECT;

/// A signing key: the number is its seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(pub u8);

impl Key {
    /// The public half.
    pub fn public(self) -> PublicKey {
        PublicKey::from_bytes(self.signing().verifying_key().to_bytes())
    }

    /// The public half's name.
    pub fn id(self) -> KeyId {
        KeyId::of(self.public().as_bytes())
    }

    fn signing(self) -> SigningKey {
        SigningKey::from_bytes(&[self.0; 32])
    }

    /// An envelope around `payload`.
    ///
    /// # Errors
    /// Returns [`ReleaseError::Oversized`] if the envelope is longer than [`MAX_ENVELOPE`].
    pub fn seal(self, payload: &[u8]) -> Result<Vec<u8>, ReleaseError> {
        let sign = ToSign { key_id: self.id(), payload };
        let mut message = Vec::new();
        sign.signed_bytes(&mut |piece| message.extend_from_slice(piece));
        let signature = self.signing().sign(&message).to_bytes();
        Ok(sign.emit(&signature, &mut [0; MAX_ENVELOPE])?.to_vec())
    }
}

/// Recipe of a release; start from [`Recipe::new`] and change what differs.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The product.
    pub product: String,
    /// The chip.
    pub chip: Chip,
    /// The version.
    pub version: String,
    /// Counts up from release to release.
    pub sequence: u64,
    /// Key that signs it; none for an unsigned release.
    pub key: Option<Key>,
    /// Keys it revokes.
    pub revoked: Vec<KeyId>,
    /// The least version it may replace.
    pub min_base: Option<String>,
    /// The secure version.
    pub secure_version: u32,
    /// Whether there is a compressed payload in front of the raw one.
    pub compressed: bool,
    /// Patches in front of it: what each is for, and its bytes.
    pub patches: Vec<(Digest, Vec<u8>)>,
    /// Further products it is for, in order.
    pub also: Vec<String>,
}

impl Recipe {
    /// Signed with key 1, compressed, for the lab's device.
    pub fn new(version: &str, sequence: u64) -> Self {
        Self {
            product: PROJECT.into(),
            chip: Chip::Esp32C3,
            version: version.into(),
            sequence,
            key: Some(Key(1)),
            revoked: Vec::new(),
            min_base: None,
            secure_version: 0,
            compressed: true,
            patches: Vec::new(),
            also: Vec::new(),
        }
    }

    /// The release file of `image`.
    ///
    /// # Errors
    /// Returns an error if the recipe does not make a release that devices can read.
    pub fn make(&self, image: &[u8]) -> Result<Vec<u8>, ReleaseError> {
        self.make_of(image, Digest::of(image))
    }

    /// The release file of an image with this digest and of what is stored behind it.
    ///
    /// # Errors
    /// Returns an error if the recipe does not make a release that devices can read.
    pub fn make_of(&self, stored: &[u8], image: Digest) -> Result<Vec<u8>, ReleaseError> {
        let blocks = stored.chunks(block_size(stored.len() as u32) as usize);
        let frames: Vec<Vec<u8>> = blocks.map(frame).collect();
        self.put_together(stored, image, &frames)
    }

    /// The same with frames of one's own, one a block.
    ///
    /// # Errors
    /// Returns an error if the recipe does not make a release that devices can read.
    pub fn assemble(&self, image: &[u8], frames: &[Vec<u8>]) -> Result<Vec<u8>, ReleaseError> {
        self.put_together(image, Digest::of(image), frames)
    }

    fn put_together(
        &self,
        image: &[u8],
        digest: Digest,
        frames: &[Vec<u8>],
    ) -> Result<Vec<u8>, ReleaseError> {
        let blocks = image.chunks(block_size(image.len() as u32) as usize);
        let hashes: Vec<Digest> = blocks.map(Digest::of).collect();
        let lengths: Vec<u32> = frames.iter().map(|frame| frame.len() as u32).collect();
        let lzma = PayloadFields { kind: PayloadKind::Lzma, len: lengths.iter().sum(), frames: &lengths };
        let raw = PayloadFields { kind: PayloadKind::Raw, len: image.len() as u32, frames: &[] };
        let patch = |(base, patch): &(Digest, Vec<u8>)| PayloadFields {
            kind: PayloadKind::Delta { base: *base },
            len: patch.len() as u32,
            frames: &[],
        };
        let mut payloads: Vec<PayloadFields<'_>> = self.patches.iter().map(patch).collect();
        payloads.extend(self.compressed.then_some(lzma));
        payloads.push(raw);
        let also: Vec<&str> = self.also.iter().map(String::as_str).collect();
        let fields = ManifestFields {
            product: &self.product,
            chip_id: self.chip.id(),
            version: &self.version,
            sequence: self.sequence,
            image: digest,
            size: image.len() as u32,
            blocks: &hashes,
            payloads: &payloads,
            min_base: self.min_base.as_deref(),
            secure_version: self.secure_version,
            revoked: &self.revoked,
            also: &also,
        };
        let mut buf = [0; MAX_ENVELOPE];
        let manifest = fields.emit(&mut buf)?;
        let envelope = match self.key {
            Some(key) => key.seal(manifest)?,
            None => emit_unsigned(manifest, &mut [0; MAX_ENVELOPE])?.to_vec(),
        };
        let mut file = header(envelope.len())?.to_vec();
        file.extend_from_slice(&envelope);
        self.patches.iter().for_each(|(_, patch)| file.extend_from_slice(patch));
        if self.compressed {
            frames.iter().for_each(|frame| file.extend_from_slice(frame));
        }
        file.extend_from_slice(image);
        Ok(file)
    }
}

/// The frame of a block: compressed where that helps.
pub fn frame(block: &[u8]) -> Vec<u8> {
    let packed = otaru_lzma::encode(block);
    if packed.len() < block.len() { packed } else { block.to_vec() }
}
