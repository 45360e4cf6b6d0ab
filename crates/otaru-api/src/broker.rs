//! Questions of a broker that lets the server decide who may connect, publish and subscribe there, and the answers. Unknown fields are passed
//! over: a broker sends what it has.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A login at a broker that is to be decided on. The password is never shown.
#[derive(Clone, Serialize, Deserialize)]
pub struct BrokerLogin {
    /// Client id of MQTT.
    pub client_id: String,
    /// User name, if one was given.
    #[serde(default)]
    pub username: Option<String>,
    /// Password, if one was given.
    #[serde(default)]
    pub password: Option<String>,
    /// Certificate that was shown in place of a password.
    #[serde(default)]
    pub certificate: Option<BrokerCertificate>,
    /// Address that the client comes from, with a port or without.
    #[serde(default)]
    pub address: Option<String>,
}

impl fmt::Debug for BrokerLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("BrokerLogin");
        shown.field("client_id", &self.client_id).field("username", &self.username);
        shown.field("certificate", &self.certificate).field("address", &self.address).finish_non_exhaustive()
    }
}

/// A client's certificate whose signatures and dates the broker has checked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BrokerCertificate {
    /// Common name of its subject.
    pub common_name: String,
    /// Serial number in hexadecimal; colons and leading zeros do not count.
    pub serial: String,
}

/// A topic, or a filter, that a client of a broker wants to use.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BrokerTopic {
    /// Client id of MQTT.
    pub client_id: String,
    /// User name, if one was given at the login.
    #[serde(default)]
    pub username: Option<String>,
    /// Topic to publish on, or filter to subscribe to.
    pub topic: String,
}

/// Answer to a broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerAnswer {
    /// The decision.
    pub result: BrokerDecision,
    /// Reason of a refusal, for the broker's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Decision on what a client of a broker wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BrokerDecision {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let login = r#"{"client_id": "lamp", "password": "s3cret", "clean_start": true}"#;
        let login: BrokerLogin = serde_json::from_str(login).unwrap();
        let shown = format!("{login:?}");
        assert!(shown.contains("lamp") && !shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn an_answer_is_a_word() {
        let allow = BrokerAnswer { result: BrokerDecision::Allow, reason: None };
        assert_eq!(serde_json::to_string(&allow).unwrap(), r#"{"result":"allow"}"#);
    }
}
