//! Terms that are agreed on in a handshake, and peers that break them.

use std::rc::Rc;

use otaru_device::TlsError;
use rustls::crypto::ring::kx_group::{SECP256R1, SECP384R1};
use rustls::crypto::{ActiveKeyExchange, CryptoProvider, SupportedKxGroup};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{Error, NamedGroup, ServerConfig, SupportedProtocolVersion};

use super::super::bytes::{alert, flip_last, hide_sentinel, hide_versions, server_hello};
use super::super::certificates::{Authority, Chain, provider};
use super::super::peer::{Middleman, Peer, Script, Server, Then};
use super::super::row::{HOST, Library, Row};

/// A good server with these curves only.
fn with_curves(
    chain: &Chain,
    versions: &[&'static SupportedProtocolVersion],
    curves: Vec<&'static dyn SupportedKxGroup>,
) -> ServerConfig {
    let provider = CryptoProvider { kx_groups: curves, ..provider() };
    chain.server_with(versions, WebPkiClientVerifier::no_client_auth(), provider)
}

/// A good server with this curve only.
fn with_curve(curve: &'static dyn SupportedKxGroup) -> Row {
    let ours = Authority::new("ours");
    let chain = Rc::new(ours.chain(HOST, |_| {}));
    Row::trusting(&ours).servers(move |version| with_curves(&chain, &[version], vec![curve]))
}

/// In 1.3 the server asks for another hello (RFC 8446, 4.1.4).
pub(super) fn a_curve_that_was_offered_no_share_for() -> Row {
    // There is one curve, P-256.
    with_curve(SECP384R1).but(&[Library::OwnServer], Err(TlsError::NOTHING_IN_COMMON))
}

/// So it does of virtual devices, which offer a share for X25519.
pub(super) fn p_256_only() -> Row {
    with_curve(SECP256R1)
}

/// A curve that no device has.
#[derive(Debug)]
struct Unheard;

impl SupportedKxGroup for Unheard {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        Err(Error::FailedToGetCurrentTime)
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::Unknown(0xFA57)
    }
}

pub(super) fn no_curve_in_common() -> Row {
    with_curve(&Unheard).fails(TlsError::NOTHING_IN_COMMON)
}

/// Peers that say these bytes to a hello, and do that.
fn say(then: Then, bytes: &[&[u8]]) -> Row {
    bytes.iter().fold(Row::trusting(&Authority::new("ours")), |row, bytes| {
        let owned = bytes.to_vec();
        let words = format!("{:?}", String::from_utf8_lossy(bytes));
        row.peer(words, move |_| Box::new(Script::new(&owned, then)))
    })
}

const RSA_AES_128_CBC: [u8; 2] = [0, 0x2F];
const ECDHE_ECDSA_AES_128_GCM: [u8; 2] = [0xC0, 0x2B];

pub(super) fn tls_1_0_only() -> Row {
    say(
        Then::Listen,
        &[&server_hello([3, 1], ECDHE_ECDSA_AES_128_GCM), &server_hello([3, 1], RSA_AES_128_CBC)],
    )
    .fails(TlsError::NOTHING_IN_COMMON)
}

pub(super) fn tls_1_1_only() -> Row {
    say(
        Then::Listen,
        &[&server_hello([3, 2], ECDHE_ECDSA_AES_128_GCM), &server_hello([3, 2], RSA_AES_128_CBC)],
    )
    .fails(TlsError::NOTHING_IN_COMMON)
}

const HANDSHAKE_FAILURE: u8 = 40;
const PROTOCOL_VERSION: u8 = 70;
const INSUFFICIENT_SECURITY: u8 = 71;

pub(super) fn no_version_in_common() -> Row {
    say(Then::Close, &[&alert(PROTOCOL_VERSION)]).fails(TlsError::NOTHING_IN_COMMON)
}

pub(super) fn no_cipher_in_common() -> Row {
    say(Then::Close, &[&alert(HANDSHAKE_FAILURE), &alert(INSUFFICIENT_SECURITY)])
        .fails(TlsError::NOTHING_IN_COMMON)
}

pub(super) fn a_cipher_that_was_not_offered() -> Row {
    say(Then::Listen, &[&server_hello([3, 3], RSA_AES_128_CBC)]).fails(TlsError::PROTOCOL)
}

