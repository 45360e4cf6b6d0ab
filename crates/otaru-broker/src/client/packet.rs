//! Packets of a client, in both versions: those that it sends as bytes, and those that come, read. Sans-I/O.

use std::time::Duration;

use mqtt_protocol_core::mqtt::Arc;
use mqtt_protocol_core::mqtt::packet::{
    MaximumPacketSize, MessageExpiryInterval, Properties, Property, Qos, SubEntry, SubOpts, v3_1_1, v5_0,
};
use mqtt_protocol_core::mqtt::result_code::MqttError;

use super::frame::LONGEST_PACKET;
use super::message::Message;
use super::url::Login;
use super::version::Level;
use super::words;

/// PINGREQ, the same in both versions (MQTT 5, section 3.12).
pub(super) const PINGREQ: [u8; 2] = [0xC0, 0];
/// DISCONNECT without a reason, the same in both versions (MQTT 5, section 3.14).
pub(super) const DISCONNECT: [u8; 2] = [0xE0, 0];
/// Bytes of the largest head of a packet: its type and a length of four bytes.
const HEAD: usize = 5;

/// CONNECT of a session that begins clean and ends with the connection.
pub(super) fn connect(
    level: Level,
    client: &str,
    keep_alive: Duration,
    login: Option<&Login>,
) -> Result<Vec<u8>, MqttError> {
    let seconds = u16::try_from(keep_alive.as_secs()).unwrap_or(u16::MAX);
    // The two builders share names only.
    macro_rules! connect {
        ($builder:expr) => {{
            let mut connect = $builder.client_id(client)?.keep_alive(seconds);
            if let Some(login) = login {
                connect = connect.user_name(login.username.as_str())?.password(login.password.expose())?;
            }
            connect
        }};
    }
    Ok(match level {
        Level::V5 => {
            let longest = u32::try_from(LONGEST_PACKET + HEAD).unwrap_or(u32::MAX);
            let props: Properties = vec![Property::MaximumPacketSize(MaximumPacketSize::new(longest)?)];
            let connect = connect!(v5_0::Connect::builder()).clean_start(true).props(props).build()?;
            connect.to_continuous_buffer()
        }
        Level::V311 => {
            connect!(v3_1_1::Connect::builder()).clean_session(true).build()?.to_continuous_buffer()
        }
    })
}

/// SUBSCRIBE to one filter at QoS 1.
pub(super) fn subscribe(level: Level, id: u16, filter: &str) -> Result<Vec<u8>, MqttError> {
    let entries = vec![SubEntry::new(filter, SubOpts::new().set_qos(Qos::AtLeastOnce))?];
    Ok(match level {
        Level::V5 => {
            v5_0::Subscribe::builder().packet_id(id).entries(entries).build()?.to_continuous_buffer()
        }
        Level::V311 => {
            v3_1_1::Subscribe::builder().packet_id(id).entries(entries).build()?.to_continuous_buffer()
        }
    })
}

/// A message on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) retain: bool,
    /// Time after which the broker forgets it; 3.1.1 cannot say so.
    pub(super) expiry: Option<Duration>,
}

/// PUBLISH at QoS 1, or at QoS 0 without an identifier.
pub(super) fn publish(level: Level, message: &Outgoing, id: Option<u16>) -> Result<Vec<u8>, MqttError> {
    let qos = if id.is_some() { Qos::AtLeastOnce } else { Qos::AtMostOnce };
    macro_rules! publish {
        ($builder:expr) => {{
            let publish = $builder.topic_name(message.topic.as_str())?.qos(qos).retain(message.retain);
            let publish = publish.payload(message.payload.as_slice());
            match id {
                Some(id) => publish.packet_id(id),
                None => publish,
            }
        }};
    }
    Ok(match level {
        Level::V5 => {
            let seconds =
                message.expiry.map(|expiry| u32::try_from(expiry.as_secs()).unwrap_or(u32::MAX).max(1));
            let expiry = seconds.map(MessageExpiryInterval::new).transpose()?;
            let props: Properties = expiry.map(Property::MessageExpiryInterval).into_iter().collect();
            publish!(v5_0::Publish::builder()).props(props).build()?.to_continuous_buffer()
        }
        Level::V311 => publish!(v3_1_1::Publish::builder()).build()?.to_continuous_buffer(),
    })
}

