//! One MQTT 5 connection, on `rust-mqtt`: what the session needs of it and nothing else.
//!
//! Every call is bounded in time. After an error the connection is dropped, never repaired.

mod arena;
mod buffered;

use core::fmt;
use core::num::{NonZeroU16, NonZeroU32};
use core::time::Duration;

use buffered::Buffered;
pub(crate) use buffered::Buffers;
use embedded_io_async::{Read, Write};
use otaru_format::command::MAX_COMMAND;
use otaru_format::topic::Topics;
use rust_mqtt::Bytes;
use rust_mqtt::buffer::BumpBuffer;
use rust_mqtt::client::event::Event;
use rust_mqtt::client::options::{
    ConnectOptions, PublicationOptions, SubscriptionOptions, TopicReference, WillOptions,
};
use rust_mqtt::client::{Client, MqttError};
use rust_mqtt::config::{KeepAlive, SessionExpiryInterval};
use rust_mqtt::types::{MqttBinary, MqttString, QoS, ReasonCode, TopicFilter, TopicName};

use crate::board::Clock;
use crate::config::Config;
use crate::timeout::within;

/// Bytes an incoming packet may need; longer ones are refused by the broker, which was told.
pub(crate) const PACKET: usize = MAX_COMMAND + 256;

/// How long the broker keeps the session, and with it commands sent meanwhile, for a device that is away.
const SESSION_EXPIRY: NonZeroU32 = NonZeroU32::new(24 * 3600).unwrap();

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The socket failed or was closed.
    Network,
    /// The broker did not answer in time.
    Silent,
    /// The broker refused or closed, with its reason code (MQTT 5 section 2.4).
    Refused(u8),
    /// The broker broke the protocol.
    Protocol,
    /// A topic or name cannot be used.
    BadName,
}

impl Ended {
    /// Reasons that will not go away by trying again soon: bad login, not authorised, banned, taken over.
    pub(crate) fn is_lasting(self) -> bool {
        matches!(self, Self::Refused(0x85 | 0x86 | 0x87 | 0x8A | 0x8C | 0x8E) | Self::BadName)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network => f.write_str("connection lost"),
            Self::Silent => f.write_str("no answer in time"),
            Self::Refused(0x86) => f.write_str("the broker refused the user name or password"),
            Self::Refused(0x87) => {
                f.write_str("the broker says: not authorised (user name, password or access rules)")
            }
            Self::Refused(0x8E) => f.write_str("another client uses this device's name"),
            Self::Refused(code) => write!(f, "the broker ended it with reason 0x{code:02x}"),
            Self::Protocol => f.write_str("the broker broke the protocol"),
            Self::BadName => f.write_str("device or topic name cannot be used"),
        }
    }
}

impl<const N: usize> From<MqttError<'_, N>> for Ended {
    fn from(error: MqttError<'_, N>) -> Self {
        match error {
            MqttError::Network(_) | MqttError::RecoveryRequired => Self::Network,
            MqttError::Disconnect { reason, .. } => Self::Refused(reason.value()),
            _ => Self::Protocol,
        }
    }
}

/// What arrived.
pub(crate) enum Incoming {
    /// Nothing the session must know.
    Other,
    /// The broker took our QoS 1 publication.
    Accepted,
    /// The broker refused our QoS 1 publication, and would again (its access list, its quota).
    Rejected,
    /// The broker answered a ping.
    Pong,
}

type Mqtt<'c, S> = Client<'c, 'c, Buffered<'c, S>, BumpBuffer<'c>, 2, 8, 2, 1, 1, 0, 0>;

/// An open connection.
pub(crate) struct Connection<'c, S: Read + Write, C> {
    client: Mqtt<'c, S>,
    clock: &'c C,
    limit: Duration,
}

