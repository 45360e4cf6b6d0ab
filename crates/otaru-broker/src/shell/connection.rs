//! A connection after its login: packets in, packets out, and silence.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;

use super::dismissal::see_off;
use super::login::log_in;
use super::shared::{Visit, now};
use super::wire::Wire;
use crate::codec::frame::{self, Cut, Frame};
use crate::codec::packet::Packet;
use crate::codec::writer::Manner;
use crate::policy::{Event, Policy};
use crate::reason::Reason;
use crate::router::{Accepted, Link, Reserved, Taken};

/// Takes a socket from its login to its end.
pub(super) async fn serve<P: Policy, S>(mut visit: Visit<P>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // In a box of its own, so that its memory is free again while the connection lasts.
    let logged_in = Box::pin(log_in(&mut visit, stream)).await;
    let Some((mut wire, accepted)) = logged_in else { return };
    let mut stay = Stay::new(visit, accepted);
    let end = stay.run(&mut wire).await;
    let manner = stay.manner;
    stay.reason = match end {
        End::Gone => None,
        End::Because(reason) => Some(stay.visit.signal.ending().unwrap_or(reason)),
    };
    let reason = stay.reason;
    let shared = Arc::clone(&stay.visit.shared);
    // Others are to know at once, before the last bytes are written.
    drop(stay);
    Box::pin(async move {
        match reason {
            Some(reason) => {
                let mut last = Vec::new();
                manner.disconnect(&mut last, reason);
                see_off(&shared.farewells, wire, &last).await;
            }
            // Who said goodbye may still want to know what became of the packets before that.
            None => wire.close_at_once(&[]).await,
        }
    })
    .await;
}

/// Packets that are taken before others have their turn: a connection may bring thousands of small ones at once.
const TURN: u8 = 64;

/// Longest packet of which a part may be kept without counting for anybody. Those of devices are no longer.
const SMALL: usize = 8 * 1024;

/// End of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client said goodbye, or the stream ended.
    Gone,
    /// This side ends it.
    Because(Reason),
}

impl From<Reason> for End {
    fn from(reason: Reason) -> Self {
        Self::Because(reason)
    }
}

/// Something that a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happening {
    Signal,
    Read,
    Written,
    Timeout,
    Gone,
    /// There is more to do without waiting.
    More,
}

/// A client's stay, which the router knows of until this is dropped.
struct Stay<P: Policy> {
    visit: Visit<P>,
    link: Link,
    identity: Arc<P::Identity>,
    client: Arc<str>,
    manner: Manner,
    packet_bytes: usize,
    /// Longest silence of the client.
    silence: Option<Duration>,
    heard: Instant,
    reason: Option<Reason>,
    /// Packets since others had their turn.
    turn: u8,
    /// Whether packets that came may be left.
    unread: bool,
    /// Memory for a long packet of which a part has come.
    half: Option<Box<Reserved>>,
}

impl<P: Policy> Drop for Stay<P> {
    fn drop(&mut self) {
        self.give_back();
        self.visit.shared.route(|router| router.lose(self.link, now()));
        let (identity, client, reason) = (&*self.identity, &*self.client, self.reason);
        self.visit.shared.policy.event(Event::Disconnected { identity, client, reason });
    }
}

impl<P: Policy> Stay<P> {
    fn new(visit: Visit<P>, accepted: Accepted<P::Identity>) -> Self {
        let keep_alive = Duration::from_secs(accepted.keep_alive.into());
        Self {
            visit,
            link: accepted.link,
            identity: accepted.identity,
            client: accepted.client,
            manner: accepted.manner,
            packet_bytes: accepted.packet_bytes,
            silence: Some(keep_alive * 3 / 2).filter(|silence| !silence.is_zero()),
            heard: now(),
            reason: None,
            turn: 0,
            unread: false,
            half: None,
        }
    }

    async fn run<S: AsyncRead + AsyncWrite + Unpin>(&mut self, wire: &mut Wire<S>) -> End {
        // A client may send on behind its CONNECT (MQTT 5, section 3.1.4). What has come by now is answered together with it: one write
        // here, and the client wakes up once.
        tokio::task::yield_now().await;
        wire.read_what_is_there(self.packet_bytes).await;
        let mut timer = pin!(tokio::time::sleep_until(self.deadline()));
        let mut has_more = true;
        loop {
            if let Some(reason) = self.visit.signal.ending() {
                return reason.into();
            }
            match self.work(wire, has_more) {
                Ok(more) => has_more = more,
                Err(end) => return end,
            }
            // A long walk has paused for others' sake, or many packets were taken.
            if has_more || self.turn >= TURN {
                self.turn = 0;
                tokio::task::yield_now().await;
            }
            match poll_fn(|context| self.poll(wire, has_more, timer.as_mut(), context)).await {
                Happening::More => {}
                Happening::Gone => return End::Gone,
                Happening::Signal => has_more = true,
                Happening::Read => self.heard = now(),
                Happening::Written => {}
                Happening::Timeout if tokio::time::Instant::now() >= self.deadline() => {
                    return Reason::KeepAliveTimeout.into();
                }
                Happening::Timeout => timer.as_mut().reset(self.deadline()),
            }
        }
    }