/// PUBACK of success, the same in both versions (MQTT 5, section 3.4.2.1).
pub(super) fn puback(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [0x40, 2, high, low]
}

/// Limits that a broker of MQTT 5 tells; one of 3.1.1 tells none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limits {
    /// QoS 1 messages under way at once.
    pub(super) under_way: usize,
    /// Bytes of a packet.
    pub(super) packet: usize,
    /// Whether QoS 1 is taken.
    pub(super) qos1: bool,
    /// Whether retained messages are taken.
    pub(super) retain: bool,
    /// Time after which the broker ends a silent connection, where it wants another than was asked for.
    pub(super) keep_alive: Option<Duration>,
}

impl Default for Limits {
    /// Those of a broker that tells none (MQTT 5, section 3.2.2.3).
    fn default() -> Self {
        Self {
            under_way: usize::from(u16::MAX),
            packet: usize::MAX,
            qos1: true,
            retain: true,
            keep_alive: None,
        }
    }
}

impl Limits {
    fn told_by(connack: &v5_0::Connack) -> Self {
        let mut limits = Self::default();
        for property in connack.props() {
            match property {
                Property::ReceiveMaximum(most) => limits.under_way = usize::from(most.val()).max(1),
                Property::MaximumPacketSize(most) => {
                    limits.packet = usize::try_from(most.val()).unwrap_or(usize::MAX)
                }
                Property::MaximumQos(qos) => limits.qos1 = qos.val() > 0,
                Property::RetainAvailable(retain) => limits.retain = retain.val() != 0,
                Property::ServerKeepAlive(seconds) if seconds.val() > 0 => {
                    limits.keep_alive = Some(Duration::from_secs(seconds.val().into()));
                }
                _ => {}
            }
        }
        limits
    }
}

/// CONNACK, whichever version's it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Connack {
    /// The broker lets us in.
    Accepted(Limits),
    /// It does not speak this version.
    WrongVersion,
    /// The login is missing or wrong.
    Login,
    /// Another refusal, in words.
    Refused(String),
}

/// Reads a CONNACK's body as an answer to a CONNECT of this version. Two bytes are 3.1.1's form, more are 5's: a broker of the other
/// version answers in its own.
pub(super) fn connack(level: Level, body: &[u8]) -> Result<Connack, MqttError> {
    match (body, level) {
        (&[_, 0], Level::V311) => Ok(Connack::Accepted(Limits::default())),
        // It took the CONNECT for one of 3.1.1, whose session this cannot be.
        (&[_, 0 | 1], _) | (&[_, 0x84, ..], _) => Ok(Connack::WrongVersion),
        (&[_, 4 | 5], _) | (&[_, 0x86 | 0x87 | 0x8C, ..], _) => Ok(Connack::Login),
        (&[_, 2], _) => Ok(Connack::Refused("it does not want this client id".into())),
        (&[_, 3], _) => Ok(Connack::Refused("it is not available now".into())),
        (&[_, 0, _, ..], Level::V5) => {
            let connack = whole(v5_0::Connack::parse(body), body)?;
            Ok(Connack::Accepted(Limits::told_by(&connack)))
        }
        (&[_, code, ..], _) if code != 0 => {
            let told = v5_0::Connack::parse(body);
            Ok(Connack::Refused(words::reason(code, told.ok().as_ref().map(|(connack, _)| connack.props()))))
        }
        _ => Err(MqttError::MalformedPacket),
    }
}

/// A packet that came.
#[derive(Debug)]
pub(super) enum Packet {
    /// A message, and the identifier to acknowledge it with.
    Message(Message, Option<u16>),
    /// The answer to a PUBLISH: why it was refused, if it was.
    PublishAnswer(u16, Option<String>),
    /// The answer to a SUBSCRIBE: why it was refused, if it was.
    SubscribeAnswer(u16, Option<String>),
    /// The answer to a PINGREQ.
    Pong,
    /// The broker ends the connection, for this reason.
    Goodbye(String),
}

