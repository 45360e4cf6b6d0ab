//! Peers without a network: bytes in, bytes out. What is built of them is in the rows.

use std::io::{Read as _, Write as _};
use std::rc::Rc;
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};

/// Application behind a peer: is given all that it was told since its last answer, and answers once it has understood that.
pub type App = Rc<dyn Fn(&[u8]) -> Option<Vec<u8>>>;

/// End of a peer's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It listens.
    Listen,
    /// It closes the connection, without a word.
    Close,
}

/// Other end of a connection.
pub trait Peer {
    /// Takes what a device sent, and returns what it is answered. There are no bytes at first.
    fn hear(&mut self, bytes: &[u8]) -> Vec<u8>;

    /// Next step once that is sent.
    fn then(&self) -> Then;

    /// Bytes of an application that it was told.
    fn told(&self) -> usize;
}

/// Server by rustls.
pub(super) struct Server {
    connection: ServerConnection,
    app: App,
    /// Told, and not yet answered.
    waiting: Vec<u8>,
    told: usize,
    /// Whether it closes in the middle of its answer.
    breaks_off: bool,
    then: Then,
}

impl Server {
    /// Waits for a device.
    pub(super) fn new(config: ServerConfig, app: App) -> Self {
        let mut connection = ServerConnection::new(Arc::new(config)).unwrap();
        connection.set_buffer_limit(None);
        Self { connection, app, waiting: Vec::new(), told: 0, breaks_off: false, then: Then::Listen }
    }

    /// The same, which closes in the middle of its answer and does not say so.
    pub(super) fn breaking_off(self) -> Self {
        Self { breaks_off: true, ..self }
    }

    /// Takes records; closes behind the alert if they are bad.
    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = self.connection.read_tls(&mut bytes).is_ok();
            if !taken || self.connection.process_new_packets().is_err() {
                self.then = Then::Close;
                return;
            }
            let before = self.waiting.len();
            // Nothing to read, or the end, are no news.
            let _ = self.connection.reader().read_to_end(&mut self.waiting);
            self.told += self.waiting.len() - before;
        }
    }

    fn answer(&mut self) {
        let answer = if self.waiting.is_empty() { None } else { (self.app)(&self.waiting) };
        let Some(mut answer) = answer else { return };
        self.waiting.clear();
        if self.breaks_off {
            answer.truncate(answer.len() / 2);
            self.then = Then::Close;
        }
        self.connection.writer().write_all(&answer).unwrap();
    }
}

impl Peer for Server {
    fn hear(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.take(bytes);
        self.answer();
        let mut said = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut said).unwrap();
        }
        said
    }

    fn then(&self) -> Then {
        self.then
    }

    fn told(&self) -> usize {
        self.told
    }
}

/// Content type of application data (RFC 8446, 5.1).
const APPLICATION_DATA: u8 = 23;
/// Bytes of a record's head.
const HEAD: usize = 5;

/// Peer that says some bytes once it has heard a whole record, and nothing else.
pub(super) struct Script {
    says: Option<Vec<u8>>,
    then: Then,
    heard: Vec<u8>,
}

impl Script {
    /// Says this, and does that.
    pub(super) fn new(says: &[u8], then: Then) -> Self {
        Self { says: Some(says.to_vec()), then, heard: Vec::new() }
    }
}

impl Peer for Script {
    fn hear(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.heard.extend_from_slice(bytes);
        match records(&self.heard).next() {
            Some(_) => self.says.take().unwrap_or_default(),
            None => Vec::new(),
        }
    }

    fn then(&self) -> Then {
        if self.says.is_none() { self.then } else { Then::Listen }
    }

    fn told(&self) -> usize {
        let told = |record: &[u8]| if record[0] == APPLICATION_DATA { record.len() - HEAD } else { 0 };
        records(&self.heard).map(told).sum()
    }
}

/// Splits bytes into the records that are whole.
pub(super) fn records(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let head = bytes.get(..HEAD)?;
        let len = HEAD + usize::from(u16::from_be_bytes([head[3], head[4]]));
        let (record, rest) = bytes.split_at_checked(len)?;
        bytes = rest;
        Some(record)
    })
}

/// Place in a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Before the server's first byte.
    Start,
    /// After the first byte.
    FirstByte,
    /// In the middle of the server's first flight.
    Middle,
    /// After the server's first flight and the device's answer. In 1.3 the handshake is over then.
    SecondFlight,
}

/// Peer that goes on as another one up to a place, and then says its own last bytes.
pub(super) struct Cut {
    inner: Box<dyn Peer>,
    place: Place,
    last: Vec<u8>,
    then: Then,
    first_flight_is_over: bool,
    is_over: bool,
}

impl Cut {
    /// Says `last` at `place`, does that, and hears nothing any more.
    pub(super) fn new(inner: Box<dyn Peer>, place: Place, last: &[u8], then: Then) -> Self {
        Self { inner, place, last: last.to_vec(), then, first_flight_is_over: false, is_over: false }
    }
}

impl Peer for Cut {
    fn hear(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.is_over {
            return Vec::new();
        }
        let mut said = self.inner.hear(bytes);
        let goes_on = if self.first_flight_is_over { bytes.is_empty() } else { said.is_empty() };
        if goes_on {
            return said;
        }
        let kept = match self.place {
            Place::SecondFlight if !self.first_flight_is_over => {
                self.first_flight_is_over = true;
                return said;
            }
            Place::Start | Place::SecondFlight => 0,
            Place::FirstByte => 1,
            Place::Middle => said.len() / 2,
        };
        self.is_over = true;
        said.truncate(kept);
        said.extend_from_slice(&self.last);
        said
    }

    fn then(&self) -> Then {
        if self.is_over { self.then } else { self.inner.then() }
    }

    fn told(&self) -> usize {
        self.inner.told()
    }
}

/// Somebody between a device and a server who changes what they say.
pub(super) struct Middleman {
    inner: Box<dyn Peer>,
    /// The device's first record, as far as it is there; none once it was passed on.
    hello: Option<Vec<u8>>,
    to_server: fn(&mut [u8]),
    /// Given the number of the flight, too.
    to_device: fn(usize, &mut [u8]),
    flights: usize,
}

impl Middleman {
    /// Changes the device's hello so, and the server's flights so.
    pub(super) fn new(
        inner: Box<dyn Peer>,
        to_server: fn(&mut [u8]),
        to_device: fn(usize, &mut [u8]),
    ) -> Self {
        Self { inner, hello: Some(Vec::new()), to_server, to_device, flights: 0 }
    }

    /// Returns what is passed on of the bytes that came.
    fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some(hello) = &mut self.hello else { return bytes.to_vec() };
        hello.extend_from_slice(bytes);
        if records(hello).next().is_none() {
            return Vec::new();
        }
        let mut hello = self.hello.take().unwrap_or_default();
        (self.to_server)(&mut hello);
        hello
    }
}

impl Peer for Middleman {
    fn hear(&mut self, bytes: &[u8]) -> Vec<u8> {
        let bytes = self.pass(bytes);
        let mut said = self.inner.hear(&bytes);
        if !said.is_empty() {
            (self.to_device)(self.flights, &mut said);
            self.flights += 1;
        }
        said
    }

    fn then(&self) -> Then {
        self.inner.then()
    }

    fn told(&self) -> usize {
        self.inner.told()
    }
}
