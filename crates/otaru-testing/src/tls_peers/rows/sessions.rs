//! Peers that are verified, and what may come in a session with them.

use std::rc::Rc;

use otaru_device::TlsError;
use rustls::server::ServerSessionMemoryCache;
use rustls::version::{TLS12, TLS13};

use super::super::certificates::{Authority, SMALL_RECORDS};
use super::super::peer::Server;
use super::super::renegotiation::Renegotiating;
use super::super::row::{HOST, Library, Row};

const TICKETS: usize = 8;

pub(super) fn tickets_after_the_handshake() -> Row {
    let ours = Authority::new("ours");
    let chain = ours.chain(HOST, |_| {});
    Row::trusting(&ours).peer("", move |app| {
        let mut config = chain.server(&[&TLS13], None);
        config.session_storage = ServerSessionMemoryCache::new(TICKETS);
        config.send_tls13_tickets = TICKETS;
        Box::new(Server::new(config, app))
    })
}

/// Servers whose records are at most so long.
fn with_records(largest: Option<usize>) -> Row {
    let ours = Authority::new("ours");
    let chain = Rc::new(ours.chain(HOST, |_| {}));
    Row::trusting(&ours).servers(move |version| {
        let mut config = chain.server(&[version], None);
        config.max_fragment_size = largest;
        config
    })
}

pub(super) fn records_of_4_kib() -> Row {
    with_records(Some(SMALL_RECORDS))
}

pub(super) fn records_of_16_kib() -> Row {
    with_records(None).once_told().but(&[Library::OwnServer], Err(TlsError::RECORD_TOO_LARGE))
}

/// Nobody needs another handshake: the device says so, and goes on.
pub(super) fn a_new_handshake_in_a_session() -> Row {
    let ours = Authority::new("ours");
    let chain = ours.chain(HOST, |_| {});
    Row::trusting(&ours).peer("", move |app| Box::new(Renegotiating::new(&chain, app)))
}

/// A body that ends with its connection counts as whole only where TLS says that it does.
pub(super) fn a_body_that_breaks_off() -> Row {
    let ours = Authority::new("ours");
    let chain = Rc::new(ours.chain(HOST, |_| {}));
    let row = [&TLS12, &TLS13].into_iter().fold(Row::trusting(&ours), |row, version| {
        let chain = Rc::clone(&chain);
        row.peer(format!("{:?}", version.version), move |app| {
            Box::new(Server::new(chain.server(&[version], None), app).breaking_off())
        })
    });
    row.once_told().fails(TlsError::BROKEN)
}