/// Reads a packet that comes after the CONNACK.
pub(super) fn read(level: Level, first: u8, body: Vec<u8>) -> Result<Packet, MqttError> {
    match (first >> 4, level) {
        (3, Level::V5) => {
            let bytes: Arc<[u8]> = body.into();
            let (publish, _) = v5_0::Publish::parse(first & 0x0F, bytes)?;
            message(
                publish.topic_name(),
                publish.payload().as_slice(),
                publish.retain(),
                publish.qos(),
                publish.packet_id(),
            )
        }
        (3, Level::V311) => {
            let bytes: Arc<[u8]> = body.into();
            let (publish, _) = v3_1_1::Publish::parse(first & 0x0F, bytes)?;
            message(
                publish.topic_name(),
                publish.payload().as_slice(),
                publish.retain(),
                publish.qos(),
                publish.packet_id(),
            )
        }
        (4, Level::V5) => {
            let puback = whole(v5_0::Puback::parse(&body), &body)?;
            let code = puback.reason_code().map_or(0, |code| code as u8);
            Ok(Packet::PublishAnswer(puback.packet_id(), refusal(code, puback.props().as_ref())))
        }
        (4, Level::V311) => match *body {
            [high, low] => Ok(Packet::PublishAnswer(u16::from_be_bytes([high, low]), None)),
            _ => Err(MqttError::MalformedPacket),
        },
        (9, Level::V5) => {
            let suback = whole(v5_0::Suback::parse(&body), &body)?;
            let code = suback.reason_codes().first().map_or(0x80, |code| *code as u8);
            Ok(Packet::SubscribeAnswer(suback.packet_id(), refusal(code, Some(suback.props()))))
        }
        (9, Level::V311) => {
            let suback = whole(v3_1_1::Suback::parse(&body), &body)?;
            let is_granted = suback.return_codes().first().is_some_and(|code| code.is_success());
            let refusal = (!is_granted).then(|| "it gives no reason".to_owned());
            Ok(Packet::SubscribeAnswer(suback.packet_id(), refusal))
        }
        (13, _) if body.is_empty() => Ok(Packet::Pong),
        (14, Level::V5) => {
            let goodbye = whole(v5_0::Disconnect::parse(&body), &body)?;
            let code = goodbye.reason_code().map_or(0, |code| code as u8);
            Ok(Packet::Goodbye(words::reason(code, goodbye.props().as_ref())))
        }
        _ => Err(MqttError::ProtocolError),
    }
}

fn message(
    topic: &str,
    payload: &[u8],
    retained: bool,
    qos: Qos,
    id: Option<u16>,
) -> Result<Packet, MqttError> {
    // Nobody subscribes at QoS 2, and a topic's alias, which is what an empty topic stands for, was not allowed.
    if qos == Qos::ExactlyOnce || topic.is_empty() || id == Some(0) {
        return Err(MqttError::ProtocolError);
    }
    Ok(Packet::Message(Message { topic: topic.to_owned(), payload: payload.to_vec(), retained }, id))
}

/// Returns a packet that was read to the end of its body.
fn whole<T>(parsed: Result<(T, usize), MqttError>, body: &[u8]) -> Result<T, MqttError> {
    let (packet, len) = parsed?;
    if len == body.len() { Ok(packet) } else { Err(MqttError::MalformedPacket) }
}

