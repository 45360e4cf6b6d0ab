//! A relay of TCP before services of HTTP: it passes on to one that is chosen for each connection, and can be made to refuse or to stand still.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// Answer of a service that is too busy.
const BUSY: &[u8] = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Behaviour of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// Passes everything on.
    Passes,
    /// Answers `503`.
    Refuses,
    /// Passes nothing on, either way, and closes nothing.
    Stalls,
}

/// A relay at a port of its own. It lasts as long as the process.
pub(super) struct Relay {
    pub(super) port: u16,
    state: Arc<State>,
}

type Choice = Box<dyn Fn() -> Option<TcpStream> + Send + Sync>;

struct State {
    /// Connects to the service for a connection.
    choose: Choice,
    /// Tells a request that is counted when it is refused or held.
    counts: fn(&str) -> bool,
    mood: Mutex<(Mood, usize)>,
    changed: Condvar,
}

impl Relay {
    /// Starts one that connects by `choose`; requests that `counts` tells are counted while it does not pass them on.
    pub(super) fn start(
        choose: impl Fn() -> Option<TcpStream> + Send + Sync + 'static,
        counts: fn(&str) -> bool,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            choose: Box::new(choose),
            counts,
            mood: Mutex::new((Mood::Passes, 0)),
            changed: Condvar::new(),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || state.serve(client));
            }
        });
        Self { port, state }
    }

    /// Changes its behaviour, also towards connections that there are.
    pub(super) fn set(&self, mood: Mood) {
        self.state.mood.lock().unwrap().0 = mood;
        self.state.changed.notify_all();
    }

    /// Counts the requests so far that it refused or held.
    pub(super) fn hits(&self) -> usize {
        self.state.mood.lock().unwrap().1
    }
}

impl State {
    /// Passes on what comes and what is answered, until both sides are done, or one breaks off.
    fn serve(self: Arc<Self>, client: TcpStream) {
        let Some(service) = (self.choose)() else { return };
        let (client, service) = (Arc::new(client), Arc::new(service));
        let (state, answered, answering) = (Arc::clone(&self), Arc::clone(&client), Arc::clone(&service));
        std::thread::spawn(move || {
            let ended = state.answers(&answering, &answered);
            ended.or_else(|_| close(&answering, &answered))
        });
        let ended = self.requests(&client, &service);
        let _ = ended.or_else(|_| close(&client, &service));
    }

    fn requests(&self, mut client: &TcpStream, mut service: &TcpStream) -> io::Result<()> {
        let mut piece = vec![0; 64 << 10];
        loop {
            let len = client.read(&mut piece)?;
            if len == 0 {
                return service.shutdown(Shutdown::Write);
            }
            if !self.admits(&piece[..len]) {
                client.write_all(BUSY)?;
                return close(client, service);
            }
            service.write_all(&piece[..len])?;
        }
    }

    fn answers(&self, mut service: &TcpStream, mut client: &TcpStream) -> io::Result<()> {
        let mut piece = vec![0; 64 << 10];
        loop {
            let len = service.read(&mut piece)?;
            if len == 0 {
                return client.shutdown(Shutdown::Write);
            }
            self.wait();
            client.write_all(&piece[..len])?;
        }
    }

    /// Says whether to pass a piece of a request on, once it does not stand still any more.
    fn admits(&self, piece: &[u8]) -> bool {
        let mut mood = self.mood.lock().unwrap();
        if mood.0 != Mood::Passes && (self.counts)(&String::from_utf8_lossy(piece)) {
            mood.1 += 1;
        }
        drop(mood);
        self.wait() == Mood::Passes
    }

    /// Waits while it stands still.
    fn wait(&self) -> Mood {
        let mood = self.mood.lock().unwrap();
        self.changed.wait_while(mood, |mood| mood.0 == Mood::Stalls).unwrap().0
    }
}

fn close(one: &TcpStream, other: &TcpStream) -> io::Result<()> {
    one.shutdown(Shutdown::Both)?;
    other.shutdown(Shutdown::Both)
}
