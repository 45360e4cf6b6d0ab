//! Strangers at the broker of a server, more than it takes: everybody else goes on, and the log stays small.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

use otaru_testing::{LIMIT, eventually, skipped};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::server::fleet::Fleet;

/// Strangers, of many addresses: more than the broker takes at once.
const STRANGERS: usize = 1_500;
/// Files that this and the server need for them.
const FILES: u64 = 8_192;
/// Bytes of log that they may cost.
const LOG: usize = 50_000;

/// A connection to the broker from one of 40 addresses, that says this much and no more.
fn stranger(number: usize, port: u16, says: &[u8]) -> TcpStream {
    let from = Ipv4Addr::new(127, 0, 6, u8::try_from(number % 40).unwrap());
    let end: OwnedFd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&end, &SocketAddr::from((from, 0))).unwrap();
    connect(&end, &SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
    let mut stream = TcpStream::from(end);
    // It may be sent away already.
    let _ = stream.write_all(says);
    stream
}

/// Logs in at the broker; returns the code of the answer.
fn log_in(port: u16, client: &str, password: &str) -> u8 {
    let text = |text: &str| [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat();
    let body = [text("MQTT"), vec![4, 0xC2, 0, 60], text(client), text(client), text(password)].concat();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(&[&[0x10, u8::try_from(body.len()).unwrap()], &body[..]].concat()).unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    answer[3]
}

#[test]
fn more_strangers_than_the_broker_takes_hurt_nobody_else() {
    let limit = getrlimit(Resource::Nofile);
    let files = limit.maximum.unwrap_or(u64::MAX).min(2 * FILES);
    if files < FILES {
        return skipped(&format!(
            "{files} open files are allowed here, it needs {FILES}: ulimit -Hn {FILES}"
        ));
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum: limit.maximum }).unwrap();
    let fleet = Fleet::start(&[]);
    let added = fleet.does(&["devices", "add", "lamp", "--json"]);
    let added: serde_json::Value = serde_json::from_str(&added).unwrap();
    let password = added["password"].as_str().unwrap();
    let before = fleet.logs().len();
    // Nothing; more than may be; half of as much as may be.
    let half = [&[0x10, 0xD0, 0x0F][..], b"\0\x04MQTT\x04\x02\0\x3C", &[b'x'; 1_000]].concat();
    for says in [&b""[..], &[0x10, 0x80, 0x80, 0x10, 0, 4], &half] {
        let strangers: Vec<_> = (0..STRANGERS).map(|number| stranger(number, fleet.mqtt, says)).collect();
        assert_eq!(fleet.asks(&["devices"]).len(), 1, "HTTP is answered");
        assert_eq!(log_in(fleet.mqtt, "lamp", password), 0, "a device comes in");
        assert_eq!(log_in(fleet.mqtt, "lamp", "wrong"), 4);
        drop(strangers);
    }
    let log = fleet.logs();
    assert!(log.len() - before < LOG, "{} bytes of log: {log}", log.len() - before);
}

/// As people start a server, without a word about logs.
#[test]
fn the_log_says_why_the_broker_refused_somebody() {
    let fleet = Fleet::start(&[]);
    let mut hello = stranger(1, fleet.mqtt, &[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]);
    hello.set_read_timeout(Some(LIMIT)).unwrap();
    assert_eq!(hello.read(&mut [0; 16]).unwrap_or(0), 0, "it is sent away");
    eventually("a line about TLS at a plain port", LIMIT, || {
        let log = fleet.logs();
        let mut lines = log.lines().filter(|line| line.contains("connections were refused"));
        lines.any(|line| line.contains("TLS") && line.contains("127.0.6.1")).then_some(())
    });
}
