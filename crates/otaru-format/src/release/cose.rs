//! COSE_Sign1 (RFC 9052, section 4.2) with Ed25519, as releases use it.
//!
//! ```text
//! 18([ protected: bstr .cbor {1: -8, 4: key id}, unprotected: {}, payload: bstr, signature: bstr .size 64 ])
//! ```
//!
//! Without a signature, `protected` and `signature` are empty strings; such an envelope protects from accidents only.

use super::cbor::{Major, Reader, Writer, encode_head};
use super::error::{ReleaseError, malformed};
use super::header::MAX_ENVELOPE;
use super::key_id::KeyId;

/// Bytes of an Ed25519 signature (RFC 8032, section 5.1.6).
pub const SIGNATURE_LEN: usize = 64;

/// CBOR tag of a COSE_Sign1 (RFC 9052, section 2).
const TAG_SIGN1: u64 = 18;
/// Map of two, `alg` (1), EdDSA (-8; RFC 9053, section 2.2), `kid` (4), byte string of eight.
const PROTECTED: [u8; 5] = [0xA2, 0x01, 0x27, 0x04, 0x48];
const PROTECTED_LEN: usize = PROTECTED.len() + 8;
/// The start of a `Sig_structure` (RFC 9052, section 4.4): an array of four, its first the context.
const SIG_CONTEXT: &[u8] = b"\x84\x6aSignature1";
/// An empty byte string: no external data.
const NO_EXTERNAL_AAD: &[u8] = &[0x40];

/// A payload, with the signature over it. That the signature is good is not known yet.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    protected: &'a [u8],
    payload: &'a [u8],
    signature: Option<(KeyId, &'a [u8; SIGNATURE_LEN])>,
}

impl<'a> Envelope<'a> {
    /// Reads an envelope, which is all of `bytes`.
    ///
    /// # Errors
    /// Returns an error if `bytes` is not exactly one envelope in the form that [`ToSign::emit`] and [`emit_unsigned`] write.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ReleaseError> {
        if bytes.is_empty() {
            return Err(ReleaseError::Truncated);
        }
        check_size(bytes.len())?;
        let mut reader = Reader::new(bytes);
        let whole = malformed("the envelope is not a tagged COSE_Sign1 in deterministic CBOR");
        if reader.head(Major::Tag) != Some(TAG_SIGN1) || reader.head(Major::Array) != Some(4) {
            return Err(whole);
        }
        let protected = reader.bytes().ok_or(whole)?;
        if reader.head(Major::Map) != Some(0) {
            return Err(malformed("the envelope has unprotected headers"));
        }
        let payload = reader.bytes().ok_or(whole)?;
        let signature = reader.bytes().ok_or(whole)?;
        if !reader.is_empty() {
            return Err(malformed("something follows the envelope"));
        }
        let signature = match (key_id_in(protected)?, signature) {
            (Some(key_id), signature) => {
                let bytes = signature.try_into().map_err(|_| malformed("the signature is not 64 bytes"))?;
                Some((key_id, bytes))
            }
            (None, []) => None,
            (None, _) => return Err(malformed("there is a signature, but no key id")),
        };
        Ok(Self { protected, payload, signature })
    }

    /// The key that is said to have signed; `None` when nobody has.
    pub fn key_id(&self) -> Option<KeyId> {
        self.signature.map(|(key_id, _)| key_id)
    }

    /// The signature, if there is one.
    pub fn signature(&self) -> Option<&'a [u8; SIGNATURE_LEN]> {
        self.signature.map(|(_, signature)| signature)
    }

    /// Manifest that is signed for.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Gives the bytes the signature is over, in pieces and in order: the `Sig_structure` of RFC 9052, section 4.4.
    pub fn signed_bytes(&self, each: &mut dyn FnMut(&[u8])) {
        sig_structure(self.protected, self.payload, each);
    }
}

/// The key id in protected headers; `None` when these are empty.
fn key_id_in(protected: &[u8]) -> Result<Option<KeyId>, ReleaseError> {
    if protected.is_empty() {
        return Ok(None);
    }
    let id = protected.strip_prefix(&PROTECTED).and_then(|id| id.try_into().ok());
    match id {
        Some(id) => Ok(Some(KeyId(id))),
        None => Err(malformed("the protected headers are not EdDSA and a key id of 8 bytes")),
    }
}

fn protected(key_id: KeyId) -> [u8; PROTECTED_LEN] {
    let mut protected = [0; PROTECTED_LEN];
    let (fixed, id) = protected.split_at_mut(PROTECTED.len());
    fixed.copy_from_slice(&PROTECTED);
    id.copy_from_slice(&key_id.0);
    protected
}

fn sig_structure(protected: &[u8], payload: &[u8], each: &mut dyn FnMut(&[u8])) {
    each(SIG_CONTEXT);
    byte_string(protected, each);
    each(NO_EXTERNAL_AAD);
    byte_string(payload, each);
}

