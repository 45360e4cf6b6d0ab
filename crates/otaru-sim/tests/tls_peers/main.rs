//! Each row of the table of TLS peers, met by a virtual device that fetches firmware: the right error, no byte told to whom it does not
//! trust, nothing installed, a broker that stays, and a good update afterwards.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use otaru_device::TlsError;
use otaru_format::status::{Code, Status, UpdateState};
use otaru_sim::device::Event;
use otaru_sim::firmware::Behaviour;
use otaru_sim::lab::{DEVICE, Lab, Setup, firmware, run};
use otaru_sim::tls::HostTls;
use otaru_testing::tls_peers::{App, Chain, Library, Maker, Row, certificates_pem, converse};
use otaru_tls::Trust;

const SIZE: usize = 40_000;
const LONG: Duration = Duration::from_secs(24 * 3600);
const PORT: u16 = 443;
/// Attempts that an update has.
const ATTEMPTS: usize = 6;

otaru_testing::tls_rows!(hold);

/// Holds a virtual device against a row.
fn hold(row: Row) {
    if !otaru_testing::have(row.programs) {
        return;
    }
    assert!(!row.peers.is_empty(), "a row without a peer says nothing");
    for (words, peer) in &row.peers {
        println!("{words}");
        match row.end(Library::Rustls) {
            Ok(()) => succeeds(&row, peer),
            Err(error) => fails(&row, peer, error),
        }
    }
}

fn succeeds(row: &Row, peer: &Maker) {
    let met = Met::default();
    run(async {
        let lab = lab(row).await;
        let end = update(&lab, row, &met, |_| peer).await;
        assert_eq!((end.state, end.version.as_str()), (UpdateState::Confirmed, "1.1.0"), "{end:?}");
        assert!(met.told.get() > 0);
    });
}

fn fails(row: &Row, peer: &Maker, error: TlsError) {
    let met = Met::default();
    run(async {
        let lab = lab(row).await;
        let end = update(&lab, row, &met, |_| peer).await;
        let fault = end.error.as_ref().unwrap();
        let (code, text) = words_of(error);
        assert_eq!((end.state, fault.code), (UpdateState::Failed, code), "{end:?}");
        assert!(fault.detail.contains(&text), "{text} in {end:?}");
        assert_eq!(met.connections.get(), if error.is_transient() { ATTEMPTS } else { 1 });
        if !row.is_told {
            assert_eq!(met.told.get(), 0, "something was told before the peer was verified");
        }
        let starts = lab.events().iter().filter(|event| matches!(event, Event::Booted { .. })).count();
        assert!(lab.runs("1.0.0") && starts == 1, "nothing is installed: {:?}", lab.events());
        assert!(lab.broker.connected().iter().any(|name| name.contains(DEVICE)), "its broker is there");
        let end = update(&lab, row, &Met::default(), |_| &row.good).await;
        assert_eq!(end.state, UpdateState::Confirmed, "from a good peer: {end:?}");
    });
    if error.is_transient() {
        gets_better(row, peer);
    }
}

/// Code and words of an error in a report. What breaks in the middle of a file is told as what that means for the file.
fn words_of(error: TlsError) -> (Code, String) {
    match error {
        TlsError::BROKEN => (Code::Truncated, "the download ended early".to_owned()),
        error => (error.code(), error.to_string()),
    }
}

/// A peer that is bad once does not end an update.
fn gets_better(row: &Row, peer: &Maker) {
    let met = Met::default();
    run(async {
        let lab = lab(row).await;
        let end = update(&lab, row, &met, |number| if number == 0 { peer } else { &row.good }).await;
        assert_eq!(end.state, UpdateState::Confirmed, "once the peer is better: {end:?}");
        assert!(met.connections.get() > 1);
    });
}

/// A device that trusts so, running.
async fn lab(row: &Row) -> Lab {
    let setup = Setup { tls: tls(row), ..Setup::default() };
    let mut lab = Lab::new(setup, &firmware("1.0.0", SIZE, Behaviour::Healthy)).unwrap();
    lab.power_on();
    lab.ready().await;
    lab
}

fn tls(row: &Row) -> HostTls {
    let trust = Trust::of_pem(certificates_pem(&row.trusted).as_bytes()).unwrap();
    HostTls::new(match &row.identity {
        None => trust,
        Some(Chain { certificates, key }) => {
            let shown = certificates_pem(certificates);
            trust.with_identity(shown.as_bytes(), key.serialize_pem().as_bytes()).unwrap()
        }
    })
}

/// Counts of what peers have noticed.
#[derive(Default)]
struct Met {
    connections: Rc<Cell<usize>>,
    /// Bytes that they were told.
    told: Rc<Cell<usize>>,
}

/// Lets the device fetch firmware over TLS; `peer` says whom its connection of this number meets.
async fn update<'r>(lab: &Lab, row: &Row, met: &Met, peer: impl Fn(usize) -> &'r Maker) -> Status<String> {
    let new = firmware("1.1.0", SIZE, Behaviour::Healthy);
    let before = lab.reports().len();
    let host = if row.host.contains(':') { format!("[{}]", row.host) } else { row.host.to_owned() };
    lab.broker.publish("ESP32/ota/update", format!("https://{host}/new.bin"), false);
    let mut count = 0;
    let end = lab.wait_for(LONG, |status| {
        count += 1;
        count > before && status.state.is_final()
    });
    let mut end = std::pin::pin!(end);
    let mut listener = lab.lan.listen(PORT);
    loop {
        let stream = tokio::select! {
            end = &mut end => return end.expect("the update must come to an end"),
            stream = listener.accept() => stream,
        };
        let mut peer = peer(met.connections.get())(web_server(new.clone()));
        met.connections.set(met.connections.get() + 1);
        let told = Rc::clone(&met.told);
        tokio::task::spawn_local(async move {
            converse(stream, &mut *peer).await;
            told.set(told.get() + peer.told());
        });
    }
}

/// Web server with one file, which ends with its connection: nothing but TLS tells whether all of it came.
fn web_server(file: Vec<u8>) -> App {
    Rc::new(move |heard| {
        let is_whole = heard.ends_with(b"\r\n\r\n");
        is_whole.then(|| [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &file].concat())
    })
}
