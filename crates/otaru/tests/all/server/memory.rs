//! Memory that a crowd of connections took is given back when they are gone.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use otaru_testing::{LIMIT, Running, skipped};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::common::{otaru, path};

/// Connections, of many addresses; each holds about 17 KB of the program.
const CROWD: usize = 1_200;
/// Files that the program needs to have room for them.
const FILES: u64 = 8_192;
const MIB: u64 = 1 << 20;

/// Returns the resident memory of the program, in bytes, without what it maps of its own file: of that there is the more the more of it has run.
fn resident(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// A connection that begins to ask.
fn half(number: usize, to: SocketAddr) -> TcpStream {
    let from = Ipv4Addr::new(127, 0, 5, u8::try_from(number % 100).unwrap());
    let end: OwnedFd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&end, &SocketAddr::from((from, 0))).unwrap();
    connect(&end, &to).unwrap();
    let mut stream = TcpStream::from(end);
    stream.write_all(b"GET /f.bin HTTP/1.1\r\nX-More: ").unwrap();
    stream
}

#[test]
fn what_a_crowd_took_is_given_back() {
    let limit = getrlimit(Resource::Nofile);
    let files = limit.maximum.unwrap_or(u64::MAX).min(2 * FILES);
    if files < FILES {
        return skipped(&format!(
            "{files} open files are allowed here, it needs {FILES}: ulimit -Hn {FILES}"
        ));
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum: limit.maximum }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f.bin"), b"0123456789").unwrap();
    let program = Running::start(otaru(&["files", "--listen", "127.0.0.1:0", &path(dir.path(), "")]));
    let url = program.line("/f.bin").trim().to_owned();
    let to = url.trim_start_matches("http://").trim_end_matches("/f.bin").parse().unwrap();
    let eventually = |what: &str, holds: &dyn Fn(u64) -> bool| {
        let begun = Instant::now();
        while !holds(resident(program.id())) {
            assert!(begun.elapsed() < LIMIT, "{what}: {} MiB", resident(program.id()) / MIB);
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let before = resident(program.id());
    for round in 0..2 {
        let crowd: Vec<TcpStream> = (0..CROWD).map(|number| half(number, to)).collect();
        eventually("they take memory, or this tests nothing", &|now| now > before + 12 * MIB);
        drop(crowd);
        eventually(&format!("it is given back after round {round}"), &|now| now < before + 6 * MIB);
    }
    assert_eq!(program.stop(), Some(0));
}
