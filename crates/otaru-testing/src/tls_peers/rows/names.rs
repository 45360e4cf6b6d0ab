//! Names in certificates, and the host that is asked.

use otaru_device::TlsError;
use rcgen::{CertificateParams, DnType, SanType};

use super::super::certificates::{Authority, Chain};
use super::super::row::{HOST, Library, Row};

/// A certificate that was changed so, of which a host is asked.
fn asked(host: &'static str, change: impl FnOnce(&mut CertificateParams)) -> Row {
    let ours = Authority::new("ours");
    let chain = ours.chain(host, change);
    Row::at(host, &ours).chain(chain)
}

/// A certificate for this name, of which a host is asked.
fn named(name: &str, host: &'static str) -> Row {
    let ours = Authority::new("ours");
    Row::at(host, &ours).chain(ours.chain(name, |_| {}))
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.to_owned().try_into().unwrap())
}

pub(super) fn another_host() -> Row {
    let ours = Authority::new("ours");
    let chains = ["other.lan", "files.lan.example", "lan", "my.files.lan", "xfiles.lan"];
    let row = chains.into_iter().fold(Row::trusting(&ours), |row, name| row.chain(ours.chain(name, |_| {})));
    row.fails(TlsError::WRONG_HOST)
}

pub(super) fn a_host_in_capitals() -> Row {
    named("Files.LAN", HOST)
}

pub(super) fn an_address() -> Row {
    named("10.0.0.1", "10.0.0.1")
}

pub(super) fn another_address() -> Row {
    named("10.0.0.2", "10.0.0.1").fails(TlsError::WRONG_HOST)
}

pub(super) fn an_address_of_ipv6() -> Row {
    named("2001:db8::1", "2001:db8::1")
}

/// An address is one only where it stands as one (RFC 9525, 6.4).
pub(super) fn an_address_as_a_host_name() -> Row {
    asked("10.0.0.1", |params| params.subject_alt_names = vec![dns("10.0.0.1")])
        .fails(TlsError::WRONG_HOST)
        // It takes a name that is spelt like the address.
        .but(&Library::MBED_TLS, Ok(()))
}

pub(super) fn a_wildcard() -> Row {
    named("*.files.lan", "a.files.lan")
}

pub(super) fn a_wildcard_right_below_the_top() -> Row {
    // WebPKI wants two labels behind the star at the least.
    named("*.lan", HOST).but(&[Library::Rustls], Err(TlsError::WRONG_HOST))
}

pub(super) fn a_wildcard_one_level_too_high() -> Row {
    named("*.lan", "a.files.lan").fails(TlsError::WRONG_HOST)
}

pub(super) fn a_wildcard_for_its_own_domain() -> Row {
    named("*.files.lan", HOST).fails(TlsError::WRONG_HOST)
}

pub(super) fn a_wildcard_alone() -> Row {
    named("*", "files").fails(TlsError::WRONG_HOST)
}

pub(super) fn a_wildcard_in_the_middle_of_a_label() -> Row {
    named("f*s.lan", HOST).fails(TlsError::WRONG_HOST)
}

/// A certificate whose subject has this common name.
fn common(params: &mut CertificateParams, name: &str) {
    params.distinguished_name.push(DnType::CommonName, name);
}

pub(super) fn a_common_name_only() -> Row {
    asked(HOST, |params| {
        params.subject_alt_names.clear();
        common(params, HOST);
    })
    .fails(TlsError::WRONG_HOST)
    // It takes the common name where there is no other at all, as RFC 6125 allowed.
    .but(&Library::MBED_TLS, Ok(()))
}

pub(super) fn a_common_name_beside_other_names() -> Row {
    asked(HOST, |params| {
        params.subject_alt_names = vec![dns("other.lan")];
        common(params, HOST);
    })
    .fails(TlsError::WRONG_HOST)
}

/// C would read the name up to the zero only.
pub(super) fn a_name_with_a_zero_in_it() -> Row {
    asked(HOST, |params| params.subject_alt_names = vec![dns("files.lan\0.other.lan")])
        .fails(TlsError::WRONG_HOST)
}

pub(super) fn a_hundred_other_names() -> Row {
    let ours = Authority::new("ours");
    let Chain { certificates, key } = ours.chain(HOST, |params| {
        params.subject_alt_names = (0..100).map(|number| dns(&format!("host-{number}.lan"))).collect();
    });
    Row::trusting(&ours).chain(Chain { certificates, key }).fails(TlsError::WRONG_HOST)
}
