//! A relay between the device and a server: it times handshakes, counts connections, and breaks one when it is told to.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Bytes of a record's head: kind, version, length (RFC 8446, 5.1).
const HEAD: usize = 5;
/// Kind of a record with content; in TLS 1.3 also of the client's last word of a handshake.
const CONTENT: u8 = 23;
const BUFFER: usize = 4096;

/// A relay, for as long as the program runs.
pub(super) struct Relay {
    pub(super) port: u16,
    notes: Arc<Notes>,
}

#[derive(Default)]
struct Notes {
    connections: AtomicUsize,
    handshakes: Mutex<Vec<Duration>>,
    /// Bytes that the server may still send until its connection is broken; 0 is any number.
    cut: AtomicUsize,
}

impl Relay {
    /// Relays what comes to `port` to `server`, both on loopback; 0 is a port that is free.
    pub(super) fn start(port: u16, server: u16) -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| format!("port {port}"))?;
        let port = listener.local_addr()?.port();
        let notes = Arc::new(Notes::default());
        let shared = Arc::clone(&notes);
        thread::spawn(move || {
            for device in listener.incoming().map_while(Result::ok) {
                // A server that is not there closes the connection.
                let _ = relay(device, server, &shared);
            }
        });
        Ok(Self { port, notes })
    }

    /// Number of connections so far.
    pub(super) fn connections(&self) -> usize {
        self.notes.connections.load(Relaxed)
    }

    /// Time of the last handshake, from the device's first byte to its first encrypted one.
    pub(super) fn handshake(&self) -> Option<Duration> {
        self.notes.handshakes.lock().unwrap_or_else(PoisonError::into_inner).last().copied()
    }

    /// Breaks a connection once the server has sent this many bytes more.
    pub(super) fn cut_after(&self, bytes: usize) {
        self.notes.cut.store(bytes, Relaxed);
    }
}

fn relay(device: TcpStream, server: u16, notes: &Arc<Notes>) -> Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, server))?;
    notes.connections.fetch_add(1, Relaxed);
    for stream in [&device, &server] {
        stream.set_nodelay(true)?;
    }
    let back = (server.try_clone()?, device.try_clone()?);
    let (there, here) = (Arc::clone(notes), Arc::clone(notes));
    thread::spawn(move || {
        let mut handshake = Handshake::default();
        copy(device, server, |bytes| {
            if let Some(took) = handshake.see(bytes) {
                there.handshakes.lock().unwrap_or_else(PoisonError::into_inner).push(took);
            }
            true
        });
    });
    thread::spawn(move || copy(back.0, back.1, |bytes| here.may_send(bytes.len())));
    Ok(())
}

/// Copies until one of the two ends, or `goes_on` does not want it any more; both are closed then.
fn copy(mut from: TcpStream, mut to: TcpStream, mut goes_on: impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; BUFFER];
    while let Ok(count) = from.read(&mut buffer) {
        let bytes = buffer.get(..count).unwrap_or_default();
        if bytes.is_empty() || !goes_on(bytes) || to.write_all(bytes).is_err() {
            break;
        }
    }
    for stream in [from, to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

impl Notes {
    /// Counts bytes of a server down to the cut, of which there is one.
    fn may_send(&self, bytes: usize) -> bool {
        match self.cut.load(Relaxed) {
            0 => true,
            left if left <= bytes => {
                self.cut.store(0, Relaxed);
                false
            }
            left => {
                self.cut.store(left - bytes, Relaxed);
                true
            }
        }
    }
}

/// Bytes that a device sends, up to the end of the handshake.
#[derive(Default)]
struct Handshake {
    start: Option<Instant>,
    head: Vec<u8>,
    /// Bytes of the record that come after its head.
    rest: usize,
    over: bool,
}

impl Handshake {
    /// Returns the time that the handshake took, with the bytes that end it.
    fn see(&mut self, bytes: &[u8]) -> Option<Duration> {
        let start = *self.start.get_or_insert_with(Instant::now);
        for byte in bytes {
            if self.rest > 0 {
                self.rest -= 1;
                continue;
            }
            self.head.push(*byte);
            if let [kind, _, _, high, low] = *self.head {
                self.rest = usize::from(u16::from_be_bytes([high, low]));
                self.head.clear();
                if kind == CONTENT && !self.over {
                    self.over = true;
                    return Some(start.elapsed());
                }
            }
            debug_assert!(self.head.len() < HEAD);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &[u8] = &[22, 3, 1, 0, 3, 23, 23, 23];
    const CIPHER: &[u8] = &[20, 3, 3, 0, 1, 1];
    const ENCRYPTED: &[u8] = &[23, 3, 3, 0, 2, 0, 0];

    #[test]
    fn a_handshake_ends_with_the_first_encrypted_record() {
        let mut handshake = Handshake::default();
        assert!(handshake.see(HELLO).is_none());
        assert!(handshake.see(CIPHER).is_none());
        assert!(handshake.see(ENCRYPTED).is_some());
        assert!(handshake.see(ENCRYPTED).is_none(), "it ends once");
    }

    #[test]
    fn records_may_come_in_any_pieces() {
        let mut handshake = Handshake::default();
        let all = [HELLO, CIPHER, ENCRYPTED].concat();
        let ends: Vec<usize> = (0..all.len()).filter(|at| handshake.see(&all[*at..=*at]).is_some()).collect();
        assert_eq!(ends, [HELLO.len() + CIPHER.len() + HEAD - 1]);
    }

    #[test]
    fn a_connection_is_cut_once() {
        let notes = Notes::default();
        assert!(notes.may_send(1_000));
        notes.cut.store(150, Relaxed);
        assert_eq!([100, 100, 100].map(|bytes| notes.may_send(bytes)), [true, false, true]);
    }
}
