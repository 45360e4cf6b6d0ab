//! Signed offers: an envelope whose payload is an offer's JSON, for devices that take commands from a key only.
//!
//! A manifest begins with a CBOR map, an offer with `{`, so that neither can be taken for the other.

use std::fmt;

use otaru_format::command::{Command, CommandError, MAX_COMMAND, Offer, SCRATCH};
use otaru_format::release::{Envelope, ReleaseError};

use crate::keys::{PublicKey, SecretKey};
use crate::sign::{SignatureError, sign, signer};

/// Why an offer cannot be signed, or is no good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OfferError {
    /// The offer is not one that a device takes.
    Command(CommandError),
    /// The envelope is none.
    Envelope(ReleaseError),
    /// Nobody vouches for it.
    Signature(SignatureError),
    /// The offer has no serial number.
    NoSerial,
    /// The offer does not say which image it is of.
    NoImage,
}

impl fmt::Display for OfferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(error) => error.fmt(f),
            Self::Envelope(error) => error.fmt(f),
            Self::Signature(error) => error.fmt(f),
            Self::NoSerial => f.write_str("the offer has no serial number"),
            Self::NoImage => f.write_str("the offer does not name its image"),
        }
    }
}

impl std::error::Error for OfferError {}

/// Signs an offer, which must have an image and a serial number. The number rises from offer to offer: a device
/// takes none below the last it took.
///
/// # Errors
/// When no device would take it.
pub fn sign_offer(offer: &Offer<'_>, key: &SecretKey) -> Result<Vec<u8>, OfferError> {
    offer.serial.ok_or(OfferError::NoSerial)?;
    offer.image.ok_or(OfferError::NoImage)?;
    let mut buf = [0; MAX_COMMAND];
    let json = offer.emit_json(&mut buf).ok_or(OfferError::Command(CommandError::TooLong))?;
    check(json.as_bytes())?;
    let signed = sign(json.as_bytes(), key).map_err(OfferError::Envelope)?;
    if signed.len() > MAX_COMMAND {
        return Err(OfferError::Command(CommandError::TooLong));
    }
    Ok(signed)
}

fn check(json: &[u8]) -> Result<(), OfferError> {
    if json.len() > MAX_COMMAND {
        return Err(OfferError::Command(CommandError::TooLong));
    }
    Command::parse(json, &mut [0; SCRATCH]).map(|_| ()).map_err(OfferError::Command)
}

/// The JSON and the serial number of an offer that one of these keys signed.
///
/// # Errors
/// When none did, or it is no offer.
pub fn open_offer<'a>(bytes: &'a [u8], keys: &[PublicKey]) -> Result<(&'a [u8], u64), OfferError> {
    let envelope = Envelope::parse(bytes).map_err(OfferError::Envelope)?;
    signer(&envelope, keys).map_err(OfferError::Signature)?;
    let json = envelope.payload();
    check(json)?;
    let value: serde_json::Value =
        serde_json::from_slice(json).map_err(|_| OfferError::Command(CommandError::BadJson))?;
    let serial = value["serial"].as_u64().ok_or(OfferError::NoSerial)?;
    Ok((json, serial))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_offer_leads_back() {
        let key = SecretKey::from_seed(&[7; 32]);
        let image = Some(otaru_format::digest::Digest::of(b"x"));
        let offer = Offer { url: "http://h/x.otaru", image, deployment: None, force: true, serial: Some(42) };
        let signed = sign_offer(&offer, &key).unwrap();
        let (json, serial) = open_offer(&signed, &[key.public()]).unwrap();
        assert_eq!(serial, 42);
        let mut scratch = [0; SCRATCH];
        assert_eq!(Command::parse(json, &mut scratch), Ok(Command::Update(offer)));
        let other = SecretKey::from_seed(&[8; 32]);
        let unknown = SignatureError::UnknownKey(key.public().id());
        assert_eq!(open_offer(&signed, &[other.public()]), Err(OfferError::Signature(unknown)));
    }

    #[test]
    fn what_no_device_takes_is_not_signed() {
        let key = SecretKey::from_seed(&[7; 32]);
        let image = Some(otaru_format::digest::Digest::of(b"x"));
        let offer = Offer { url: "https://h/x", image, deployment: None, force: false, serial: Some(1) };
        let refused = OfferError::Command(CommandError::UnsupportedScheme);
        assert_eq!(sign_offer(&offer, &key), Err(refused));
    }

    #[test]
    fn an_offer_is_no_manifest() {
        assert!(otaru_format::release::Manifest::parse(b"{\"url\":\"http://h/x\"}").is_err());
    }
}
