//! The user's side of a broker: who somebody is, what they may do, and what happened.

use std::fmt;
use std::hash::Hash;
use std::net::SocketAddr;

use crate::channel::Channel;
use crate::reason::Reason;
use crate::settings::{Bounds, Quota};
use crate::version::Version;

/// Name of whoever holds a connection: a device, a token, a program of the house.
pub trait Identity: Clone + Eq + Hash + fmt::Display + Send + Sync + 'static {}

impl<T: Clone + Eq + Hash + fmt::Display + Send + Sync + 'static> Identity for T {}

/// Password of a login; not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<[u8]>);

impl Password {
    /// Wraps the bytes of a password.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// Returns the bytes, to be compared.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// A login to be decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    /// Client id; empty if the broker is to choose one.
    pub client: String,
    /// User name, if given.
    pub username: Option<String>,
    /// Password, if given.
    pub password: Option<Password>,
    /// Address that it comes from.
    pub peer: SocketAddr,
    /// Proxy that named this address, if one did.
    pub proxy: Option<SocketAddr>,
    /// Version that it speaks.
    pub version: Version,
    /// Security of the stream that it came over.
    pub channel: Channel,
}

/// Consent to a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission<I> {
    /// Identity of the connection, of its session and of its messages.
    pub identity: I,
    /// Bounds of this identity from now on.
    pub bounds: Bounds,
    /// Identities that it is counted with, too.
    pub group: Option<Group>,
}

impl<I> Admission<I> {
    /// Admits an identity with the default bounds.
    pub fn new(identity: I) -> Self {
        Self { identity, bounds: Bounds::default(), group: None }
    }
}

/// Several identities that have one total, such as all devices that came with one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Name of the group.
    pub name: String,
    /// Holdings of the whole group.
    pub quota: Quota,
}

/// Refusal of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Reason code of 5; 3.1.1 is told the nearest of its own.
    pub reason: Reason,
    /// Sentence for the client (5 only) in place of the reason's own.
    pub text: Option<String>,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, text: None }
    }
}

/// Event on a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a, I> {
    /// A connection was let in.
    Connected {
        /// Owner of the connection.
        identity: &'a I,
        /// Client id.
        client: &'a str,
        /// Address that it comes from.
        peer: SocketAddr,
        /// Version that it speaks.
        version: Version,
        /// Whether it took the place of another with the same identity and client id, which is ended.
        takeover: bool,
        /// Whether it came over TLS.
        over_tls: bool,
    },
    /// A connection that had been let in is over. After a takeover this may come later than the new one's `Connected`.
    Disconnected {
        /// Owner of the connection.
        identity: &'a I,
        /// Client id.
        client: &'a str,
        /// Reason that it ended; none if the client went or was lost.
        reason: Option<Reason>,
    },
    /// A login was refused. This comes as often as strangers like: count it, but do not write a line for each.
    Refused {
        /// Client id, as far as it was told.
        client: &'a str,
        /// Address that it came from.
        peer: SocketAddr,
        /// Reason that the client was told.
        reason: Reason,
    },
}

/// Decisions that a broker asks for. Those that are not async are asked while the broker does nothing else, so they must be quick.
pub trait Policy: Send + Sync + 'static {
    /// Name of whoever holds a connection.
    type Identity: Identity;

    /// Decides who somebody is, within the time for a login.
    fn identify(
        &self,
        request: ConnectRequest,
    ) -> impl Future<Output = Result<Admission<Self::Identity>, Refusal>> + Send;

    /// Whether an identity may publish on a topic. Asked for each message; for a will at the login and when it is due.
    fn may_publish(&self, who: &Self::Identity, topic: &str) -> bool;

    /// Whether the will of an identity that is ended from outside may be published on a topic, where such wills are at all. Whoever is
    /// ended has no word any more, but others may have to hear that they are gone.
    fn may_publish_when_ended(&self, who: &Self::Identity, topic: &str) -> bool {
        self.may_publish(who, topic)
    }

    /// Whether an identity may subscribe to a filter. Asked for each subscription, and for those of a session that is taken up
    /// again; not for each message that it brings.
    fn may_subscribe(&self, who: &Self::Identity, filter: &str) -> bool;

    /// Takes notice of an event.
    fn event(&self, event: Event<'_, Self::Identity>) {
        let _ = event;
    }
}
