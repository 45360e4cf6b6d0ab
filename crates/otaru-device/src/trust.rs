//! Whose releases and offers are taken: Ed25519 signatures in COSE envelopes (RFC 9052, RFC 8032).

use core::fmt;

use ed25519_compact::{PublicKey as Key, Signature};
use otaru_format::release::{Envelope, KeyId};
use otaru_format::status::Code;

/// An Ed25519 public key (RFC 8032 section 5.1.5).
pub type PublicKey = [u8; 32];

/// Why a signature is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrustError {
    /// There is none.
    Unsigned,
    /// The key is none of the trusted ones.
    UnknownKey(KeyId),
    /// The key was revoked.
    Revoked(KeyId),
    /// The signature is not that key's over these bytes.
    BadSignature(KeyId),
}

impl TrustError {
    pub(crate) const fn code(self) -> Code {
        match self {
            Self::Unsigned => Code::Unsigned,
            Self::UnknownKey(_) => Code::UnknownKey,
            Self::Revoked(_) => Code::RevokedKey,
            Self::BadSignature(_) => Code::BadSignature,
        }
    }
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned => f.write_str("this device takes signed firmware only"),
            Self::UnknownKey(id) => write!(f, "signed with key {id}, which this device does not trust"),
            Self::Revoked(id) => write!(f, "signed with key {id}, which was revoked"),
            Self::BadSignature(id) => write!(f, "the signature is not that of key {id}"),
        }
    }
}

/// Checks an envelope's signature; says which key it is of.
pub(crate) fn verify(
    envelope: &Envelope<'_>,
    keys: &[PublicKey],
    revoked: &[KeyId],
) -> Result<KeyId, TrustError> {
    let (Some(id), Some(signature)) = (envelope.key_id(), envelope.signature()) else {
        return Err(TrustError::Unsigned);
    };
    if revoked.contains(&id) {
        return Err(TrustError::Revoked(id));
    }
    // The smallest kept implementation; `cargo xtask bench verification` compares.
    let key = keys.iter().find(|key| KeyId::of(key) == id).ok_or(TrustError::UnknownKey(id))?;
    let bad = |_| TrustError::BadSignature(id);
    // Refuses keys of small order, which would accept signatures that nobody made.
    let mut verifier = Key::new(*key).verify_incremental(&Signature::new(*signature)).map_err(bad)?;
    envelope.signed_bytes(&mut |piece| verifier.absorb(piece));
    verifier.verify().map_err(bad)?;
    Ok(id)
}
