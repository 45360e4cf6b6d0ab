//! Faults of a peer's bytes, and the reason code that a peer is told for each.

use crate::reason::Reason;

/// Fault in the bytes of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// Bytes that are no packet of this version.
    #[error("the bytes are no MQTT packet; look whether the client speaks another protocol here")]
    Malformed,
    /// Beginning of a connection of TLS.
    #[error("TLS is not spoken at this port; use mqtt://, or the port for mqtts://")]
    Tls,
    /// A packet that the protocol does not allow, or not now.
    #[error("the packet breaks a rule of the protocol; the client is to be corrected")]
    Protocol,
    /// A packet above the size that was told in CONNACK.
    #[error("the packet is larger than this broker takes; send less in one message")]
    TooLarge,
    /// A topic alias, of which there are none here.
    #[error("topic aliases are declined; send the topic with each message")]
    TopicAlias,
    /// A topic with wildcards or too many levels.
    #[error("no message can have this topic; leave out wildcards and keep to 128 levels")]
    TopicName,
    /// A version of MQTT other than 5 and 3.1.1.
    #[error("MQTT {0} is not spoken here; use 5 or 3.1.1")]
    Version(u8),
}

impl Fault {
    /// Returns the reason code of version 5 for this fault.
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::Malformed | Self::Tls => Reason::MalformedPacket,
            Self::Protocol => Reason::ProtocolError,
            Self::TooLarge => Reason::PacketTooLarge,
            Self::TopicAlias => Reason::TopicAliasInvalid,
            Self::TopicName => Reason::TopicNameInvalid,
            Self::Version(_) => Reason::UnsupportedProtocolVersion,
        }
    }
}
