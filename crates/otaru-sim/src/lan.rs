//! A network in memory: latency, bandwidth, loss, half-open connections and cuts, the same for the same seed.
//!
//! It stands in for TCP: bytes arrive whole and in order, late where segments were lost, and no more than a
//! window of them is under way. Under tokio's paused clock a minute of it takes no time.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use embedded_io_async::{ErrorType, Read, Write};
use embedded_nal_async::{AddrType, Dns, TcpConnect};
use otaru_device::{Clock, Link, LinkError};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::{Notify, mpsc};

use crate::clock::SimClock;

/// Bytes of a full TCP segment (1500 of Ethernet less the headers).
const SEGMENT: usize = 1460;
/// Delay of a lost segment: the least retransmission timeout of common stacks.
const RETRANSMISSION: Duration = Duration::from_millis(200);
/// The host every name leads to.
pub const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// Quality of the network path to the device.
#[derive(Debug, Clone, Copy)]
pub struct Quality {
    /// From one end to the other.
    pub latency: Duration,
    /// Bytes a second, for all connections together, in each direction.
    pub rate: u32,
    /// Share of segments that are lost, from 0 to 1.
    pub loss: f64,
    /// Bytes under way before the sender waits: the receiver's TCP window.
    pub window: usize,
}

impl Quality {
    /// 2.4 GHz Wi-Fi in a home: 5 ms, 1 MB/s, a window of 8 KiB.
    pub const HOME: Self =
        Self { latency: Duration::from_millis(5), rate: 1_000_000, loss: 0.0, window: 8 << 10 };
}

/// One direction of the air.
#[derive(Debug, Default)]
struct Air {
    busy_until: Cell<Duration>,
}

struct Inner {
    clock: SimClock,
    quality: Cell<Quality>,
    rng: RefCell<SmallRng>,
    up: Cell<bool>,
    reachable: Cell<bool>,
    silent: Cell<bool>,
    jammed: Cell<bool>,
    radio_restarts: Cell<u32>,
    reached_broker: Cell<u32>,
    to_device: Air,
    to_host: Air,
    listeners: RefCell<HashMap<u16, mpsc::UnboundedSender<Stream>>>,
    open: RefCell<Vec<std::rc::Weak<Wire>>>,
}

/// The network; clones share it.
#[derive(Clone)]
pub struct Lan(Rc<Inner>);

impl Lan {
    /// A network of this quality.
    pub fn new(clock: SimClock, quality: Quality, seed: u64) -> Self {
        Self(Rc::new(Inner {
            clock,
            quality: Cell::new(quality),
            rng: RefCell::new(SmallRng::seed_from_u64(seed)),
            up: Cell::new(true),
            reachable: Cell::new(true),
            silent: Cell::new(false),
            jammed: Cell::new(false),
            radio_restarts: Cell::new(0),
            reached_broker: Cell::new(0),
            to_device: Air::default(),
            to_host: Air::default(),
            listeners: RefCell::new(HashMap::new()),
            open: RefCell::new(Vec::new()),
        }))
    }

    /// Accepts connections to `port` of the host, until the listener is dropped.
    pub fn listen(&self, port: u16) -> Listener {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.0.listeners.borrow_mut().insert(port, sender);
        Listener(receiver)
    }

    /// Breaks every open connection; new ones are possible at once.
    pub fn reset_connections(&self) {
        for wire in self.0.open.borrow_mut().drain(..).filter_map(|wire| wire.upgrade()) {
            wire.reset.set(true);
            wire.changed.notify_waiters();
        }
    }

    /// Takes the access point away, or brings it back.
    pub fn set_reachable(&self, reachable: bool) {
        self.0.reachable.set(reachable);
        if !reachable {
            self.0.up.set(false);
            self.reset_connections();
        }
    }

    /// While silent nothing arrives and nobody is told: connections are half-open.
    pub fn set_silent(&self, silent: bool) {
        self.0.silent.set(silent);
    }

    /// Takes the network away and jams the device's radio: attempts to join have no end, until the radio is restarted.
    pub fn jam_radio(&self) {
        self.set_reachable(false);
        self.0.jammed.set(true);
    }

    /// In how many of its starts the device heard that its broker took a report.
    pub fn reached_broker(&self) -> u32 {
        self.0.reached_broker.get()
    }

    /// Number of times that the device restarted its radio.
    pub fn radio_restarts(&self) -> u32 {
        self.0.radio_restarts.get()
    }