/// Returns the words for a code, if it is that of a failure.
fn refusal(code: u8, props: Option<&Properties>) -> Option<String> {
    (code >= 0x80).then(|| words::reason(code, props))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_connack_is_read_by_its_length() {
        let accepted = || Connack::Accepted(Limits::default());
        let refused = |why: &str| Connack::Refused(why.into());
        for (body, under_5, under_311) in [
            (&[0, 0][..], Connack::WrongVersion, accepted()),
            (&[0, 1], Connack::WrongVersion, Connack::WrongVersion),
            (&[0, 2], refused("it does not want this client id"), refused("it does not want this client id")),
            (&[0, 3], refused("it is not available now"), refused("it is not available now")),
            (&[0, 4], Connack::Login, Connack::Login),
            (&[0, 5], Connack::Login, Connack::Login),
            (&[0, 0x84, 0], Connack::WrongVersion, Connack::WrongVersion),
            (&[0, 0x87, 0], Connack::Login, Connack::Login),
            (&[0, 0x88, 0], refused("server unavailable"), refused("server unavailable")),
            (&[0, 0x8B, 0], refused("server shutting down"), refused("server shutting down")),
            (&[0, 0x42, 0], refused("reason 0x42"), refused("reason 0x42")),
        ] {
            assert_eq!(connack(Level::V5, body), Ok(under_5), "{body:x?}");
            assert_eq!(connack(Level::V311, body), Ok(under_311), "{body:x?}");
        }
        assert_eq!(connack(Level::V5, &[0, 0, 0]), Ok(accepted()));
        for bad in [&[][..], &[0], &[0, 0, 9]] {
            assert!(connack(Level::V5, bad).is_err(), "{bad:x?}");
        }
        assert!(connack(Level::V311, &[0, 0, 0]).is_err());
    }

    #[test]
    fn limits_are_read() {
        let body = [0, 0, 15, 0x21, 0, 20, 0x27, 0, 0, 1, 0, 0x24, 0, 0x25, 0, 0x13, 0, 7];
        let wanted = Limits {
            under_way: 20,
            packet: 256,
            qos1: false,
            retain: false,
            keep_alive: Some(Duration::from_secs(7)),
        };
        assert_eq!(connack(Level::V5, &body), Ok(Connack::Accepted(wanted)));
        // Neither may be 0 (sections 3.2.2.3.3 and 3.2.2.3.6).
        assert!(connack(Level::V5, &[0, 0, 3, 0x21, 0, 0]).is_err());
        assert!(connack(Level::V5, &[0, 0, 5, 0x27, 0, 0, 0, 0]).is_err());
    }

    #[test]
    fn expiry_is_told_where_there_is_a_place_for_it() {
        let message = |expiry| Outgoing { topic: "a".into(), payload: b"x".to_vec(), retain: true, expiry };
        let short = Some(Duration::from_millis(10));
        let five = publish(Level::V5, &message(short), Some(258)).unwrap();
        assert_eq!(five, [0x33, 12, 0, 1, b'a', 1, 2, 5, 2, 0, 0, 0, 1, b'x'], "at least a second");
        let three = publish(Level::V311, &message(short), Some(258)).unwrap();
        assert_eq!(three, [0x33, 6, 0, 1, b'a', 1, 2, b'x']);
        let without_id = publish(Level::V5, &message(None), None).unwrap();
        assert_eq!(without_id, [0x31, 5, 0, 1, b'a', 0, b'x']);
    }

    #[test]
    fn what_the_broker_may_not_send_is_an_error() {
        for (first, body) in [
            (0x34, &[0, 1, b'a', 0, 1, 0][..]), // QoS 2
            (0x36, &[0, 1, b'a', 0, 1, 0]),
            (0x30, &[0, 0, 0]), // no topic
            (0x32, &[0, 1, b'a', 0, 0, 0]),
            (0x10, &[]),
            (0x40, &[0]),
            (0x90, &[0, 1]),
            (0xD0, &[0]),
        ] {
            for level in [Level::V5, Level::V311] {
                assert!(read(level, first, body.to_vec()).is_err(), "{first:x} {body:x?} {level}");
            }
        }
        assert!(read(Level::V311, 0xE0, Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(first: u8, body in prop::collection::vec(any::<u8>(), 0..200)) {
            for level in [Level::V5, Level::V311] {
                let _ = read(level, first, body.clone());
                let _ = connack(level, &body);
            }
        }
    }
}
