//! Whom a device trusts, for what and when.

use otaru_device::TlsError;
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, date_time_ymd};

use super::super::certificates::{Authority, key, self_signed, server_of, signing_key};
use super::super::row::{HOST, Library, Row};
use super::super::weak;

pub(super) fn a_server_of_a_trusted_authority() -> Row {
    let ours = Authority::new("ours");
    Row::trusting(&ours).chain(ours.chain(HOST, |_| {}))
}

pub(super) fn an_unknown_authority() -> Row {
    let theirs = Authority::new("theirs");
    Row::trusting(&Authority::new("ours")).chain(theirs.chain(HOST, |_| {})).fails(TlsError::UNKNOWN_CA)
}

pub(super) fn an_authority_with_the_name_of_a_trusted_one() -> Row {
    let impostor = Authority::new("ours");
    Row::trusting(&Authority::new("ours")).chain(impostor.chain(HOST, |_| {})).fails(TlsError::UNKNOWN_CA)
}

pub(super) fn a_self_signed_certificate_that_is_not_trusted() -> Row {
    Row::trusting(&Authority::new("ours")).chain(self_signed(HOST)).fails(TlsError::UNKNOWN_CA)
}

pub(super) fn a_self_signed_certificate_that_is_trusted() -> Row {
    let chain = self_signed(HOST);
    let ours = Authority::new("ours");
    let mut row = Row::trusting(&ours);
    row.trusted.push(chain.certificates[0].clone());
    row.chain(chain)
}

pub(super) fn an_expired_certificate() -> Row {
    let ours = Authority::new("ours");
    let chain = ours.chain(HOST, |params| params.not_after = date_time_ymd(2020, 1, 1));
    Row::trusting(&ours).chain(chain).fails(TlsError::EXPIRED)
}

pub(super) fn an_expired_authority_below_the_trusted_one() -> Row {
    let ours = Authority::new("ours");
    let below = ours.below_with("below", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    Row::trusting(&ours).chain(below.chain(HOST, |_| {})).fails(TlsError::EXPIRED)
}

pub(super) fn a_certificate_that_is_not_valid_yet() -> Row {
    let ours = Authority::new("ours");
    let chain = ours.chain(HOST, |params| params.not_before = date_time_ymd(2090, 1, 1));
    Row { needs_time: true, ..Row::trusting(&ours).chain(chain).fails(TlsError::NOT_YET_VALID) }
}

pub(super) fn a_certificate_for_clients() -> Row {
    let ours = Authority::new("ours");
    let chain = ours.chain(HOST, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    Row::trusting(&ours).chain(chain).fails(TlsError::BAD_CERTIFICATE)
}

/// Certificates are public: whoever shows one must prove that the key is theirs.
pub(super) fn a_certificate_that_somebody_else_has_the_key_of() -> Row {
    let ours = Authority::new("ours");
    let shown = ours.chain(HOST, |_| {}).certificates;
    Row::trusting(&ours)
        .servers(move |version| server_of(shown.clone(), signing_key(&key()), version))
        .fails(TlsError::BAD_CERTIFICATE)
}

fn trusting_the_weak() -> Row {
    let ours = Authority::new("ours");
    let mut row = Row::trusting(&ours);
    row.trusted.push(weak::authority());
    row
}

pub(super) fn a_signature_over_sha_1() -> Row {
    trusting_the_weak().chain(weak::sha_1()).fails(TlsError::BAD_CERTIFICATE)
}

pub(super) fn an_authority_with_1024_bits_of_rsa() -> Row {
    trusting_the_weak()
        .chain(weak::of_rsa_1024())
        .fails(TlsError::BAD_CERTIFICATE)
        // Signatures of such a key are wrong for it, and no other authority has made them.
        .but(&[Library::Rustls], Err(TlsError::UNKNOWN_CA))
        // There is no RSA at all.
        .but(&[Library::OwnServer], Err(TlsError::NOTHING_IN_COMMON))
}

pub(super) fn a_certificate_with_1024_bits_of_rsa() -> Row {
    let row = trusting_the_weak()
        .servers(|version| server_of(vec![weak::rsa_1024()], weak::rsa_1024_key(), version))
        .fails(TlsError::BAD_CERTIFICATE)
        // There is no RSA at all.
        .but(&[Library::OwnServer], Err(TlsError::NOTHING_IN_COMMON));
    Row { programs: &["openssl"], ..row }
}
