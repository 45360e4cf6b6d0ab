//! Certificates of devices over MQTTS: whom they let in, until when, and authorities that come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use otaru_rollout::Time;
use otaru_server::clock::Clock;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::authority::{Authority, Signed, handshake};
use crate::bench::LIMIT;
use crate::over_tls::TlsBench;
use crate::wire::{Level, Wire};

impl TlsBench {
    /// Returns the serial number that the history of a device tells of.
    async fn serial_in_history(&self, device: &str) -> String {
        let history = self.bench.get(&format!("/devices/{device}/history")).await.is(200).json();
        let events = history["items"].as_array().unwrap();
        let serial = events.iter().find_map(|event| event["detail"]["certificate"].as_str());
        serial.expect("a certificate").to_owned()
    }

    /// A device that shows a certificate; the code of a refusal.
    async fn shows(&self, client: &str, certificate: &Signed) -> Result<Wire, u8> {
        let stream = TcpStream::connect(self.mqtts()).await.unwrap();
        let stream = handshake(&self.authority.client(Some(certificate)), stream).await.unwrap();
        Wire::over(stream, Level::V5, client, "", "").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_logs_in_with_a_certificate_of_its_name_only() {
    let tls = TlsBench::start().await;
    let lamp = tls.devices.sign(&["lamp"]);
    tls.shows("lamp", &lamp).await.expect("registered").goes_on().await;
    let known = tls.bench.get("/devices/lamp").await.is(200).json();
    assert_eq!(known["id"], "lamp");
    let shown = &known["certificates"].as_array().unwrap()[..];
    let [certificate] = shown else { panic!("one: {shown:?}") };
    assert_eq!(certificate["serial"], tls.serial_in_history("lamp").await);
    assert!(certificate["ends_at"].as_str().unwrap() > "2027", "{certificate}");
    tls.shows("lamp", &lamp).await.expect("known").goes_on().await;
    const BAD: u8 = 0x86;
    assert_eq!(tls.shows("other", &lamp).await.err(), Some(BAD), "another's name");
    // TLS 1.3 tells a client after its own side of the handshake, so a refusal is an end of the connection.
    let stranger = tls.authority.client(Some(&Authority::new("devices").sign(&["lamp"])));
    let stream = TcpStream::connect(tls.mqtts()).await.unwrap();
    if let Ok(mut stream) = handshake(&stranger, stream).await {
        let read = timeout(LIMIT, stream.read(&mut [0; 1])).await.expect("an end");
        assert!(!matches!(read, Ok(1..)), "signed by somebody else");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_ends_with_its_device_and_with_another_login() {
    let tls = TlsBench::start().await;
    let (first, second) = (tls.devices.sign(&["lamp"]), tls.devices.sign(&["lamp"]));
    let connected = tls.shows("lamp", &first).await.ok().unwrap();
    tls.bench.post("/devices/lamp/retire", serde_json::json!({})).await.is(200);
    connected.ended().await;
    assert!(tls.shows("lamp", &first).await.is_err(), "retired");
    assert!(tls.shows("lamp", &second).await.is_err(), "also with one that was never seen");
    tls.bench.post("/devices/lamp/unretire", serde_json::json!({})).await.is(200);
    let connected = tls.shows("lamp", &first).await.expect("taken back");
    let login = tls.bench.post("/devices/lamp/password", serde_json::json!({})).await;
    assert!(login.status.is_success(), "{login:?}");
    connected.ended().await;
    assert!(tls.shows("lamp", &first).await.is_err(), "replaced");
    assert_eq!(tls.bench.get("/devices/lamp").await.is(200).json()["certificates"], serde_json::json!([]));
    tls.shows("lamp", &second).await.expect("a new one").goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_with_a_certificate_takes_no_room_that_there_is_not() {
    let tls = TlsBench::start_in(|config| config.device_limits.devices = 1).await;
    let (one, two) = (tls.devices.sign(&["one"]), tls.devices.sign(&["two"]));
    tls.shows("one", &one).await.expect("room for one");
    assert_eq!(tls.shows("two", &two).await.err(), Some(0x97));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ends_takes_its_connection_along() {
    /// In 2026, and after the end of all certificates that are made here, in 4096.
    const MOMENTS: [u64; 2] = [1_800_000_000_000, 70_000_000_000_000];
    let now = Arc::new(AtomicU64::new(MOMENTS[0]));
    let clock = Arc::clone(&now);
    let clock = Clock::new(move || Time(clock.load(Ordering::Relaxed)));
    let tls = TlsBench::begin(|_| {}, |_| {}, clock).await;
    let lamp = tls.devices.sign(&["lamp"]);
    let mut connected = tls.shows("lamp", &lamp).await.ok().unwrap();
    connected.goes_on().await;
    now.store(MOMENTS[1], Ordering::Relaxed);
    connected.ended().await;
    assert!(tls.shows("lamp", &lamp).await.is_err());
}

impl TlsBench {
    /// Writes the file of --device-ca.
    fn trust_devices_of(&self, pem: &str) {
        std::fs::write(self.folder.path().join("devices.pem"), pem).unwrap();
    }

    /// Whether a device gets in with a certificate.
    async fn takes(&self, name: &str, certificate: &Signed) -> bool {
        let stream = TcpStream::connect(self.mqtts()).await.unwrap();
        match handshake(&self.authority.client(Some(certificate)), stream).await {
            Ok(stream) => timeout(LIMIT, Wire::over(stream, Level::V5, name, "", "")).await.unwrap().is_ok(),
            Err(_) => false,
        }
    }

    /// Waits until so many authorities are trusted: the file was looked at, and what it says holds.
    async fn until_trusted(&self, count: usize) {
        let (app, line) = (self.bench.server.app(), format!("otaru_tls_device_authorities {count}"));
        let changed = async {
            while !app.metrics.scrape(&app.db).await.unwrap().lines().any(|found| found == line) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(LIMIT, changed).await.expect("the file is looked at");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn authorities_of_devices_come_and_go_without_a_restart() {
    let tls = TlsBench::start().await;
    let next = Authority::new("next");
    let [lamp, bulb] = ["lamp", "bulb"].map(|name| tls.devices.sign(&[name]));
    let door = next.sign(&["door"]);
    let mut lamp_is_in = tls.shows("lamp", &lamp).await.expect("trusted");
    assert!(tls.takes("bulb", &bulb).await && !tls.takes("door", &door).await);
    let both = format!("{}{}", tls.devices.pem(), next.pem());
    for (file, count, takes_bulb, takes_door) in [
        (both.as_str(), 2, true, true),
        (next.pem(), 1, false, true),
        ("", 0, false, false),
        (&both, 2, true, true),
    ] {
        tls.trust_devices_of(file);
        tls.until_trusted(count).await;
        assert_eq!(tls.takes("bulb", &bulb).await, takes_bulb, "{count}");
        assert_eq!(tls.takes("door", &door).await, takes_door, "{count}");
        lamp_is_in.goes_on().await;
    }
}