fn byte_string(bytes: &[u8], each: &mut dyn FnMut(&[u8])) {
    let (head, len) = encode_head(Major::Bytes, bytes.len() as u64);
    each(&head[..len]);
    each(bytes);
}

fn check_size(len: usize) -> Result<(), ReleaseError> {
    if len <= MAX_ENVELOPE {
        return Ok(());
    }
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    Err(ReleaseError::Oversized { len, limit: MAX_ENVELOPE as u32 })
}

/// A payload that is going to be signed with this key.
#[derive(Debug, Clone, Copy)]
pub struct ToSign<'a> {
    /// The key.
    pub key_id: KeyId,
    /// A manifest.
    pub payload: &'a [u8],
}

impl ToSign<'_> {
    /// Gives the bytes to sign, in pieces and in order.
    pub fn signed_bytes(&self, each: &mut dyn FnMut(&[u8])) {
        sig_structure(&protected(self.key_id), self.payload, each);
    }

    /// Writes the envelope.
    ///
    /// # Errors
    /// Returns [`ReleaseError::Oversized`] if the envelope is longer than `buf` or [`MAX_ENVELOPE`].
    pub fn emit<'b>(
        &self,
        signature: &[u8; SIGNATURE_LEN],
        buf: &'b mut [u8],
    ) -> Result<&'b [u8], ReleaseError> {
        emit(&protected(self.key_id), self.payload, signature, buf)
    }
}

/// Writes an envelope that nobody has signed.
///
/// # Errors
/// Returns [`ReleaseError::Oversized`] if the envelope is longer than `buf` or [`MAX_ENVELOPE`].
pub fn emit_unsigned<'b>(payload: &[u8], buf: &'b mut [u8]) -> Result<&'b [u8], ReleaseError> {
    emit(&[], payload, &[], buf)
}

fn emit<'b>(
    protected: &[u8],
    payload: &[u8],
    signature: &[u8],
    buf: &'b mut [u8],
) -> Result<&'b [u8], ReleaseError> {
    let room = buf.len();
    let mut writer = Writer::new(buf);
    writer.head(Major::Tag, TAG_SIGN1);
    writer.head(Major::Array, 4);
    writer.bytes(protected);
    writer.head(Major::Map, 0);
    writer.bytes(payload);
    writer.bytes(signature);
    let limit = room.min(MAX_ENVELOPE) as u32;
    let envelope = writer.finish().ok_or(ReleaseError::Oversized { len: limit.saturating_add(1), limit })?;
    check_size(envelope.len())?;
    Ok(envelope)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const ID: KeyId = KeyId([1, 2, 3, 4, 5, 6, 7, 8]);

    fn signed(payload: &[u8]) -> Vec<u8> {
        ToSign { key_id: ID, payload }.emit(&[9; 64], &mut [0; MAX_ENVELOPE]).unwrap().to_vec()
    }

    #[test]
    fn an_envelope_leads_back() {
        let bytes = signed(b"hello");
        let envelope = Envelope::parse(&bytes).unwrap();
        assert_eq!(envelope.key_id(), Some(ID));
        assert_eq!(envelope.payload(), b"hello");
        assert_eq!(envelope.signature(), Some(&[9; 64]));
        let (mut read, mut written) = (Vec::new(), Vec::new());
        envelope.signed_bytes(&mut |piece| read.extend_from_slice(piece));
        let to_sign = ToSign { key_id: ID, payload: b"hello" };
        to_sign.signed_bytes(&mut |piece| written.extend_from_slice(piece));
        assert_eq!(read, written);
        assert_eq!(
            read,
            b"\x84\x6aSignature1\x4d\xa2\x01\x27\x04\x48\x01\x02\x03\x04\x05\x06\x07\x08\x40\x45hello"
        );
    }

    #[test]
    fn an_unsigned_one_says_so() {
        let mut buf = [0; 32];
        let envelope = Envelope::parse(emit_unsigned(b"x", &mut buf).unwrap()).unwrap();
        assert_eq!((envelope.key_id(), envelope.signature()), (None, None));
        assert_eq!(envelope.payload(), b"x");
    }

    #[test]
    fn halves_of_a_signature_are_refused() {
        let mut buf = [0; 128];
        for (protected, signature) in [(&protected(ID)[..], &[0; 63][..]), (&[], &[0; 64]), (&[0xA0], &[])] {
            let bytes = emit(protected, b"x", signature, &mut buf).unwrap();
            assert!(Envelope::parse(bytes).is_err());
        }
    }

    #[test]
    fn what_follows_is_refused() {
        let mut bytes = signed(b"x");
        bytes.push(0);
        assert_eq!(Envelope::parse(&bytes).unwrap_err(), malformed("something follows the envelope"));
    }

    #[test]
    fn a_huge_one_is_refused_unread() {
        let bytes = std::vec![0; 1 << 20];
        let error = ReleaseError::Oversized { len: 1 << 20, limit: 4096 };
        assert_eq!(Envelope::parse(&bytes).unwrap_err(), error);
        assert!(emit_unsigned(&bytes, &mut [0; MAX_ENVELOPE]).is_err());
    }
}