    /// Takes the packets that came, and then the next ones for the client. Returns whether there may be more of the latter.
    fn work<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        wire: &mut Wire<S>,
        has_more: bool,
    ) -> Result<bool, End> {
        let mut done = 0;
        let incoming = std::mem::take(&mut wire.incoming);
        let mut result = Ok(());
        self.unread = false;
        while !wire.out.is_full() && result.is_ok() {
            if self.turn >= TURN {
                self.unread = true;
                break;
            }
            match frame::cut(incoming.get(done..).unwrap_or_default(), self.packet_bytes) {
                Ok(Cut::Whole(packet)) => {
                    done += packet.length;
                    self.turn += 1;
                    self.give_back();
                    result = self.receive(&packet, wire.out.packets());
                }
                Ok(Cut::Partial(length)) => {
                    result = self.reserve(length.unwrap_or(0));
                    break;
                }
                Err(fault) => result = Err(fault.reason().into()),
            }
        }
        wire.incoming = incoming;
        wire.consume(done);
        result?;
        if wire.out.is_full() || !(has_more || done > 0) {
            return Ok(has_more || done > 0);
        }
        let taken = self.visit.shared.route(|router| router.take(self.link, now(), &mut wire.out))?;
        Ok(taken == Taken::More)
    }

    /// Counts a long packet of which a part has come.
    fn reserve(&mut self, length: usize) -> Result<(), End> {
        if length > SMALL && self.half.is_none() {
            let reserved = self.visit.shared.route(|router| router.reserve(self.link, length))?;
            self.half = Some(Box::new(reserved));
        }
        Ok(())
    }

    /// Counts it no longer.
    fn give_back(&mut self) {
        if let Some(half) = self.half.take() {
            self.visit.shared.route(|router| router.give_back(&half, now()));
        }
    }

    fn receive(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>) -> Result<(), End> {
        let packet = Packet::parse(self.manner.version, frame).map_err(|fault| fault.reason())?;
        let (link, shared) = (self.link, &self.visit.shared);
        match packet {
            Packet::Publish(publish) => {
                let mut has_more = shared.route(|router| {
                    router.publish(link, &publish, now(), out).map(|()| router.has_backlog())
                })?;
                while has_more {
                    has_more = shared.route(|router| router.work_off(now()));
                }
            }
            Packet::Ack(ack) => shared.route(|router| router.acknowledge(link, ack, out))?,
            Packet::Subscribe(wanted) => {
                let (mut filters, mut codes) = (wanted.filters(), Vec::new());
                while shared
                    .route(|router| router.subscribe(link, &mut filters, wanted.identifier, &mut codes))?
                {
                }
                self.ensure_taken(codes.len())?;
                self.manner.suback(out, wanted.id, &codes);
            }
            Packet::Unsubscribe(named) => {
                let (mut filters, mut codes) = (named.filters(), Vec::new());
                while shared.route(|router| router.unsubscribe(link, &mut filters, &mut codes))? {}
                self.ensure_taken(codes.len())?;
                self.manner.unsuback(out, named.id, &codes);
            }
            Packet::Ping => self.manner.pong(out),
            Packet::Disconnect(goodbye) => {
                shared.route(|router| router.goodbye(link, goodbye, now()))?;
                return Err(End::Gone);
            }
        }
        Ok(())
    }

    /// # Errors
    /// When an answer with so many codes is longer than the client takes.
    fn ensure_taken(&self, codes: usize) -> Result<(), End> {
        /// Fixed header, packet identifier and the length of no properties.
        const REST: usize = 5 + 2 + 1;
        match self.manner.largest < codes + REST {
            true => Err(Reason::PacketTooLarge.into()),
            false => Ok(()),
        }
    }

    fn deadline(&self) -> tokio::time::Instant {
        /// As good as never.
        const LONG: Duration = Duration::from_secs(365 * 24 * 3600);
        (self.heard + self.silence.unwrap_or(LONG)).into()
    }

    fn poll<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        wire: &mut Wire<S>,
        has_more: bool,
        timer: Pin<&mut Sleep>,
        context: &mut Context<'_>,
    ) -> Poll<Happening> {
        if self.visit.signal.poll(context).is_ready() {
            return Poll::Ready(Happening::Signal);
        }
        if wire.is_writing()
            && let Poll::Ready(written) = wire.poll_write(context)
        {
            return Poll::Ready(written.map_or(Happening::Gone, |()| Happening::Written));
        }
        if has_more && !wire.is_writing() || self.unread && !wire.out.is_full() {
            return Poll::Ready(Happening::More);
        }
        // Whoever does not read is not read from.
        if !wire.out.is_full()
            && let Poll::Ready(read) = wire.poll_read(context, self.packet_bytes)
        {
            return Poll::Ready(match read {
                Ok(1..) => Happening::Read,
                _ => Happening::Gone,
            });
        }
        timer.poll(context).map(|()| Happening::Timeout)
    }
}
