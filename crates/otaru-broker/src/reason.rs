//! Reason codes of MQTT 5, their sentences, and the return codes of 3.1.1 that come nearest.

/// Reason code of MQTT 5, as far as this broker sends them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
#[non_exhaustive]
pub enum Reason {
    /// Done; also: disconnected as agreed, QoS 0 granted.
    #[error("success")]
    Success = 0x00,
    /// An UNSUBSCRIBE for a filter that was not subscribed to.
    #[error("there was no such subscription")]
    NoSubscriptionExisted = 0x11,
    /// Refused without a reason that may be told.
    #[error("refused")]
    Unspecified = 0x80,
    /// Bytes that are no packet.
    #[error("the bytes are no MQTT packet")]
    MalformedPacket = 0x81,
    /// A packet that is not allowed, or not now.
    #[error("the packet breaks a rule of the protocol")]
    ProtocolError = 0x82,
    /// A version other than 5 and 3.1.1.
    #[error("this broker speaks MQTT 5 and 3.1.1")]
    UnsupportedProtocolVersion = 0x84,
    /// A client id that this broker does not take.
    #[error("this client id is not allowed here")]
    ClientIdentifierNotValid = 0x85,
    /// A wrong user name or password.
    #[error("user name or password is wrong")]
    BadUserNameOrPassword = 0x86,
    /// Something this identity may not do.
    #[error("this login may not do that")]
    NotAuthorized = 0x87,
    /// The policy could not be asked.
    #[error("logins cannot be checked at present; try again later")]
    ServerUnavailable = 0x88,
    /// Bounds of the whole broker are reached.
    #[error("the broker is full; try again later")]
    ServerBusy = 0x89,
    /// The broker stops.
    #[error("the broker is shutting down")]
    ServerShuttingDown = 0x8B,
    /// Enhanced authentication, which is declined.
    #[error("enhanced authentication is not offered; use user name and password")]
    BadAuthenticationMethod = 0x8C,
    /// Silence for one and a half times the keep-alive.
    #[error("nothing was heard within one and a half times the keep-alive")]
    KeepAliveTimeout = 0x8D,
    /// Another connection with the same login and client id.
    #[error("another connection uses this client id")]
    SessionTakenOver = 0x8E,
    /// A filter that is none, or has too many levels.
    #[error("this is no topic filter, or it has more than 128 levels")]
    TopicFilterInvalid = 0x8F,
    /// A topic with wildcards or too many levels.
    #[error("no message can have this topic")]
    TopicNameInvalid = 0x90,
    /// An answer to a packet identifier that is not in use.
    #[error("this packet identifier is not in use")]
    PacketIdentifierNotFound = 0x92,
    /// More unfinished messages than the broker's receive maximum.
    #[error("more messages are unfinished than the receive maximum allows")]
    ReceiveMaximumExceeded = 0x93,
    /// A topic alias, of which there are none here.
    #[error("topic aliases are not offered")]
    TopicAliasInvalid = 0x94,
    /// A packet above the maximum packet size.
    #[error("the packet is larger than the maximum packet size")]
    PacketTooLarge = 0x95,
    /// A bound of this identity is reached.
    #[error("a limit of this login is reached")]
    QuotaExceeded = 0x97,
    /// Ended by the operator of the broker.
    #[error("ended by the server's administration")]
    AdministrativeAction = 0x98,
    /// Shared subscriptions, which are declined.
    #[error("shared subscriptions are not offered")]
    SharedSubscriptionsNotSupported = 0x9E,
    /// Too many connects in a short time.
    #[error("this login connects too often; wait a little")]
    ConnectionRateExceeded = 0x9F,
}

impl Reason {
    /// Returns the number on the wire.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Tells whether this refuses or ends something.
    pub fn is_error(self) -> bool {
        self.code() >= 0x80
    }

    /// Returns the reason that CONNACK can tell and that comes nearest: some are for DISCONNECT only.
    pub(crate) fn in_connack(self) -> Self {
        match self {
            Self::ServerShuttingDown => Self::ServerUnavailable,
            Self::AdministrativeAction | Self::SessionTakenOver => Self::NotAuthorized,
            Self::KeepAliveTimeout => Self::ServerBusy,
            other => other,
        }
    }

    /// Returns the CONNACK code of 3.1.1 that comes nearest.
    pub fn return_code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::UnsupportedProtocolVersion => 1,
            Self::ClientIdentifierNotValid => 2,
            Self::BadUserNameOrPassword => 4,
            Self::NotAuthorized => 5,
            _ => 3,
        }
    }
}