const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];
const ONLY_12: &[&SupportedProtocolVersion] = &[&TLS12];
const ONLY_13: &[&SupportedProtocolVersion] = &[&TLS13];

/// A good server behind somebody who changes what is said.
fn between(
    versions: &'static [&'static SupportedProtocolVersion],
    to_server: fn(&mut [u8]),
    to_device: fn(usize, &mut [u8]),
) -> Row {
    let ours = Authority::new("ours");
    let chain = ours.chain(HOST, |_| {});
    Row::trusting(&ours).peer(format!("{versions:?}"), move |app| {
        let server: Box<dyn Peer> = Box::new(Server::new(chain.server(versions, None), app));
        Box::new(Middleman::new(server, to_server, to_device))
    })
}

/// A server that speaks 1.3 marks a hello of 1.2 (RFC 8446, 4.1.3), and the device sees it.
pub(super) fn a_downgrade_by_a_middleman() -> Row {
    between(BOTH, hide_versions, |_, _| {}).fails(TlsError::PROTOCOL)
}

/// The mark is signed.
pub(super) fn a_downgrade_without_its_sentinel() -> Row {
    between(BOTH, hide_versions, hide_sentinel).fails(TlsError::BAD_CERTIFICATE)
}

pub(super) fn a_finished_that_was_changed() -> Row {
    let flip_first: fn(usize, &mut [u8]) = |_, said| flip_last(said);
    let flip_second: fn(usize, &mut [u8]) = |flight, said| {
        if flight == 1 {
            flip_last(said)
        }
    };
    let mut row = between(ONLY_12, |_| {}, flip_second).fails(TlsError::PROTOCOL);
    let other = between(ONLY_13, |_| {}, flip_first);
    // Both peers are of one authority then.
    row.trusted.extend(other.trusted);
    row.peers.extend(other.peers);
    row
}

pub(super) fn a_record_longer_than_tls_allows() -> Row {
    say(Then::Listen, &[&[22, 3, 3, 0x48, 0x01, 2, 0, 0, 0]]).fails(TlsError::PROTOCOL)
}

pub(super) fn garbage_instead_of_a_hello() -> Row {
    say(
        Then::Listen,
        &[&[22, 3, 3, 0, 4, 2, 0, 0, 0], &[22, 3, 3, 0, 5, 99, 0, 0, 1, 7], &[20, 3, 3, 0, 1, 9]],
    )
    .fails(TlsError::PROTOCOL)
}

pub(super) fn http_in_clear() -> Row {
    say(
        Then::Close,
        &[b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", b"<html><h1>400</h1></html>"],
    )
    .fails(TlsError::NOT_TLS)
}

pub(super) fn another_protocol() -> Row {
    say(
        Then::Close,
        &[
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"220 mail.lan ESMTP\r\n",
            b"\x20\x03\x00\x87\x00",
            &[0; 64],
            &[0xFF; 64],
        ],
    )
    .fails(TlsError::NOT_TLS)
}

/// A device without a certificate shows none, and a server that can do without goes on.
pub(super) fn a_server_that_asks_for_a_certificate() -> Row {
    let ours = Rc::new(Authority::new("ours"));
    let chain = ours.chain(HOST, |_| {});
    let row = Row::trusting(&ours);
    row.servers({
        let chain = Rc::new(chain);
        move |version| chain.asking_server(version, &ours)
    })
}

/// A server that demands certificates of our authority, and a device that shows this.
fn demanding(ours: Authority, identity: Option<Chain>) -> Row {
    let chain = Rc::new(ours.chain(HOST, |_| {}));
    let row = Row::trusting(&ours);
    let ours = Rc::new(ours);
    Row { identity, ..row.servers(move |version| chain.server(&[version], Some(&ours))) }
}

pub(super) fn a_server_that_demands_a_certificate() -> Row {
    demanding(Authority::new("ours"), None).fails(TlsError::CLIENT_REFUSED)
}

pub(super) fn a_certificate_of_another_authority_for_the_server() -> Row {
    let theirs = Authority::new("theirs").chain("device-1", |_| {});
    demanding(Authority::new("ours"), Some(theirs)).fails(TlsError::CLIENT_REFUSED)
}

pub(super) fn a_certificate_as_the_server_demands_it() -> Row {
    let ours = Authority::new("ours");
    let identity = ours.chain("device-1", |_| {});
    demanding(ours, Some(identity))
}
