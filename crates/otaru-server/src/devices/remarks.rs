//! Remarks on logins of devices, where the broker is somebody else's and decides by itself: it knows nothing of what is done here.

use crate::config::{Config, MqttConfig};

/// Change that the login of a device goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoginChange {
    /// It is made, or gets a new password.
    Made,
    /// It ends, as the device is retired.
    Ended,
    /// It is good again, as the device is no longer retired.
    Restored,
    /// A fleet key may make it.
    ByFleetKey,
}

impl LoginChange {
    /// Returns the remark on it; none where the broker is the server's own, or asks the server.
    pub(crate) fn remark(self, config: &Config) -> Option<&'static str> {
        match config.mqtt {
            MqttConfig::External { auth: None, .. } => Some(self.words()),
            MqttConfig::External { .. } | MqttConfig::Embedded { .. } => None,
        }
    }

    /// Returns the same as an answer of the API has it.
    pub(crate) fn remarks(self, config: &Config) -> Vec<String> {
        self.remark(config).map(str::to_owned).into_iter().collect()
    }

    fn words(self) -> &'static str {
        match self {
            Self::Made => {
                "this server's broker decides by itself who may log in, and does not know this login: make it there as well, with the \
                 device's name as the user name"
            }
            Self::Ended => {
                "this server's broker decides by itself who may log in: the device can connect, and stays connected, until its login is \
                 ended there as well"
            }
            Self::Restored => {
                "this server's broker decides by itself who may log in: if the device's login was ended there, make it there again"
            }
            Self::ByFleetKey => {
                "this server's broker decides by itself who may log in: a fleet key is no login there, nor is the password that a \
                 device gets for it, until it is made there as well"
            }
        }
    }
}
