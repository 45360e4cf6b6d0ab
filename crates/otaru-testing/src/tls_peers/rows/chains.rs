//! Ways from a server's certificate to an authority that is trusted.

use otaru_device::TlsError;
use rcgen::{BasicConstraints, CustomExtension, GeneralSubtree, IsCa, KeyUsagePurpose, NameConstraints};

use super::super::certificates::{Authority, Chain, key};
use super::super::row::{HOST, Library, Row};

const ANY_AUTHORITY: IsCa = IsCa::Ca(BasicConstraints::Unconstrained);

/// A certificate of the trusted authority that signs another one, for this host.
fn signed_by(ours: &Authority, is_ca: IsCa) -> Row {
    let chain = ours.below("customer.lan", is_ca).chain(HOST, |_| {});
    Row::trusting(ours)
        .chain(chain)
        .fails(TlsError::BAD_CERTIFICATE)
        // It does not take such a certificate for the signer at all, and finds no other.
        .but(&Library::MBED_TLS, Err(TlsError::UNKNOWN_CA))
}

pub(super) fn a_certificate_signed_by_one_that_is_no_authority() -> Row {
    signed_by(&Authority::new("ours"), IsCa::ExplicitNoCa)
}

pub(super) fn a_certificate_signed_by_one_without_basic_constraints() -> Row {
    signed_by(&Authority::new("ours"), IsCa::NoCa)
}

/// An authority that signs lists of revoked certificates, and nothing else: neither library takes it for the signer of another one.
pub(super) fn a_certificate_signed_by_one_that_may_not_sign() -> Row {
    let ours = Authority::new("ours");
    let below = ours.below_with("below", |params| {
        params.is_ca = ANY_AUTHORITY;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign];
    });
    Row::trusting(&ours).chain(below.chain(HOST, |_| {})).fails(TlsError::UNKNOWN_CA)
}

/// The same one, trusted itself.
pub(super) fn a_certificate_signed_by_a_trusted_one_that_may_not_sign() -> Row {
    let itself = Authority::with("itself", key(), |params| {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign];
    });
    let mut row = Row::trusting(&Authority::new("ours"));
    row.trusted.push(itself.der());
    row.chain(itself.chain(HOST, |_| {})).fails(TlsError::UNKNOWN_CA)
}

/// A server's own work is trusted as it is, and makes nobody else trusted.
pub(super) fn a_certificate_signed_by_a_self_signed_one() -> Row {
    let itself = Authority::with("itself", key(), |params| params.is_ca = IsCa::NoCa);
    let mut row = Row::trusting(&Authority::new("ours"));
    row.trusted.push(itself.der());
    row.chain(itself.chain(HOST, |_| {})).fails(TlsError::UNKNOWN_CA)
}

fn path_below(last: &Authority, ours: &Authority) -> Row {
    Row::trusting(ours).chain(last.chain(HOST, |_| {}))
}

pub(super) fn a_path_longer_than_its_authority_allows() -> Row {
    let ours = Authority::new("ours");
    let last = ours.below("last", IsCa::Ca(BasicConstraints::Constrained(0)));
    path_below(&last.below("beyond", ANY_AUTHORITY), &ours)
        .fails(TlsError::BAD_CERTIFICATE)
        // As above.
        .but(&Library::MBED_TLS, Err(TlsError::UNKNOWN_CA))
}

pub(super) fn a_path_as_long_as_its_authority_allows() -> Row {
    let ours = Authority::new("ours");
    let below = ours.below("below", IsCa::Ca(BasicConstraints::Constrained(1)));
    path_below(&below.below("last", IsCa::Ca(BasicConstraints::Constrained(0))), &ours)
}

fn constrained(permitted: &[&str], excluded: &[&str]) -> Row {
    let ours = Authority::new("ours");
    let subtrees =
        |names: &[&str]| names.iter().map(|name| GeneralSubtree::DnsName((*name).to_owned())).collect();
    let below = ours.below_with("constrained", |params| {
        params.is_ca = ANY_AUTHORITY;
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: subtrees(permitted),
            excluded_subtrees: subtrees(excluded),
        });
    });
    Row::trusting(&ours).chain(below.chain(HOST, |_| {}))
}

pub(super) fn a_constraint_that_excludes_the_host() -> Row {
    constrained(&[], &[HOST]).fails(TlsError::BAD_CERTIFICATE)
}

pub(super) fn a_constraint_that_permits_other_hosts_only() -> Row {
    constrained(&["other.lan"], &[]).fails(TlsError::BAD_CERTIFICATE)
}

pub(super) fn a_constraint_that_permits_the_host() -> Row {
    // Mbed TLS knows no such constraints, and refuses what it does not know where it is critical.
    constrained(&[HOST], &[]).but(&Library::MBED_TLS, Err(TlsError::BAD_CERTIFICATE))
}

/// A chain over two authorities below the trusted one, changed so.
fn two_below(change: impl FnOnce(&mut Chain, &Authority)) -> Row {
    let ours = Authority::new("ours");
    let last = ours.below("below", ANY_AUTHORITY).below("last", ANY_AUTHORITY);
    let mut chain = last.chain(HOST, |_| {});
    change(&mut chain, &ours);
    Row::trusting(&ours).chain(chain)
}

pub(super) fn intermediates_that_are_missing() -> Row {
    two_below(|chain, _| chain.certificates.truncate(2)).fails(TlsError::UNKNOWN_CA)
}

pub(super) fn intermediates_out_of_order() -> Row {
    two_below(|chain, _| chain.certificates.swap(1, 2))
        // It looks for a signer behind what was signed, as TLS 1.2 wants the order (RFC 5246, 7.4.2).
        .but(&Library::MBED_TLS, Err(TlsError::UNKNOWN_CA))
}

pub(super) fn intermediates_sent_twice() -> Row {
    two_below(|chain, _| {
        let again = chain.certificates[1..].to_vec();
        chain.certificates.extend(again);
    })
}

pub(super) fn a_root_sent_too() -> Row {
    two_below(|chain, ours| chain.certificates.push(ours.der()))
}

pub(super) fn a_stranger_among_the_intermediates() -> Row {
    two_below(|chain, _| chain.certificates.insert(1, Authority::new("stranger").der()))
}

pub(super) fn a_chain_of_8_kib() -> Row {
    let ours = Authority::new("ours");
    let chain = ours.chain(HOST, |params| {
        // A private number (RFC 5612), which nobody knows and which is not critical.
        let oid = [1, 3, 6, 1, 4, 1, 32_473, 1];
        params.custom_extensions = vec![CustomExtension::from_oid_content(&oid, vec![4; 8192])];
    });
    Row::trusting(&ours)
        .chain(chain)
        // A message of a handshake must fit into its buffer for a record.
        .but(&[Library::OwnServer], Err(TlsError::RECORD_TOO_LARGE))
}

pub(super) fn a_chain_of_nine_authorities() -> Row {
    let ours = Authority::new("ours");
    let last = (0..9).fold(None, |above: Option<Authority>, number| {
        Some(above.as_ref().unwrap_or(&ours).below(&format!("authority {number}"), ANY_AUTHORITY))
    });
    Row::trusting(&ours).chain(last.unwrap().chain(HOST, |_| {})).fails(TlsError::BAD_CERTIFICATE)
}
