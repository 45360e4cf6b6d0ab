//! Packets of the lab's broker in both versions of MQTT, and what brokers of 3.1.1 answer to who speaks a newer one.

use mqtt5_protocol::QoS;
use mqtt5_protocol::packet::MqttPacket;
use mqtt5_protocol::packet::connack::ConnAckPacket;
use mqtt5_protocol::packet::puback::PubAckPacket;
use mqtt5_protocol::packet::publish::PublishPacket;
use mqtt5_protocol::packet::suback::{SubAckPacket, SubAckReasonCode};
use mqtt5_protocol::packet::unsuback::{UnsubAckPacket, UnsubAckReasonCode};

pub use mqtt5_protocol::ReasonCode;

/// Version number of MQTT 5 in a CONNECT.
pub(super) const V5: u8 = 5;

/// Answer of a broker that speaks 3.1.1 only to a CONNECT of version 5, as measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionRefusal {
    /// Return code 1 of 3.1.1, then the end: NATS, and Mosquitto asked for a version it does not know.
    Code,
    /// Reason 0x84 in the form of version 5: the library mqtt5.
    Reason,
    /// The end without a byte: RabbitMQ 3.10.
    Silence,
}

impl VersionRefusal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Code, Self::Reason, Self::Silence];

    /// The bytes.
    pub(super) const fn bytes(self) -> &'static [u8] {
        match self {
            Self::Code => &[0x20, 2, 0, 1],
            Self::Reason => &[0x20, 3, 0, 0x84, 0],
            Self::Silence => &[],
        }
    }
}

/// Answer to a device that wants to hear its own reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EchoPolicy {
    /// It may.
    #[default]
    Granted,
    /// The subscription is refused.
    Denied,
    /// The connection is closed.
    Closes,
    /// The subscription is never answered.
    Ignored,
}

/// Parts of a message on its way to a client.
pub(super) struct Outgoing<'a> {
    pub(super) id: u16,
    pub(super) topic: &'a str,
    pub(super) payload: &'a [u8],
    pub(super) retained: bool,
    pub(super) again: bool,
}

impl Outgoing<'_> {
    pub(super) fn encode(&self, level: u8) -> Vec<u8> {
        let (topic, payload) = (self.topic, self.payload.to_vec());
        let packet = match level {
            V5 => PublishPacket::new(topic, payload, QoS::AtLeastOnce),
            _ => PublishPacket::new_v311(topic, payload, QoS::AtLeastOnce),
        };
        encode(&packet.with_packet_id(self.id).with_retain(self.retained).with_dup(self.again))
    }
}

pub(super) fn connack(level: u8, reason: ReasonCode) -> Vec<u8> {
    encode(&match level {
        V5 => ConnAckPacket::new(false, reason),
        _ => ConnAckPacket::new_v311(false, reason),
    })
}

pub(super) fn suback(level: u8, id: u16, granted: &[bool]) -> Vec<u8> {
    let ack = if level == V5 { SubAckPacket::new(id) } else { SubAckPacket::new_v311(id) };
    let refusal =
        if level == V5 { SubAckReasonCode::NotAuthorized } else { SubAckReasonCode::UnspecifiedError };
    let reason = |granted: &bool| if *granted { SubAckReasonCode::GrantedQoS1 } else { refusal };
    encode(&granted.iter().map(reason).fold(ack, SubAckPacket::add_reason_code))
}

pub(super) fn unsuback(level: u8, id: u16) -> Vec<u8> {
    encode(&match level {
        V5 => UnsubAckPacket::new(id).add_reason_code(UnsubAckReasonCode::Success),
        _ => UnsubAckPacket::new_v311(id),
    })
}

/// An acknowledgement. With 3.1.1 it is the same for what was refused.
pub(super) fn puback(level: u8, id: u16, reason: ReasonCode) -> Vec<u8> {
    let reason = if level == V5 { reason } else { ReasonCode::Success };
    encode(&PubAckPacket::new_with_reason(id, reason))
}

fn encode(packet: &impl MqttPacket) -> Vec<u8> {
    let mut bytes = Vec::new();
    // These packets are built here and always valid.
    if packet.encode(&mut bytes).is_err() {
        bytes.clear();
    }
    bytes
}
