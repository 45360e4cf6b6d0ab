//! Each row of the table of TLS peers, which virtual devices are held against, too.

use std::rc::Rc;
use std::time::Duration;

use embedded_io_adapters::tokio_1::FromTokio;
use otaru_device::TlsError;
use otaru_testing::tls_peers::{App, Library, Maker, NOW, Row, converse};
use tokio::io::duplex;

use crate::device::{Device, Time};
use crate::memory;
use crate::server::{LOGIN, PIPE, log_in_for};

const LIBRARY: Library = match cfg!(feature = "any-server") {
    true => Library::AnyServer,
    false => Library::OwnServer,
};

/// Limit that the agent has for a handshake.
const LIMIT: Duration = Duration::from_secs(20);
/// Bytes of an answer: two large records, and a bit.
const ANSWER: usize = 40_000;

otaru_testing::tls_rows!(hold);

/// Holds Mbed TLS against a row: with the time, and without.
fn hold(row: Row) {
    if !otaru_testing::have(row.programs) {
        return;
    }
    assert!(!row.peers.is_empty(), "a row without a peer says nothing");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.unwrap();
    for time in [Time::Known(NOW), Time::Past(NOW)] {
        let takes_all = row.needs_time && matches!(time, Time::Past(_));
        let end = if takes_all { Ok(()) } else { row.end(LIBRARY) };
        let ders: Vec<&[u8]> = row.trusted.iter().map(AsRef::as_ref).collect();
        let device = Device::new(&ders, row.identity.as_ref(), time);
        for (words, peer) in &row.peers {
            println!("{time:?}, {words}");
            runtime.block_on(async {
                let before = memory::used();
                let (met, told) = meet(&device, row.host, peer).await;
                assert_eq!(met, end);
                assert_eq!(told > 0, end.is_ok() || row.is_told, "{told} bytes were told");
                assert_eq!(memory::used(), before, "memory is lost");
                assert_eq!(meet(&device, row.host, &row.good).await.0, Ok(()), "a good peer afterwards");
                assert_eq!(memory::used(), before, "memory is lost");
            });
        }
    }
}

/// Lets a device log in at a peer; what it says then, and how many bytes the peer was told.
async fn meet(device: &Device, host: &str, peer: &Maker) -> (Result<(), TlsError>, usize) {
    let (ours, theirs) = duplex(PIPE);
    let mut peer = peer(answer());
    let device = async {
        let ended = tokio::time::timeout(LIMIT, log_in_for(device, host, ours, ANSWER)).await;
        // As the agent does.
        ended.unwrap_or(Err(TlsError::STALLED))
    };
    let (met, ()) = tokio::join!(device, converse(FromTokio::new(theirs), &mut *peer));
    (met, peer.told())
}

/// Application that has a long answer to the login.
fn answer() -> App {
    Rc::new(|heard| (heard == LOGIN).then(|| vec![7; ANSWER]))
}
