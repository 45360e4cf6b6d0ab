//! TLS on the server's listeners: what is spoken, what is refused, and what it costs whoever knocks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use otaru_rollout::Time;
use otaru_server::clock::Clock;
use otaru_server::config::{CertificateSource, Config, PlainListeners, TlsConfig};
use otaru_server::http::Limits;
use otaru_server::tls::PairFiles;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::authority::{Authority, Signed, handshake};
use crate::bench::{Bench, LIMIT, Logs};
use crate::hostile::status;
use crate::wire::{Level, Wire};

/// Beginning of a hello, which goes on and never does.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

/// A server that speaks TLS, and the authority that its clients trust.
pub(crate) struct TlsBench {
    pub(crate) bench: Bench,
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) authority: Authority,
    /// Signs certificates of devices.
    pub(crate) devices: Authority,
    pub(crate) folder: tempfile::TempDir,
}

impl TlsBench {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}, Limits::default()).await
    }

    pub(crate) async fn start_in(change: impl FnOnce(&mut Config)) -> Self {
        Self::begin(|_| {}, change, Clock::system()).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut TlsConfig), limits: Limits) -> Self {
        Self::begin(change, |config| config.http_limits = limits, Clock::system()).await
    }

    pub(crate) async fn begin(
        change: impl FnOnce(&mut TlsConfig),
        around: impl FnOnce(&mut Config),
        clock: Clock,
    ) -> Self {
        let (authority, folder) = (Authority::new("test"), tempfile::tempdir().unwrap());
        let (certificate, key) = authority.sign(&["localhost", "127.0.0.1"]).write(folder.path());
        let devices = Authority::new("devices");
        std::fs::write(folder.path().join("devices.pem"), devices.pem()).unwrap();
        let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let mut tls = TlsConfig {
            certificate: CertificateSource::Files(PairFiles { certificate, key }),
            https: free,
            mqtts: free,
            plain: PlainListeners::default(),
            hsts: false,
            device_ca: Some(folder.path().join("devices.pem")),
        };
        change(&mut tls);
        let bench = Bench::start_at(
            |config| {
                config.tls = Some(tls);
                around(config);
            },
            clock,
        );
        Self { bench: bench.await, client: authority.client(None), authority, devices, folder }
    }

    pub(crate) fn https(&self) -> SocketAddr {
        self.bench.server.https().unwrap()
    }

    pub(crate) fn mqtts(&self) -> SocketAddr {
        self.bench.server.mqtts().unwrap()
    }

    /// Answer to a request over TLS.
    pub(crate) async fn ask(&self, path: &str, more: &str) -> String {
        let stream = TcpStream::connect(self.https()).await.unwrap();
        let stream = timeout(LIMIT, handshake(&self.client, stream)).await.unwrap().unwrap();
        ask(stream, path, more).await
    }

    /// A device that logs in over TLS, with a token of an operator in the place of its own login.
    async fn device(&self) -> Wire {
        let stream = TcpStream::connect(self.mqtts()).await.unwrap();
        let stream = timeout(LIMIT, handshake(&self.client, stream)).await.unwrap().unwrap();
        Wire::over(stream, Level::V311, "lamp", "x", &self.bench.admin).await.ok().unwrap()
    }
}

/// Answer to a request, to its end.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str, more: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost:8443\r\nConnection: close\r\n{more}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(LIMIT, stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn plain(address: SocketAddr, path: &str) -> String {
    ask(TcpStream::connect(address).await.unwrap(), path, "").await
}

