//! Reasons for which a broker did not do what was asked, in plain words.

use std::fmt;
use std::io;

use otaru_format::mqtt::MqttVersion;
use otaru_tls::{Reason, TrustError};

use crate::version::Version;

/// Reason for which the broker did not do what was asked.
#[derive(Debug)]
pub enum BrokerError {
    /// No such host.
    UnknownHost(String),
    /// Nothing listens there.
    Refused(String),
    /// No answer.
    Silent(String),
    /// Another network error.
    Network(String, io::Error),
    /// There is no TLS session with it.
    Tls(String, Reason),
    /// Whom to trust cannot be found out.
    Trust(TrustError),
    /// Something listens, but it is no MQTT broker.
    NotMqtt(String, String),
    /// The broker does not speak the version of MQTT that it was asked in.
    WrongVersion {
        /// The broker.
        broker: String,
        /// The versions it was asked in.
        asked: MqttVersion,
    },
    /// The broker closes every connection without a byte.
    ClosedSilently {
        /// The broker.
        broker: String,
        /// The versions it was asked in.
        asked: MqttVersion,
    },
    /// A login is needed, or it is wrong.
    Login {
        /// The broker.
        broker: String,
        /// The user name that was given.
        username: Option<String>,
        /// Sentence of the broker about it.
        why: Option<String>,
    },
    /// The broker speaks MQTT and does not want this connection.
    TurnedAway {
        /// The broker.
        broker: String,
        /// The broker's reason.
        reason: String,
    },
    /// The connection was lost before a subscription or message was taken.
    Lost {
        /// The topic or filter.
        topic: String,
    },
    /// A subscription or message was turned down.
    Denied {
        /// The topic or filter.
        topic: String,
        /// The broker's reason.
        reason: String,
    },
}

/// Adds what a broker said, if it said something.
fn in_brackets(f: &mut fmt::Formatter<'_>, why: Option<&str>) -> fmt::Result {
    why.map_or(Ok(()), |why| write!(f, " ({why})"))
}

/// Names the versions that a setting stands for.
fn versions(asked: MqttVersion) -> String {
    match asked {
        MqttVersion::Auto => format!("MQTT {} nor {}", Version::V5, Version::V311),
        MqttVersion::V5 => format!("MQTT {}", Version::V5),
        MqttVersion::V311 => format!("MQTT {}", Version::V311),
    }
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownHost(broker) => {
                write!(f, "no such host: {broker}; check the name in --broker")
            }
            Self::Refused(broker) => write!(
                f,
                "nothing listens at {broker}; is the broker running? `otaru broker` or `mosquitto` starts one"
            ),
            Self::Silent(broker) => {
                write!(f, "{broker} does not answer; check address, port and firewall")
            }
            Self::Network(broker, error) => write!(f, "cannot reach {broker}: {error}"),
            Self::Tls(broker, why) => write!(f, "no TLS with {broker}: {why}"),
            Self::Trust(error) => error.fmt(f),
            Self::NotMqtt(broker, why) => {
                write!(f, "{broker} does not speak MQTT ({why}); check the port")
            }
            Self::WrongVersion { broker, asked: MqttVersion::Auto } => {
                write!(f, "{broker} speaks neither {}; check the port", versions(MqttVersion::Auto))
            }
            Self::WrongVersion { broker, asked } => {
                write!(
                    f,
                    "{broker} does not speak {}; --mqtt-version auto finds out what it does",
                    versions(*asked)
                )
            }
            Self::ClosedSilently { broker, asked: MqttVersion::Auto } => write!(
                f,
                "{broker} closes the connection without a word, in MQTT 5 and in 3.1.1; is this a TLS port?"
            ),
            Self::ClosedSilently { broker, asked } => write!(
                f,
                "{broker} closes the connection without a word; does it speak {}? --mqtt-version auto finds out; \
                 or is this a TLS port?",
                versions(*asked)
            ),
            Self::Login { broker, username: None, why } => {
                write!(f, "{broker} wants a login")?;
                in_brackets(f, why.as_deref())?;
                write!(f, "; give --username and --password (or OTARU_PASSWORD)")
            }
            Self::Login { broker, username: Some(name), why } => {
                write!(f, "{broker} refused the login of \"{name}\"")?;
                in_brackets(f, why.as_deref())?;
                write!(f, "; check user name and password")
            }
            Self::TurnedAway { broker, reason } => {
                write!(f, "{broker} turned the connection away ({reason}); its log says more")
            }
            Self::Lost { topic } => write!(f, "the connection to the broker was lost before it took {topic}"),
            Self::Denied { topic, reason } => {
                write!(f, "the broker turned down {topic} ({reason}); check its access rules for this user")
            }
        }
    }
}

impl std::error::Error for BrokerError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        let broker = || "mqtt://h:1883".to_owned();
        for (error, hint) in [
            (
                BrokerError::WrongVersion { broker: broker(), asked: MqttVersion::Auto },
                "neither MQTT 5 nor 3.1.1",
            ),
            (
                BrokerError::WrongVersion { broker: broker(), asked: MqttVersion::V5 },
                "does not speak MQTT 5; --mqtt-version auto",
            ),
            (
                BrokerError::ClosedSilently { broker: broker(), asked: MqttVersion::Auto },
                "is this a TLS port?",
            ),
            (
                BrokerError::ClosedSilently { broker: broker(), asked: MqttVersion::V311 },
                "does it speak MQTT 3.1.1?",
            ),
            (BrokerError::NotMqtt(broker(), "x".into()), "check the port"),
            (
                BrokerError::Login { broker: broker(), username: None, why: Some("it is retired".into()) },
                "wants a login (it is retired); give",
            ),
            (
                BrokerError::Login { broker: broker(), username: Some("me".into()), why: None },
                "refused the login of \"me\"; check",
            ),
        ] {
            let text = error.to_string();
            assert!(text.starts_with("mqtt://h:1883 ") && text.contains(hint), "{text}");
        }
    }
}
