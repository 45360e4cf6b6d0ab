//! Signing a release, and signing one anew with another key.

use otaru_format::release::{
    Envelope, MAX_ENVELOPE, Manifest, ReleaseError, ToSign, emit_unsigned, header, with_sequence,
};

use crate::build::Unsigned;
use crate::file;
use crate::keys::{PublicKey, SecretKey};

/// A release would revoke the key that signs it; after it no device could be updated any more.
const REVOKES_ITSELF: ReleaseError =
    ReleaseError::Malformed { what: "it revokes the very key that signs it; sign it with another one" };

/// Devices take a sequence for one signing of one image only.
const NOT_ABOVE: ReleaseError =
    ReleaseError::Malformed { what: "the new sequence is not above the one it has; take a higher one" };

impl Unsigned {
    /// The file, signed.
    ///
    /// # Errors
    /// Returns an error if the release revokes this key, or if the signed envelope is longer than [`MAX_ENVELOPE`].
    pub fn sign(&self, key: &SecretKey) -> Result<Vec<u8>, ReleaseError> {
        assemble(&signed_manifest(&self.manifest, key)?, &self.area)
    }

    /// The file without a signature, which a device takes only if it was built to.
    ///
    /// # Errors
    /// Returns an error if the envelope is longer than [`MAX_ENVELOPE`].
    pub fn without_signature(&self) -> Result<Vec<u8>, ReleaseError> {
        assemble(emit_unsigned(&self.manifest, &mut [0; MAX_ENVELOPE])?, &self.area)
    }

    /// Reads the manifest.
    ///
    /// # Errors
    /// None for what [`build`](crate::build::build) made.
    pub fn manifest(&self) -> Result<Manifest<'_>, ReleaseError> {
        Manifest::parse(&self.manifest)
    }
}

/// The same release, signed with this key instead of its old one. Manifest and payloads stay as they are, byte for
/// byte. Who signs vouches for them: [`verify`](crate::verify) first.
///
/// # Errors
/// Returns an error if the file is not a release, or if the release revokes this key.
pub fn resign(file: &[u8], key: &SecretKey) -> Result<Vec<u8>, ReleaseError> {
    let (envelope, area) = file::split(file)?;
    assemble(&signed_manifest(Envelope::parse(envelope)?.payload(), key)?, area)
}

/// The same release with another sequence, signed with this key: the way back to it for devices that have had newer
/// ones. Payloads and patches stay as they are, byte for byte. Who signs vouches for them, and opens the way to every
/// device of the product: [`verify`](crate::verify) first.
///
/// # Errors
/// Returns an error if the file is not a release, if `sequence` is not above its present one, or if the release revokes this
/// key.
pub fn resign_as(file: &[u8], sequence: u64, key: &SecretKey) -> Result<Vec<u8>, ReleaseError> {
    let mut buf = [0; MAX_ENVELOPE];
    let (manifest, area) = renumbered(file, sequence, &mut buf)?;
    assemble(&signed_manifest(manifest, key)?, area)
}

/// The same release with another sequence and without a signature: the way back to one that was never signed.
///
/// # Errors
/// Returns an error if the file is not a release, or if `sequence` is not above its present one.
pub fn renumber(file: &[u8], sequence: u64) -> Result<Vec<u8>, ReleaseError> {
    let mut buf = [0; MAX_ENVELOPE];
    let (manifest, area) = renumbered(file, sequence, &mut buf)?;
    assemble(emit_unsigned(manifest, &mut [0; MAX_ENVELOPE])?, area)
}

/// The manifest of a release file with another sequence, and the file's payloads.
fn renumbered<'f, 'b>(
    file: &'f [u8],
    sequence: u64,
    buf: &'b mut [u8],
) -> Result<(&'b [u8], &'f [u8]), ReleaseError> {
    let (envelope, area) = file::split(file)?;
    let envelope = Envelope::parse(envelope)?;
    if Manifest::parse(envelope.payload())?.sequence >= sequence {
        return Err(NOT_ABOVE);
    }
    Ok((with_sequence(envelope.payload(), sequence, buf)?, area))
}

fn signed_manifest(manifest: &[u8], key: &SecretKey) -> Result<Vec<u8>, ReleaseError> {
    if Manifest::parse(manifest)?.revoked().any(|id| id == key.public().id()) {
        return Err(REVOKES_ITSELF);
    }
    sign(manifest, key)
}

/// Signs a manifest.
fn sign(payload: &[u8], key: &SecretKey) -> Result<Vec<u8>, ReleaseError> {
    let to_sign = ToSign { key_id: key.public().id(), payload };
    let mut message = Vec::with_capacity(payload.len() + 64);
    to_sign.signed_bytes(&mut |piece| message.extend_from_slice(piece));
    to_sign.emit(&key.sign(&message), &mut [0; MAX_ENVELOPE]).map(<[u8]>::to_vec)
}

/// Whether one of these keys, the one the envelope names, signed it.
pub(crate) fn signer(envelope: &Envelope<'_>, keys: &[PublicKey]) -> Result<PublicKey, SignatureError> {
    let (Some(id), Some(signature)) = (envelope.key_id(), envelope.signature()) else {
        return Err(SignatureError::Unsigned);
    };
    let mut message = Vec::new();
    envelope.signed_bytes(&mut |piece| message.extend_from_slice(piece));
    // Ids are short, so two keys may share one.
    let mut named = keys.iter().filter(|key| key.id() == id).peekable();
    if named.peek().is_none() {
        return Err(SignatureError::UnknownKey(id));
    }
    named.find(|key| key.verifies(&message, signature)).copied().ok_or(SignatureError::Bad(id))
}

/// Why nobody vouches for an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureError {
    /// There is no signature.
    Unsigned,
    /// None of the keys has this id.
    UnknownKey(otaru_format::release::KeyId),
    /// The key with this id did not sign these bytes.
    Bad(otaru_format::release::KeyId),
}

impl std::fmt::Display for SignatureError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unsigned => f.write_str("it is not signed"),
            Self::UnknownKey(id) => {
                write!(f, "it is signed with key {id}, which is none of the keys given")
            }
            Self::Bad(id) => {
                write!(f, "the signature is wrong: these bytes are not what key {id} signed")
            }
        }
    }
}

impl std::error::Error for SignatureError {}

fn assemble(envelope: &[u8], area: &[u8]) -> Result<Vec<u8>, ReleaseError> {
    Ok([&header(envelope.len())?, envelope, area].concat())
}