    fn wire(&self, to_device: bool) -> Rc<Wire> {
        let wire = Rc::new(Wire {
            lan: self.clone(),
            to_device,
            queue: RefCell::new(VecDeque::new()),
            freed: RefCell::new(VecDeque::new()),
            under_way: Cell::new(0),
            last_arrival: Cell::new(Duration::ZERO),
            closed: Cell::new(false),
            reset: Cell::new(false),
            changed: Notify::new(),
        });
        let mut open = self.0.open.borrow_mut();
        open.retain(|wire| wire.strong_count() > 0);
        open.push(Rc::downgrade(&wire));
        wire
    }

    /// Returns the time at which `len` bytes that are sent now arrive.
    fn arrival(&self, to_device: bool, len: usize) -> Duration {
        let Quality { latency, rate, loss, .. } = self.0.quality.get();
        let air = if to_device { &self.0.to_device } else { &self.0.to_host };
        let start = air.busy_until.get().max(self.0.clock.now());
        let end = start + Duration::from_secs_f64(len as f64 / f64::from(rate.max(1)));
        air.busy_until.set(end);
        let lost = loss > 0.0 && self.0.rng.borrow_mut().random_bool(loss.clamp(0.0, 1.0));
        end + latency + if lost { RETRANSMISSION + latency } else { Duration::ZERO }
    }
}

/// One direction of a connection.
struct Wire {
    lan: Lan,
    to_device: bool,
    queue: RefCell<VecDeque<(Duration, VecDeque<u8>)>>,
    /// Room in the window that the sender learns of later, when the acknowledgement arrives.
    freed: RefCell<VecDeque<(Duration, usize)>>,
    under_way: Cell<usize>,
    last_arrival: Cell<Duration>,
    closed: Cell<bool>,
    reset: Cell<bool>,
    changed: Notify,
}

/// Whether something can be done.
enum Ready {
    /// It was, with this many bytes.
    Now(usize),
    /// Not before this time, if that is known.
    At(Option<Duration>),
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "connection reset")
}

impl Wire {
    fn clock(&self) -> &SimClock {
        &self.lan.0.clock
    }

    /// Waits for a change, or until `time` if that is known.
    async fn wait(&self, time: Option<Duration>) {
        let pause = async {
            match time {
                Some(time) => self.clock().sleep(time.saturating_sub(self.clock().now())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.changed.notified() => {}
            () = pause => {}
        }
    }

    async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            if self.reset.get() || self.closed.get() {
                return Err(broken());
            }
            match self.put(bytes) {
                Ready::Now(count) => return Ok(count),
                Ready::At(time) => self.wait(time).await,
            }
        }
    }

    /// Puts what fits into the window.
    fn put(&self, bytes: &[u8]) -> Ready {
        let now = self.clock().now();
        let mut freed = self.freed.borrow_mut();
        while let Some((_, len)) = freed.front().copied().filter(|(time, _)| *time <= now) {
            freed.pop_front();
            self.under_way.set(self.under_way.get() - len);
        }
        let room = self.lan.0.quality.get().window.saturating_sub(self.under_way.get());
        if room == 0 {
            return Ready::At(freed.front().map(|(time, _)| *time));
        }
        let count = bytes.len().min(room).min(SEGMENT);
        self.under_way.set(self.under_way.get() + count);
        if !self.lan.0.silent.get() {
            let arrival = self.lan.arrival(self.to_device, count).max(self.last_arrival.get());
            self.last_arrival.set(arrival);
            self.queue.borrow_mut().push_back((arrival, bytes[..count].iter().copied().collect()));
            self.changed.notify_waiters();
        }
        Ready::Now(count)
    }

    async fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.reset.get() {
                return Err(broken());
            }
            match self.take(buf) {
                Ready::Now(count) => return Ok(count),
                Ready::At(time) => self.wait(time).await,
            }
        }
    }

    /// Takes what has arrived.
    fn take(&self, buf: &mut [u8]) -> Ready {
        if self.lan.0.silent.get() {
            return Ready::At(None);
        }
        let now = self.clock().now();
        let mut queue = self.queue.borrow_mut();
        let Some((time, bytes)) = queue.front_mut() else {
            return if self.closed.get() { Ready::Now(0) } else { Ready::At(None) };
        };
        if *time > now {
            return Ready::At(Some(*time));
        }
        let count = buf.len().min(bytes.len());
        for (to, from) in buf.iter_mut().zip(bytes.drain(..count)) {
            *to = from;
        }
        if bytes.is_empty() {
            queue.pop_front();
        }
        let known = now + self.lan.0.quality.get().latency;
        self.freed.borrow_mut().push_back((known, count));
        self.changed.notify_waiters();
        Ready::Now(count)
    }

    fn close(&self) {
        self.closed.set(true);
        self.changed.notify_waiters();
    }
}