impl<'c, S: Read + Write, C: Clock> Connection<'c, S, C> {
    /// Connects, leaves the last will, and subscribes to the commands.
    pub(crate) async fn open(
        socket: S,
        buffers: &'c mut Buffers,
        config: &Config<'_>,
        topics: &Topics<'_>,
        buffer: &'c mut BumpBuffer<'c>,
        clock: &'c C,
    ) -> Result<Self, Ended> {
        let mut this = Self { client: Client::new(buffer), clock, limit: config.answer_timeout };
        let online = topics.online();
        let seconds = u16::try_from(config.keep_alive.as_secs()).ok().and_then(NonZeroU16::new);
        let mut will_message = WillOptions::new(
            topic(&online)?,
            MqttBinary::from_slice(b"offline").map_err(|_| Ended::BadName)?,
        );
        will_message = will_message.at_least_once().retain();
        let mut options = ConnectOptions::new()
            .keep_alive(seconds.map_or(KeepAlive::Infinite, KeepAlive::Seconds))
            .session_expiry_interval(SessionExpiryInterval::Seconds(SESSION_EXPIRY))
            .maximum_packet_size(const { NonZeroU32::new(PACKET as u32).unwrap() })
            .will(will_message);
        if let Some(login) = &config.credentials {
            options = options
                .user_name(string(login.username)?)
                .password(MqttBinary::from_slice(login.password.as_bytes()).map_err(|_| Ended::BadName)?);
        }
        let id = string(config.device)?;
        within(clock, this.limit, this.client.connect(Buffered::new(socket, buffers), &options, Some(id)))
            .await
            .map_err(|_| Ended::Silent)??;
        arena::empty(this.client.buffer_mut());
        for name in [Topics::update_all, Topics::update_one] {
            let name = name(topics);
            let filter = TopicFilter::new(string(&name)?).ok_or(Ended::BadName)?;
            let options = SubscriptionOptions::new().at_least_once();
            within(clock, this.limit, this.client.subscribe(filter, &options))
                .await
                .map_err(|_| Ended::Silent)??;
        }
        Ok(this)
    }

    /// Publishes; at QoS 1 the broker's answer comes later as [`Incoming::Accepted`].
    pub(crate) async fn publish(
        &mut self,
        name: &str,
        payload: &[u8],
        retain: bool,
        qos: QoS,
    ) -> Result<(), Ended> {
        let mut options = PublicationOptions::new(TopicReference::Name(topic(name)?)).qos(qos);
        options.retain = retain;
        within(self.clock, self.limit, self.client.publish(&options, Bytes::from(payload)))
            .await
            .map_err(|_| Ended::Silent)??;
        Ok(())
    }

    pub(crate) async fn ping(&mut self) -> Result<(), Ended> {
        within(self.clock, self.limit, self.client.ping()).await.map_err(|_| Ended::Silent)??;
        Ok(())
    }

    /// Waits for a packet's first bytes. May be dropped and called again.
    pub(crate) async fn header(&mut self) -> Result<rust_mqtt::header::FixedHeader, Ended> {
        Ok(self.client.poll_header().await?)
    }

    /// Reads the packet that [`Connection::header`] announced. Commands go to `on_command`.
    pub(crate) async fn packet(
        &mut self,
        header: rust_mqtt::header::FixedHeader,
        mut on_command: impl FnMut(&str, &[u8]),
    ) -> Result<Incoming, Ended> {
        let polled = within(self.clock, self.limit, self.client.poll_body(header)).await;
        let result = match polled {
            Err(_) => Err(Ended::Silent),
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(Event::Publish(message))) => {
                if let TopicReference::Name(name) = &message.topic {
                    on_command(name.as_ref().as_ref(), &message.message);
                }
                Ok(Incoming::Other)
            }
            Ok(Ok(Event::Suback(ack))) if ack.reason_code.is_erroneous() => {
                Err(Ended::Refused(ack.reason_code.value()))
            }
            Ok(Ok(Event::PublishAcknowledged(_))) => Ok(Incoming::Accepted),
            Ok(Ok(Event::PublishRejected(_))) => Ok(Incoming::Rejected),
            Ok(Ok(Event::Pingresp)) => Ok(Incoming::Pong),
            Ok(Ok(_)) => Ok(Incoming::Other),
        };
        arena::empty(self.client.buffer_mut());
        result
    }
}

fn string(text: &str) -> Result<MqttString<'_>, Ended> {
    MqttString::from_str(text).map_err(|_| Ended::BadName)
}

fn topic(name: &str) -> Result<TopicName<'_>, Ended> {
    TopicName::new(string(name)?).ok_or(Ended::BadName)
}

/// The reason codes above are numbers in reports; this keeps the link to their names.
const _: () = {
    assert!(ReasonCode::BadUserNameOrPassword.value() == 0x86);
    assert!(ReasonCode::NotAuthorized.value() == 0x87);
    assert!(ReasonCode::SessionTakenOver.value() == 0x8E);
};
