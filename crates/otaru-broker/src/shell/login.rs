//! The login of a connection: its first packet, the policy's decision, and the answer.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::dismissal::{Dismissal, dismiss, level, see_off};
use super::proxy::take_header;
use super::shared::{Shared, Visit, now};
use super::wire::Wire;
use crate::channel::Channel;
use crate::codec::connect::Connect;
use crate::codec::fault::Fault;
use crate::codec::frame::{self, Cut};
use crate::codec::writer::{Manner, Welcome};
use crate::policy::{Admission, ConnectRequest, Event, Password, Policy, Refusal};
use crate::reason::Reason;
use crate::router::{ASSIGNED_ID, Accepted, Router, Ticket, manner};
use crate::version::Version;

/// Beginning of a connection of TLS: a record of a handshake, and the first byte of a version.
const TLS: [u8; 2] = [0x16, 3];

/// Reason that a login came to nothing.
enum Failure {
    /// The stream ended or broke.
    Gone,
    /// The bytes are no CONNECT.
    Fault(Fault),
    /// It was sent away before it said CONNECT.
    SentAway(Reason),
    /// It was sent away as soon as its proxy had named it, when its CONNECT may not have come yet.
    TurnedBack(Reason),
    /// It was refused, in this manner.
    Refused(Manner, Refusal),
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// A login under way, which the router knows of until this is dropped.
struct OpenLogin<'s, P: Policy> {
    shared: &'s Shared<P>,
    ticket: Option<Ticket>,
}

impl<P: Policy> Drop for OpenLogin<'_, P> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.shared.route(|router: &mut Router<P>| router.abandon_login(&ticket));
        }
    }
}

/// Takes a stranger through its login, within the time for it. Returns none when it was sent away.
pub(super) async fn log_in<P: Policy, S: AsyncRead + AsyncWrite + Unpin>(
    visit: &mut Visit<P>,
    stream: S,
) -> Option<(Wire<S>, Accepted<P::Identity>)> {
    let mut wire = Wire::new(stream);
    let time = visit.shared.settings.strangers.time;
    let signal = Arc::clone(&visit.signal);
    let mut client = String::new();
    let evicted = poll_fn(|context| {
        let _ = signal.poll(context);
        signal.ending().map_or(Poll::Pending, Poll::Ready)
    });
    let outcome = tokio::select! {
        reason = evicted => Err(reason),
        outcome = timeout(time, attempt(visit, &mut wire, &mut client)) => outcome.map_err(|_| Reason::KeepAliveTimeout),
    };
    let (reason, words, answer) = match outcome {
        Ok(Ok(accepted)) => return Some((wire, accepted)),
        Ok(Err(Failure::Gone)) => return None,
        Err(reason) | Ok(Err(Failure::SentAway(reason))) => {
            tell_refusal(visit, &client, reason, &reason);
            visit.leave();
            dismiss(wire, reason).await;
            return None;
        }
        Ok(Err(Failure::TurnedBack(reason))) => {
            tell_refusal(visit, &client, reason, &reason);
            visit.leave();
            match Dismissal::begin(&visit.shared.dismissals, reason) {
                Some(dismissal) => dismissal.serve(wire, false).await,
                None => dismiss(wire, reason).await,
            }
            return None;
        }
        Ok(Err(Failure::Fault(fault))) => {
            (fault.reason(), fault.to_string(), answer_to(fault, &wire.incoming))
        }
        Ok(Err(Failure::Refused(manner, refusal))) => {
            let mut answer = Vec::new();
            manner.refuse(&mut answer, refusal.reason, refusal.text.as_deref());
            let words = refusal.text.unwrap_or_else(|| refusal.reason.to_string());
            if refusal.reason == Reason::ServerUnavailable {
                // Nobody could decide: that is no failure of its address.
                visit.forgive();
            }
            (refusal.reason, words, answer)
        }
    };
    tell_refusal(visit, &client, reason, &words);
    visit.leave();
    if !answer.is_empty() {
        see_off(&visit.shared.farewells, wire, &answer).await;
    }
    None
}

/// Tells the log and the policy that somebody was sent away.
fn tell_refusal<P: Policy>(visit: &Visit<P>, client: &str, reason: Reason, words: &dyn fmt::Display) {
    visit.shared.note_refusal(visit.peer, client, words);
    visit.shared.policy.event(Event::Refused { client, peer: visit.peer, reason });
}

/// Returns the CONNACK for a CONNECT that could not be read; nothing if its version is not known.
fn answer_to(fault: Fault, incoming: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    let version = match (fault, level(incoming)) {
        (Fault::Version(0..5), _) => Some(Version::V311),
        (Fault::Version(_), _) | (_, Some(5)) => Some(Version::V5),
        _ => None,
    };
    if let Some(version) = version {
        let manner = Manner { version, largest: usize::MAX, reasons: true };
        match fault {
            // Brokers of 5 answer a level that they do not know without a sentence.
            Fault::Version(5..) => answer.extend([0x20, 3, 0, fault.reason().code(), 0]),
            _ => manner.refuse(&mut answer, fault.reason(), Some(&fault.to_string())),
        }
    }
    answer
}