/// Bytes that come until the other side closes.
async fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = timeout(LIMIT, stream.read_to_end(&mut all)).await.expect("the connection goes on");
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn both_listeners_speak_tls_beside_the_plain_ones() {
    let tls = TlsBench::start().await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(status(&tls.ask(path, "").await), 200, "{path}");
        assert_eq!(status(&plain(tls.bench.server.http(), path).await), 200, "{path}");
    }
    assert!(tls.bench.server.public_base().starts_with("https://127.0.0.1:"));
    tls.device().await.goes_on().await;
    let token = tls.bench.admin.clone();
    Wire::connect(&tls.bench, "lamp", "x", &token).await.unwrap().goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_plain_listeners_are_off_nothing_else_is_spoken() {
    let plain = PlainListeners { http: false, mqtt: false };
    let tls = TlsBench::start_with(|config| config.plain = plain, Limits::default()).await;
    assert_eq!(tls.bench.server.http(), tls.https());
    assert_eq!(status(&tls.ask("/readyz", "").await), 200);
    tls.device().await.goes_on().await;
    let inner = tls.bench.server.mqtt_url();
    assert!(inner.host == "127.0.0.1" && inner.port != tls.mqtts().port(), "its own way in, on loopback");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chip_with_small_buffers_can_read_every_record() {
    let tls = TlsBench::start().await;
    let mut stream = TcpStream::connect(tls.https()).await.unwrap();
    // The library would hide records, so they are counted on the wire, by a go-between that passes everything on.
    let (client, mut inner) = tokio::io::duplex(1 << 20);
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let connecting = tokio_rustls::TlsConnector::from(Arc::clone(&tls.client)).connect(name, client);
    let reading = tokio::spawn(async move {
        let answer = ask(connecting.await.unwrap(), "/api/docs/swagger-ui-bundle.js", "").await;
        assert!(answer.len() > 500_000, "{}", answer.len());
    });
    let (mut up, mut wire) = (vec![0; 16 * 1024], Vec::new());
    let mut down = vec![0; 64 * 1024];
    loop {
        tokio::select! {
            count = inner.read(&mut up) => match count.unwrap() {
                0 => break,
                count => stream.write_all(&up[..count]).await.unwrap(),
            },
            count = stream.read(&mut down) => {
                let count = count.unwrap_or(0);
                wire.extend_from_slice(&down[..count]);
                if count == 0 || inner.write_all(&down[..count]).await.is_err() {
                    break;
                }
            }
        }
    }
    drop(inner);
    reading.await.unwrap();
    let (mut records, mut at) = (0, 0);
    while let Some(head) = wire.get(at..at + 5) {
        let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
        // The content, its type, and a tag of 16 bytes: RFC 8446, section 5.2.
        assert!(length <= 4096 + 1 + 16, "a record of {length} bytes");
        (records, at) = (records + 1, at + 5 + length);
    }
    assert!(records > 120, "{records}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_at_the_https_port_is_told_where_to_go() {
    let tls = TlsBench::start().await;
    let answer = plain(tls.https(), "/devices?q=1").await;
    assert_eq!(status(&answer), 400, "{answer}");
    assert!(
        answer.contains("application/problem+json") && answer.contains("https://localhost:8443/devices?q=1")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_mqtt_at_the_mqtts_port_is_told_where_to_go() {
    let tls = TlsBench::start().await;
    // A CONNECT of version 5, and one of 3.1.1.
    let connect =
        |level| [&[0x10, 15 - u8::from(level == 4), 0, 4][..], b"MQTT", &[level, 2, 0, 60]].concat();
    let five = [&connect(5)[..], &[0, 0, 2, b'a', b'b']].concat();
    let mut stream = TcpStream::connect(tls.mqtts()).await.unwrap();
    stream.write_all(&[&five[..1], &[15], &five[2..]].concat()).await.unwrap();
    let answer = rest(stream).await;
    assert_eq!((answer[0], answer[3]), (0x20, 0x87), "CONNACK, not authorized");
    assert!(String::from_utf8_lossy(&answer).contains("use mqtts://"));
    let old = [&connect(4)[..], &[0, 2, b'a', b'b']].concat();
    let mut stream = TcpStream::connect(tls.mqtts()).await.unwrap();
    stream.write_all(&[&old[..1], &[14], &old[2..]].concat()).await.unwrap();
    assert_eq!(rest(stream).await, [0x20, 2, 0, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_at_a_plain_port_is_closed_at_once_without_a_word() {
    let tls = TlsBench::start().await;
    let mqtt = tls.bench.server.mqtt_url();
    for address in [
        tls.bench.server.http(),
        (mqtt.host.parse().map(|ip: std::net::IpAddr| (ip, mqtt.port))).unwrap().into(),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(HALF_A_HELLO).await.unwrap();
        assert!(rest(stream).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_stalls_is_ended() {
    let limits = Limits { handshake: Duration::from_secs(1), ..Limits::default() };
    let tls = TlsBench::start_with(|_| {}, limits).await;
    for begun in [HALF_A_HELLO, b""] {
        let mut stream = TcpStream::connect(tls.https()).await.unwrap();
        stream.write_all(begun).await.unwrap();
        assert!(rest(stream).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_hello_on_all_places_keeps_nobody_out() {
    let limits = Limits { per_address: 64, ..Limits::for_connections(64) };
    let tls = TlsBench::start_with(|_| {}, limits).await;
    let mut stuck = Vec::new();
    for address in [tls.https(), tls.mqtts()] {
        for _ in 0..300 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let _ = stream.write_all(HALF_A_HELLO).await;
            stuck.push(stream);
        }
    }
    let answered = async {
        loop {
            let stream = TcpStream::connect(tls.https()).await.unwrap();
            if let Ok(Ok(stream)) = timeout(LIMIT, handshake(&tls.client, stream)).await
                && status(&ask(stream, "/healthz", "").await) == 200
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(2 * LIMIT, answered).await.expect("an answer");
    tls.device().await.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_without_end_is_ended() {
    let tls = TlsBench::start().await;
    for address in [tls.https(), tls.mqtts()] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // A message of 65,000 bytes in records of 1,000: the hello of nobody.
        let record = [&[0x16, 3, 1, 3, 0xe8][..], &[1, 0, 0xfd, 0xe8], &[0; 996]].concat();
        let more = [&[0x16, 3, 1, 3, 0xe8][..], &[0; 1000]].concat();
        let mut sent = 0;
        let _ = stream.write_all(&record).await;
        while sent < 64 && stream.write_all(&more).await.is_ok() {
            sent += 1;
            tokio::task::yield_now().await;
        }
        let mut one = [0; 64];
        let read = timeout(LIMIT, async { while matches!(stream.read(&mut one).await, Ok(1..)) {} }).await;
        read.expect("it is closed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_files_are_used_and_connections_go_on() {
    let tls = TlsBench::start().await;
    let mut device = tls.device().await;
    let next = Authority::new("next");
    next.sign(&["localhost"]).write(tls.folder.path());
    tls.bench.server.reload_certificate();
    let client = next.client(None);
    let replaced = async {
        loop {
            let stream = TcpStream::connect(tls.https()).await.unwrap();
            if let Ok(stream) = handshake(&client, stream).await {
                return stream;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let stream = timeout(LIMIT, replaced).await.unwrap();
    assert_eq!(status(&ask(stream, "/healthz", "").await), 200);
    device.goes_on().await;
    let again = TcpStream::connect(tls.mqtts()).await.unwrap();
    assert!(handshake(&client, again).await.is_ok(), "at both listeners");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_will_not_do_leave_the_old_ones_in_use() {
    let tls = TlsBench::start().await;
    let other = Authority::new("other").sign(&["localhost"]);
    // A certificate without its key, as in the middle of a replacement.
    std::fs::write(tls.folder.path().join("cert.pem"), &other.certificate).unwrap();
    let mut reload = otaru_server::tls::reload::Reload::open(PairFiles {
        certificate: tls.folder.path().join("cert.pem"),
        key: tls.folder.path().join("key.pem"),
    });
    let error = reload.as_mut().map(drop).unwrap_err().to_string();
    assert!(error.contains("is not that of the certificate"), "{error}");
    assert_eq!(status(&tls.ask("/healthz", "").await), 200);
}

const NOW: Time = Time(1_800_000_000_000);

#[test]
fn a_pair_that_is_half_written_is_taken_once_it_is_whole() {
    use otaru_server::tls::reload::{Look, Reload};
    let (authority, folder) = (Authority::new("test"), tempfile::tempdir().unwrap());
    let (certificate, key) = authority.sign(&["a"]).write(folder.path());
    let mut reload = Reload::open(PairFiles { certificate: certificate.clone(), key: key.clone() }).unwrap();
    let live = reload.live();
    let named = |name: &str| live.facts().unwrap().names(name);
    assert_eq!(reload.look(NOW), Look::Same);
    let next: Signed = authority.sign(&["other"]);
    std::fs::write(&certificate, &next.certificate).unwrap();
    assert_eq!(reload.look(NOW), Look::Kept);
    assert_eq!(reload.look(NOW), Look::Same, "told once");
    assert!(named("a"));
    std::fs::write(&key, &next.key).unwrap();
    assert_eq!(reload.look(NOW), Look::Replaced);
    assert!(named("other") && !named("a"));
}

#[test]
fn what_is_wrong_with_the_files_is_told_with_what_to_do() {
    let (authority, folder) = (Authority::new("test"), tempfile::tempdir().unwrap());
    let (certificate, key) = authority.sign(&["a"]).write(folder.path());
    let told = |certificate: &std::path::Path, key: &std::path::Path| {
        let files = PairFiles { certificate: certificate.to_owned(), key: key.to_owned() };
        files.read().map(drop).unwrap_err().to_string()
    };
    let nowhere = folder.path().join("nowhere.pem");
    assert!(told(&nowhere, &key).contains("is the path right"));
    assert!(told(&certificate, &nowhere).contains("is the path right"));
    assert!(told(&key, &key).contains("is it the key?"));
    assert!(told(&certificate, &certificate).contains("openssl pkey"));
    let damaged = folder.path().join("damaged.pem");
    std::fs::write(&damaged, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    assert!(told(&damaged, &key).contains("is damaged"));
    let large = folder.path().join("large.pem");
    std::fs::write(&large, vec![b'x'; 300 * 1024]).unwrap();
    assert!(told(&large, &key).contains("too large"));
    let secret = std::fs::read_to_string(&key).unwrap();
    let pair = PairFiles { certificate, key }.read().unwrap();
    let shown = format!("{pair:?}");
    assert!(secret.lines().skip(1).all(|line| !shown.contains(line)) && !shown.contains("key"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_over_tls_stay_there() {
    let tls = TlsBench::start_with(|config| config.hsts = true, Limits::default()).await;
    let login = |stream: &str| stream.to_lowercase().contains("; secure");
    let form = format!("token={}", tls.bench.admin);
    let post = format!(
        "POST /login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nOrigin: https://localhost\r\nSec-Fetch-Site: same-origin\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    let stream = TcpStream::connect(tls.https()).await.unwrap();
    let mut stream = handshake(&tls.client, stream).await.unwrap();
    stream.write_all(post.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = timeout(LIMIT, stream.read_to_string(&mut answer)).await.unwrap();
    assert!(
        login(&answer) && answer.to_lowercase().contains("strict-transport-security: max-age="),
        "{answer}"
    );
    let mut stream = TcpStream::connect(tls.bench.server.http()).await.unwrap();
    stream.write_all(post.replace("https://", "http://").as_bytes()).await.unwrap();
    let answer = String::from_utf8(rest(stream).await).unwrap();
    assert!(answer.to_lowercase().contains("set-cookie: otaru_session") && !login(&answer), "{answer}");
    assert!(!answer.to_lowercase().contains("strict-transport-security"), "only where it came over TLS");
}

/// A log is the whole process's, so this has a process of its own.
#[test]
fn a_flood_of_bad_handshakes_is_a_line_in_words() {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", "over_tls::flood", "--ignored"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by `a_flood_of_bad_handshakes_is_a_line_in_words`, alone in its process"]
async fn flood() {
    let logs = Logs::all();
    let tls = TlsBench::start().await;
    let mqtt = tls.bench.server.mqtt_url();
    let mqtt: SocketAddr = (mqtt.host.parse::<std::net::IpAddr>().unwrap(), mqtt.port).into();
    let other = Authority::new("other").client(None);
    for address in [tls.https(), tls.mqtts()] {
        for _ in 0..50 {
            let stream = TcpStream::connect(address).await.unwrap();
            assert!(handshake(&other, stream).await.is_err(), "not trusted");
        }
    }
    for address in [tls.bench.server.http(), mqtt] {
        for _ in 0..50 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(HALF_A_HELLO).await.unwrap();
            rest(stream).await;
        }
    }
    let text = logs.text();
    for part in [
        "does not trust this server's certificate",
        "TLS is spoken to the port for plain HTTP",
        "TLS is not spoken at this port",
    ] {
        let lines = text.lines().filter(|line| line.contains(part)).count();
        assert!((1..20).contains(&lines), "{part}: {lines}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_an_authority_of_its_own_tells_whom_to_trust() {
    let tls =
        TlsBench::start_with(|config| config.certificate = CertificateSource::Own, Limits::default()).await;
    let answer = plain(tls.bench.server.http(), "/ca.pem").await;
    assert_eq!(status(&answer), 200, "{answer}");
    let pem = answer.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(pem, std::fs::read_to_string(tls.bench.server.authority_file().unwrap()).unwrap());
    let client = crate::authority::client(pem, None);
    for address in [tls.https(), tls.mqtts()] {
        let stream = TcpStream::connect(address).await.unwrap();
        handshake(&client, stream).await.unwrap();
    }
    let other = TlsBench::start().await;
    assert_eq!(status(&plain(other.bench.server.http(), "/ca.pem").await), 404, "only its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_over_tls_is_ended() {
    let limits = Limits { stall: Duration::from_secs(1), ..Limits::default() };
    let tls = TlsBench::start_with(|_| {}, limits).await;
    let stream = TcpStream::connect(tls.https()).await.unwrap();
    let mut stream = handshake(&tls.client, stream).await.unwrap();
    let request = "GET /api/docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20);
    stream.write_all(request.as_bytes()).await.unwrap();
    let ended = async {
        // Whoever is ended finds out by writing.
        while stream.write_all(b"x").await.is_ok() && stream.flush().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LIMIT, ended).await.expect("the connection goes on");
}
