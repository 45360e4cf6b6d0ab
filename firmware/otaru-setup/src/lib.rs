//! What a device has to be told ([`Settings`]), and the ways to tell it.
//!
//! [`record`] is how settings stand in flash and in a binary; [`form`] how a browser sends them; `file` how a
//! build reads `network_credentials.toml`. [`dhcp`] and [`dns`] are the answers an access point must give
//! before a phone shows the page. All of it is bytes in, bytes out.
#![cfg_attr(not(any(test, feature = "toml")), no_std)]
#![forbid(unsafe_code)]

pub mod dhcp;
pub mod dns;
#[cfg(feature = "toml")]
pub mod file;
pub mod form;
pub mod record;
#[cfg(feature = "toml")]
pub mod updates;

use core::fmt;

use heapless::{String, Vec};

/// Networks a device can know.
pub const NETWORKS: usize = 4;

/// A Wi-Fi network.
#[derive(Clone, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub ssid: String<32>,
    /// Its password; empty if it is open.
    pub password: String<64>,
}

impl fmt::Debug for Network {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("ssid", &self.ssid).finish_non_exhaustive()
    }
}

/// What a device has to be told.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Known networks, the preferred one first.
    pub networks: Vec<Network, NETWORKS>,
    /// The broker's host name or address.
    pub host: String<64>,
    /// The broker's port.
    pub port: u16,
    /// The login at the broker; empty for none.
    pub user: String<64>,
    /// The password at the broker.
    pub password: String<64>,
    /// The device's name; empty for one made of chip and MAC address.
    pub name: String<32>,
    /// How topics begin; empty for the default.
    pub topic: String<64>,
}

/// The port of MQTT without TLS (IANA).
pub const MQTT: u16 = 1883;

/// Why settings cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// No network.
    NoNetwork,
    /// A network's name is not of 1 to 32 bytes (IEEE 802.11 section 9.4.2.2).
    Ssid,
    /// A network's password is neither empty nor of 8 to 63 bytes (WPA2; 64 for a key in hex).
    WifiPassword,
    /// More networks than can be kept.
    TooManyNetworks,
    /// No broker, or a name of more than 64 bytes.
    Host,
    /// The port is 0, or no number.
    Port,
    /// A login's part is longer than 64 bytes.
    Login,
    /// The name is longer than 32 bytes, or has a character that topics may not have.
    Name,
    /// The topic is longer than 64 bytes, or has a character that topics may not have.
    Topic,
}

impl Invalid {
    /// The sentence for a person.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoNetwork => "no Wi-Fi network is given",
            Self::Ssid => "a network's name has 1 to 32 bytes",
            Self::WifiPassword => "a Wi-Fi password has 8 to 64 bytes, or none if the network is open",
            Self::TooManyNetworks => "a device can know four networks at most",
            Self::Host => "the broker's host name or address is missing, or longer than 64 bytes",
            Self::Port => "the broker's port is a number from 1 to 65535",
            Self::Login => "user and password at the broker have 64 bytes at most",
            Self::Name => "the name has 32 bytes at most, none of them a space or one of / + #",
            Self::Topic => "the topic has 64 bytes at most, none of them a space, + or #",
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for Invalid {}

impl Settings {
    /// No networks, no broker, the usual port.
    pub fn new() -> Self {
        Self { port: MQTT, ..Self::default() }
    }

    /// Adds a network.
    ///
    /// # Errors
    /// When its name or password cannot be one, or there is no room.
    pub fn add_network(&mut self, ssid: &str, password: &str) -> Result<(), Invalid> {
        let name = String::try_from(ssid).ok().filter(|name| !name.is_empty()).ok_or(Invalid::Ssid)?;
        let password = String::try_from(password).map_err(|_| Invalid::WifiPassword)?;
        if (1..8).contains(&password.len()) {
            return Err(Invalid::WifiPassword);
        }
        let network = Network { ssid: name, password };
        self.networks.push(network).map_err(|_| Invalid::TooManyNetworks)
    }

    /// Sets the broker.
    ///
    /// # Errors
    /// When the host is missing or too long, or the port is 0.
    pub fn set_broker(&mut self, host: &str, port: u16) -> Result<(), Invalid> {
        if port == 0 {
            return Err(Invalid::Port);
        }
        self.port = port;
        let fits = String::try_from(host)
            .ok()
            .filter(|host| !host.is_empty() && !host.contains(char::is_whitespace));
        self.host = fits.ok_or(Invalid::Host)?;
        Ok(())
    }

    /// Sets the login at the broker.
    ///
    /// # Errors
    /// When a part is too long.
    pub fn set_login(&mut self, user: &str, password: &str) -> Result<(), Invalid> {
        self.user = String::try_from(user).map_err(|_| Invalid::Login)?;
        self.password = String::try_from(password).map_err(|_| Invalid::Login)?;
        Ok(())
    }

    /// Sets the device's name.
    ///
    /// # Errors
    /// When it is too long, or cannot be part of a topic.
    pub fn set_name(&mut self, name: &str) -> Result<(), Invalid> {
        let bad = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '/' | '+' | '#');
        self.name = String::try_from(name).ok().filter(|name| !name.contains(bad)).ok_or(Invalid::Name)?;
        Ok(())
    }

    /// Sets how topics begin.
    ///
    /// # Errors
    /// When it is too long, or cannot be part of a topic.
    pub fn set_topic(&mut self, topic: &str) -> Result<(), Invalid> {
        let bad = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '+' | '#');
        self.topic =
            String::try_from(topic).ok().filter(|topic| !topic.contains(bad)).ok_or(Invalid::Topic)?;
        Ok(())
    }

    /// Says what is missing.
    ///
    /// # Errors
    /// Without a network or a broker.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.networks.is_empty() {
            return Err(Invalid::NoNetwork);
        }
        if self.host.is_empty() { Err(Invalid::Host) } else { Ok(()) }
    }
}

impl fmt::Debug for Settings {
    /// Without passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("networks", &self.networks)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("name", &self.name)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}