async fn attempt<P: Policy, S: AsyncRead + AsyncWrite + Unpin>(
    visit: &mut Visit<P>,
    wire: &mut Wire<S>,
    client: &mut String,
) -> Result<Accepted<P::Identity>, Failure> {
    if visit.is_proxy {
        behind_proxy(visit, wire).await?;
    }
    let limit = visit.shared.settings.strangers.connect_bytes;
    let length = first_packet(wire, limit).await?;
    let first = wire.incoming.get(..length).unwrap_or_default().to_vec();
    let Cut::Whole(packet) = frame::cut(&first, limit).map_err(Failure::Fault)? else {
        return Err(Failure::Gone);
    };
    let connect = Connect::parse(&packet).map_err(Failure::Fault)?;
    connect.client.clone_into(client);
    let manner = manner(&connect);
    let refused = |refusal| Failure::Refused(manner, refusal);
    let accepted = decide(visit, &connect).await.map_err(refused)?;
    wire.consume(length);
    manner.welcome(wire.out.packets(), &welcome(&accepted, &connect, visit));
    visit.shared.policy.event(Event::Connected {
        identity: &accepted.identity,
        client: &accepted.client,
        peer: visit.peer,
        version: connect.version,
        takeover: accepted.takeover,
        over_tls: matches!(visit.channel.get(), Channel::Tls { .. }),
    });
    Ok(accepted)
}

/// Learns from a proxy who is behind it, if it says so.
async fn behind_proxy<P: Policy, S: AsyncRead + AsyncWrite + Unpin>(
    visit: &mut Visit<P>,
    wire: &mut Wire<S>,
) -> Result<(), Failure> {
    let sender = take_header(wire).await.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => Failure::SentAway(Reason::MalformedPacket),
        _ => Failure::Gone,
    })?;
    sender.map_or(Ok(()), |sender| visit.come_from(sender)).map_err(Failure::TurnedBack)
}

/// Reads the first packet; returns its length.
async fn first_packet<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    limit: usize,
) -> Result<usize, Failure> {
    loop {
        if wire.incoming.starts_with(&TLS) {
            return Err(Failure::Fault(Fault::Tls));
        }
        if let Cut::Whole(packet) = frame::cut(&wire.incoming, limit).map_err(Failure::Fault)? {
            return Ok(packet.length);
        }
        // What cannot become a CONNECT is not waited for.
        if wire.incoming.first().is_some_and(|first| first >> 4 != 1) {
            return Err(Failure::Fault(Fault::Protocol));
        }
        if poll_fn(|context| wire.poll_read(context, limit)).await? == 0 {
            return Err(Failure::Gone);
        }
    }
}

async fn decide<P: Policy>(
    visit: &mut Visit<P>,
    connect: &Connect<'_>,
) -> Result<Accepted<P::Identity>, Refusal> {
    if connect.enhanced_authentication {
        return Err(Reason::BadAuthenticationMethod.into());
    }
    if connect.client.is_empty() && connect.version == Version::V311 && !connect.clean {
        return Err(Reason::ClientIdentifierNotValid.into());
    }
    if connect.maximum_packet_size.is_some_and(|bytes| (bytes as usize) < least_packet(connect)) {
        // It could not be told the terms (MQTT 5, section 3.1.2.11.4).
        return Err(Reason::PacketTooLarge.into());
    }
    visit.hear()?;
    let shared = Arc::clone(&visit.shared);
    let mut login = OpenLogin { shared: &shared, ticket: Some(shared.route(Router::begin_login)) };
    let admission = shared.policy.identify(request(visit, connect)).await?;
    visit.admit();
    let accepted = arrive(visit, &admission, connect, login.ticket.take())?;
    visit.forgive();
    Ok(accepted)
}

/// Returns the bytes of a packet that a client must take, to be welcomed.
fn least_packet(connect: &Connect<'_>) -> usize {
    let assigned = if connect.client.is_empty() { Welcome::ASSIGNED + ASSIGNED_ID } else { 0 };
    Welcome::LONGEST + assigned
}

fn arrive<P: Policy>(
    visit: &Visit<P>,
    admission: &Admission<P::Identity>,
    connect: &Connect<'_>,
    ticket: Option<Ticket>,
) -> Result<Accepted<P::Identity>, Reason> {
    let ticket = ticket.ok_or(Reason::Unspecified)?;
    let signal = Arc::clone(&visit.signal);
    visit.shared.route(|router| match visit.shared.is_stopping() {
        // All who are inside are ended, or have been already.
        true => {
            router.abandon_login(&ticket);
            Err(Reason::ServerShuttingDown)
        }
        false => router.arrive(&ticket, admission, connect, signal, now()),
    })
}

fn request<P: Policy>(visit: &Visit<P>, connect: &Connect<'_>) -> ConnectRequest {
    ConnectRequest {
        client: connect.client.to_owned(),
        username: connect.username.map(str::to_owned),
        password: connect.password.map(Password::new),
        peer: visit.peer,
        proxy: visit.proxy.as_deref().copied(),
        version: connect.version,
        channel: visit.channel.get(),
    }
}

fn welcome<'a, P: Policy>(
    accepted: &'a Accepted<P::Identity>,
    connect: &Connect<'_>,
    visit: &Visit<P>,
) -> Welcome<'a> {
    let differs = accepted.session_expiry != connect.session_expiry;
    Welcome {
        session_present: accepted.session_present,
        assigned_client: accepted.assigned.then_some(&*accepted.client),
        receive_maximum: visit.shared.settings.receive_maximum,
        maximum_packet_size: u32::try_from(accepted.packet_bytes).unwrap_or(u32::MAX),
        keep_alive: (accepted.keep_alive != connect.keep_alive).then_some(accepted.keep_alive),
        session_expiry: differs.then_some(accepted.session_expiry),
    }
}
