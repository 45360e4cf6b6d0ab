//! Checks releases: Ed25519 signatures in COSE envelopes (RFC 9052, RFC 8032).

use core::fmt;

use ed25519_compact::{PublicKey as Key, Signature};
use otaru_format::release::{Envelope, KeyId};
use otaru_format::status::Code;

/// An Ed25519 public key (RFC 8032 section 5.1.5). Nothing says that it is a good one before [`PublicKey::check`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Takes its 32 bytes, as `otaru keygen` prints them.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Checks it as each verification does: a key that fails here would never accept a signature.
    ///
    /// # Errors
    /// Reason that no device may trust it.
    pub fn check(&self) -> Result<(), BadKey> {
        Key::new(self.0).validate().map_err(|error| match error {
            ed25519_compact::Error::WeakPublicKey => BadKey::Weak,
            _ => BadKey::NoPoint,
        })
    }

    /// Returns the identifier that signatures name it by.
    fn id(&self) -> KeyId {
        KeyId::of(&self.0)
    }
}

/// Writes it in hexadecimal.
impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Writes it in hexadecimal.
#[cfg(feature = "defmt")]
impl defmt::Format for PublicKey {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{=[u8]:02x}", self.0.as_slice());
    }
}

/// Why no device can trust a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum BadKey {
    /// No point of the curve, or not written in the one way that counts (RFC 8032 section 5.1.3).
    NoPoint,
    /// A point of small order, such as 32 zeros: signatures under it can be made by anybody.
    Weak,
}

impl BadKey {
    /// Ends a sentence that begins with "the key".
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoPoint => "is no Ed25519 public key",
            Self::Weak => "is one under which anybody can sign",
        }
    }
}

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for BadKey {}

/// Why a signature is not accepted. It names keys of the device's own, never what an unknown file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrustError {
    /// There is none.
    Unsigned,
    /// The key is none of the trusted ones.
    UnknownKey,
    /// The key was revoked.
    Revoked(KeyId),
    /// The signature is not that key's over these bytes.
    BadSignature(KeyId),
}

impl TrustError {
    pub(crate) const fn code(self) -> Code {
        match self {
            Self::Unsigned => Code::Unsigned,
            Self::UnknownKey => Code::UnknownKey,
            Self::Revoked(_) => Code::RevokedKey,
            Self::BadSignature(_) => Code::BadSignature,
        }
    }

    /// The sentence, on a device that trusts these keys.
    pub(crate) const fn on(self, keys: &[PublicKey]) -> Distrust<'_> {
        Distrust { error: self, keys }
    }
}

/// The sentence to a [`TrustError`].
pub(crate) struct Distrust<'k> {
    error: TrustError,
    keys: &'k [PublicKey],
}

impl fmt::Display for Distrust<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.error {
            TrustError::Unsigned => f.write_str("this device takes signed firmware only"),
            TrustError::UnknownKey if self.keys.is_empty() => {
                f.write_str("signed, but this device was given no key to hold signatures against")
            }
            TrustError::UnknownKey => {
                f.write_str("signed with another key than this device trusts:")?;
                self.keys.iter().try_for_each(|key| write!(f, " {}", key.id()))
            }
            TrustError::Revoked(id) => write!(f, "signed with key {id}, which was revoked"),
            TrustError::BadSignature(id) => write!(f, "the signature is not that of key {id}"),
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
    let key = keys.iter().find(|key| key.id() == id).ok_or(TrustError::UnknownKey)?;
    let bad = |_| TrustError::BadSignature(id);
    // Refuses keys of small order, which would accept signatures that nobody made.
    let mut verifier = Key::new(key.0).verify_incremental(&Signature::new(*signature)).map_err(bad)?;
    envelope.signed_bytes(&mut |piece| verifier.absorb(piece));
    verifier.verify().map_err(bad)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use otaru_format::release::{HEADER_LEN, Manifest, envelope_len};

    use super::*;

    /// Does what a device does with a release's first bytes, before it looks at what the manifest asks.
    fn admits(file: &[u8], keys: &[PublicKey]) -> Result<KeyId, &'static str> {
        let header = file.first_chunk().ok_or("header")?;
        let len = envelope_len(header).map_err(|_| "header")?;
        let envelope = file.get(HEADER_LEN..HEADER_LEN + len).ok_or("length")?;
        let envelope = Envelope::parse(envelope).map_err(|_| "envelope")?;
        let id = verify(&envelope, keys, &[]).map_err(|error| error.code().as_str())?;
        Manifest::parse(envelope.payload()).map_err(|_| "manifest")?;
        Ok(id)
    }

    /// The eight points of small order, and encodings of them that are not the one that counts, in hexadecimal.
    const SMALL: [&str; 8] = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    ];
    const NO_POINT: [&str; 5] = [
        "0200000000000000000000000000000000000000000000000000000000000000",
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0100000000000000000000000000000000000000000000000000000000000080",
    ];

    fn key(hex: &str) -> PublicKey {
        PublicKey(core::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()))
    }

    #[test]
    fn keys_that_prove_nothing_are_refused() {
        for hex in SMALL {
            assert_eq!(key(hex).check(), Err(BadKey::Weak), "{hex}");
        }
        for hex in NO_POINT {
            assert_eq!(key(hex).check(), Err(BadKey::NoPoint), "{hex}");
        }
    }

    #[test]
    fn every_bit_of_header_and_envelope_counts() {
        let file = include_bytes!("../../otaru-format/tests/vectors/signed.otaru");
        // As openssl shows the vectors' `key.pub.pem`.
        let key = PublicKey([
            0x03, 0xa1, 0x07, 0xbf, 0xf3, 0xce, 0x10, 0xbe, 0x1d, 0x70, 0xdd, 0x18, 0xe7, 0x4b, 0xc0, 0x99,
            0x67, 0xe4, 0xd6, 0x30, 0x9b, 0xa5, 0x0d, 0x5f, 0x1d, 0xdc, 0x86, 0x64, 0x12, 0x55, 0x31, 0xb8,
        ]);
        assert_eq!(admits(file, &[key]), Ok(key.id()));
        let end = HEADER_LEN + envelope_len(file.first_chunk().unwrap()).unwrap();
        for bit in 0..end * 8 {
            let mut bad = file.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(admits(&bad, &[key]).is_err(), "bit {} of byte {}", bit % 8, bit / 8);
        }
    }
}
