//! Ends of a handshake before its time.

use std::rc::Rc;

use otaru_device::TlsError;
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

use super::super::bytes::{alert, warning};
use super::super::certificates::Authority;
use super::super::peer::{Cut, Place, Script, Server, Then};
use super::super::row::{HOST, Row};

/// Places in either version at which a handshake may end.
const PLACES: [(&SupportedProtocolVersion, Place); 7] = [
    (&TLS12, Place::Start),
    (&TLS12, Place::FirstByte),
    (&TLS12, Place::Middle),
    (&TLS12, Place::SecondFlight),
    (&TLS13, Place::Start),
    (&TLS13, Place::FirstByte),
    (&TLS13, Place::Middle),
];

/// Good servers that say this last at each of these places, and do that.
fn cut(
    places: impl IntoIterator<Item = (&'static SupportedProtocolVersion, Place)>,
    last: &[u8],
    then: Then,
) -> Row {
    let ours = Authority::new("ours");
    let chain = Rc::new(ours.chain(HOST, |_| {}));
    places.into_iter().fold(Row::trusting(&ours), |row, (version, place)| {
        let (chain, last) = (Rc::clone(&chain), last.to_vec());
        row.peer(format!("{:?}, {place:?}", version.version), move |app| {
            let server = Box::new(Server::new(chain.server(&[version], None), app));
            Box::new(Cut::new(server, place, &last, then))
        })
    })
}

pub(super) fn a_stall_at_each_flight() -> Row {
    cut(PLACES, &[], Then::Listen).fails(TlsError::STALLED)
}

pub(super) fn a_close_at_each_flight() -> Row {
    cut(PLACES, &[], Then::Close).fails(TlsError::CLOSED)
}

const INTERNAL_ERROR: u8 = 80;
const UNRECOGNIZED_NAME: u8 = 112;
const CLOSE_NOTIFY: u8 = 0;

/// Between two records only; in 1.3 a server's second record is encrypted already.
pub(super) fn an_internal_error_at_each_flight() -> Row {
    let places = PLACES.into_iter().filter(|(_, place)| matches!(place, Place::Start | Place::SecondFlight));
    cut(places, &alert(INTERNAL_ERROR), Then::Close).fails(TlsError::CLOSED)
}

pub(super) fn a_refusal_of_the_host_name() -> Row {
    Row::trusting(&Authority::new("ours"))
        .peer("", |_| Box::new(Script::new(&alert(UNRECOGNIZED_NAME), Then::Close)))
        .fails(TlsError::WRONG_HOST)
}

pub(super) fn a_goodbye_instead_of_a_hello() -> Row {
    Row::trusting(&Authority::new("ours"))
        .peer("", |_| Box::new(Script::new(&warning(CLOSE_NOTIFY), Then::Close)))
        .fails(TlsError::CLOSED)
}