/// One end of a connection. Dropping it closes both ways, after what was sent has arrived.
pub struct Stream {
    outgoing: Rc<Wire>,
    incoming: Rc<Wire>,
}

impl Stream {
    /// Breaks the connection as a crashed host does.
    pub fn reset(&self) {
        for wire in [&self.outgoing, &self.incoming] {
            wire.reset.set(true);
            wire.changed.notify_waiters();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.outgoing.close();
        self.incoming.close();
    }
}

impl ErrorType for Stream {
    type Error = io::Error;
}

impl Read for Stream {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() { Ok(0) } else { self.incoming.receive(buf).await }
    }
}

impl Write for Stream {
    async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.is_empty() { Ok(0) } else { self.outgoing.send(buf).await }
    }

    async fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Accepts connections.
pub struct Listener(mpsc::UnboundedReceiver<Stream>);

impl Listener {
    /// The next connection.
    pub async fn accept(&mut self) -> Stream {
        match self.0.recv().await {
            Some(stream) => stream,
            None => std::future::pending().await,
        }
    }
}

impl TcpConnect for Lan {
    type Error = io::Error;
    type Connection<'a> = Stream;

    async fn connect(&self, remote: SocketAddr) -> io::Result<Stream> {
        if !self.0.up.get() {
            return Err(broken());
        }
        self.0.clock.sleep(self.0.quality.get().latency * 2).await;
        while self.0.silent.get() {
            self.0.clock.sleep(Duration::from_millis(100)).await;
        }
        if !self.0.up.get() {
            return Err(broken());
        }
        let (down, up) = (self.wire(true), self.wire(false));
        let host = Stream { outgoing: Rc::clone(&down), incoming: Rc::clone(&up) };
        let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens");
        let listeners = self.0.listeners.borrow();
        listeners.get(&remote.port()).ok_or_else(refused)?.send(host).map_err(|_| refused())?;
        Ok(Stream { outgoing: up, incoming: down })
    }
}

impl Dns for Lan {
    type Error = io::Error;

    async fn get_host_by_name(&self, host: &str, _: AddrType) -> io::Result<IpAddr> {
        if host.ends_with(".invalid") {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no such name"));
        }
        Ok(HOST)
    }

    async fn get_host_by_address(&self, _: IpAddr, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "reverse lookup is not needed"))
    }
}

impl Link for Lan {
    fn is_up(&self) -> bool {
        self.0.up.get()
    }

    async fn reconnect(&mut self) -> Result<(), LinkError> {
        if self.0.jammed.get() {
            std::future::pending::<()>().await;
        }
        self.0.up.set(self.0.reachable.get());
        if self.0.up.get() { Ok(()) } else { Err(LinkError) }
    }

    fn reached_broker(&mut self) {
        self.0.reached_broker.set(self.0.reached_broker.get() + 1);
    }

    async fn restart(&mut self) {
        self.0.jammed.set(false);
        self.0.radio_restarts.set(self.0.radio_restarts.get() + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_megabyte_takes_as_long_as_the_link_wants() {
        let clock = SimClock::new(1.0);
        let lan = Lan::new(clock.clone(), Quality { rate: 100_000, ..Quality::HOME }, 1);
        let mut listener = lan.listen(80);
        let mut device = lan.connect((HOST, 80).into()).await.unwrap();
        let mut host = listener.accept().await;
        let sent = async {
            host.write_all(&vec![7; 1_000_000]).await.unwrap();
            drop(host);
        };
        let received = async {
            let (mut buf, mut total) = ([0; 4096], 0);
            loop {
                match device.read(&mut buf).await.unwrap() {
                    0 => return total,
                    count => total += count,
                }
            }
        };
        let (total, ()) = tokio::join!(received, sent);
        assert_eq!(total, 1_000_000);
        let seconds = clock.now().as_secs_f64();
        assert!((10.0..10.2).contains(&seconds), "{seconds} s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_is_an_error_and_silence_is_not() {
        let clock = SimClock::new(1.0);
        let lan = Lan::new(clock.clone(), Quality::HOME, 1);
        let mut listener = lan.listen(80);
        let mut device = lan.connect((HOST, 80).into()).await.unwrap();
        let mut host = listener.accept().await;
        lan.set_silent(true);
        host.write_all(b"lost").await.unwrap();
        let mut buf = [0; 8];
        let silence = tokio::time::timeout(Duration::from_secs(60), device.read(&mut buf)).await;
        assert!(silence.is_err());
        lan.set_silent(false);
        lan.reset_connections();
        assert_eq!(device.read(&mut buf).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert!(lan.connect((HOST, 81).into()).await.is_err(), "nobody listens at 81");
    }
}
