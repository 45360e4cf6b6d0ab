//! Connections that are there to be there.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{connect, sockopt};

use super::options::Attack;
use super::raw::half_connect;
use super::socket::socket;
use super::target::Target;

/// Time between two looks at who was sent away.
const TICK: Duration = Duration::from_millis(50);
/// Connections that are opened in such a time, until as many as there shall be were opened once.
const FIRST: usize = 250;
/// Connections that are opened in place of others in such a time.
const AGAIN: usize = 25;
/// Addresses of those that come from many.
const ADDRESSES: u8 = 40;
/// Requests of one that does not read.
const PIPELINED: usize = 20;
/// Bytes that the system keeps of what nobody reads here: little, as whoever attacks is on another machine, where its memory is
/// not the server's.
const RECEIVE_BUFFER: usize = 4096;
/// The largest file that is no firmware.
const LARGEST_ASSET: &str = "/api/docs/swagger-ui-bundle.js";

/// Outcome of such an attack.
#[derive(Default)]
pub(super) struct Crowd {
    /// The most that there were at once.
    pub(super) most: usize,
    /// Number of connections opened in all.
    pub(super) opened: usize,
}

struct One {
    stream: TcpStream,
    said: bool,
}

/// Keeps up to `count` connections until `stop`: whichever the server ends is opened anew.
///
/// # Errors
/// Returns an error if the target's address is invalid, or a socket cannot be set up.
pub(super) fn attack(target: &Target, attack: Attack, count: usize, stop: &AtomicBool) -> Result<Crowd> {
    let to: SocketAddr = match attack.is_of_strangers() {
        true => (Ipv4Addr::LOCALHOST, target.server.mqtt).into(),
        false => target.host.parse()?,
    };
    let words = words(target, attack);
    let addresses = if attack == Attack::SilentReaders { 1 } else { ADDRESSES };
    let mut crowd = Crowd::default();
    let mut all: Vec<One> = Vec::with_capacity(count);
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let room = if crowd.opened < count { FIRST } else { AGAIN };
        for _ in 0..room.min(count - all.len()) {
            let from = Ipv4Addr::new(127, 0, 2, 1 + u8::try_from(crowd.opened % usize::from(addresses))?);
            let Ok(socket) = socket(from) else { break };
            sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
            match connect(&socket, &to) {
                Ok(()) | Err(Errno::INPROGRESS) => all.push(One { stream: socket.into(), said: false }),
                Err(_) => break,
            }
            crowd.opened += 1;
        }
        look(&mut all, &words);
        crowd.most = crowd.most.max(all.iter().filter(|one| one.said).count());
        std::thread::sleep(TICK.saturating_sub(began.elapsed()));
    }
    Ok(crowd)
}

/// Lets those speak that are connected, and forgets those that were sent away.
fn look(all: &mut Vec<One>, words: &[Vec<u8>; 2]) {
    let mut polled: Vec<PollFd<'_>> = all
        .iter()
        .map(|one| PollFd::new(&one.stream, if one.said { PollFlags::RDHUP } else { PollFlags::OUT }))
        .collect();
    if poll(&mut polled, Some(&Timespec::default())).is_err() {
        return;
    }
    let found: Vec<PollFlags> = polled.iter().map(PollFd::revents).collect();
    drop(polled);
    let (mut number, mut found) = (0, found.into_iter());
    all.retain_mut(|one| {
        number += 1;
        let found = found.next().unwrap_or(PollFlags::empty());
        if found.intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR) {
            return false;
        }
        if !one.said && found.contains(PollFlags::OUT) {
            one.said = true;
            // All of it fits into the system's buffer.
            return one.stream.write_all(&words[number % 2]).is_ok();
        }
        true
    });
}

/// Makes what a connection says, in two ways.
fn words(target: &Target, attack: Attack) -> [Vec<u8>; 2] {
    match attack {
        Attack::SilentClients => [Vec::new(), Vec::new()],
        // One that says it is far too long, and one of which as much is kept as of any.
        Attack::HalfConnects => [half_connect(256 << 10, 4_096), half_connect(2_000, 1_990)],
        _ => requests(target, attack).map(String::into_bytes),
    }
}

/// Makes the requests of a connection, in two ways.
fn requests(target: &Target, attack: Attack) -> [String; 2] {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", target.host);
    let asset = format!("{}{LARGEST_ASSET}", target.prefix);
    match attack {
        Attack::HalfHeads => {
            let half = format!("GET {asset} HTTP/1.1\r\nHost: {}\r\nX-More: ", target.host);
            ["GET /".to_owned(), half]
        }
        Attack::Idlers => [String::new(), get(&format!("{}/healthz", target.prefix))],
        _ => [get(&asset).repeat(PIPELINED), get(&target.firmware).repeat(PIPELINED)],
    }
}
