//! Settings: networks, broker, login, name and topic, and what each may be.

use core::fmt;

use heapless::{String, Vec};
pub use otaru_format::mqtt::MqttVersion;
use otaru_format::name::{self, BadHost, BadName, has_control};

#[cfg(feature = "trust")]
use crate::trust_store::StoredTrust;

/// Networks a device can know.
pub const NETWORKS: usize = 4;

/// A Wi-Fi network.
#[derive(Clone, PartialEq, Eq)]
pub struct Network {
    /// Name (SSID).
    pub ssid: String<32>,
    /// Password; empty if the network is open.
    pub password: String<64>,
}

impl fmt::Debug for Network {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("ssid", &self.ssid).finish_non_exhaustive()
    }
}

/// Everything that a device has to be told.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Known networks, the preferred one first.
    pub networks: Vec<Network, NETWORKS>,
    /// The broker's host name or address.
    pub host: String<64>,
    /// The broker's port.
    pub port: u16,
    /// Whether the broker is spoken to over TLS.
    pub tls: bool,
    /// Version of MQTT that is spoken with it.
    pub mqtt: MqttVersion,
    /// The login at the broker; empty for none.
    pub user: String<64>,
    /// The password at the broker.
    pub password: String<64>,
    /// The device's name; empty for one made of chip and MAC address.
    pub name: String<32>,
    /// Prefix of topics; empty for the default.
    pub topic: String<64>,
    /// CAs and a certificate that were set with them; none if only what is built in counts.
    #[cfg(feature = "trust")]
    pub trust: Option<StoredTrust>,
}

/// The port of MQTT without TLS (IANA).
pub const MQTT: u16 = 1883;

/// The port of MQTT over TLS (IANA).
pub const MQTT_TLS: u16 = 8883;

/// Why settings cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// No network.
    NoNetwork,
    /// A network's name is not of 1 to 32 bytes of text (IEEE 802.11 section 9.4.2.2), or has control characters; the driver
    /// ends it at a zero.
    Ssid,
    /// A network's name is there twice.
    SameNetwork,
    /// A network's password is neither empty nor of 8 to 63 bytes (WPA2; 64 for a key in hexadecimal), or has control
    /// characters.
    WifiPassword,
    /// More networks than can be kept.
    TooManyNetworks,
    /// The broker's host.
    Host(BadHost),
    /// The broker's host has more than 64 bytes.
    LongHost,
    /// The broker's host is the device itself.
    OwnHost,
    /// The broker's host is an IPv6 address, which the network stack does not speak.
    Ipv6,
    /// The port is 0, or no number.
    Port,
    /// The version of MQTT is none that can be spoken.
    MqttVersion,
    /// TLS is wanted, and this firmware has none, or no CA to trust.
    NoTls,
    /// A login's part is longer than 64 bytes, or has control characters.
    Login,
    /// A password at the broker without a user.
    NoUser,
    /// The device's name.
    Name(BadName),
    /// The device's name has more than 32 bytes.
    LongName,
    /// Beginning of every topic.
    Topic(BadName),
    /// The form is larger than one can be.
    TooMuch,
}

impl Invalid {
    /// Subject, and what is wrong with it: two halves of a sentence for a person.
    pub const fn as_strs(self) -> (&'static str, &'static str) {
        match self {
            Self::NoNetwork => ("no Wi-Fi network", "is given"),
            Self::Ssid => {
                ("the Wi-Fi network's name", "has to be 1 to 32 bytes of text without control characters")
            }
            Self::SameNetwork => ("the Wi-Fi network's name", "is there twice"),
            Self::WifiPassword => (
                "the Wi-Fi password",
                "has to be of 8 to 63 bytes, or a key of 64 hexadecimal digits, or none if the network is open",
            ),
            Self::TooManyNetworks => ("Wi-Fi networks:", "a device can know four at most"),
            Self::Host(why) => ("the broker's host", why.as_str()),
            Self::LongHost => ("the broker's host", "has more than 64 bytes"),
            Self::OwnHost => {
                ("the broker's host", "is this device itself: write the broker's address in the network")
            }
            Self::Ipv6 => ("the broker's host", "is an IPv6 address, and this device speaks IPv4"),
            Self::Port => ("the broker's port", "has to be a number from 1 to 65535"),
            Self::MqttVersion => ("the MQTT version", "is auto, 5 or 3.1.1"),
            Self::NoTls => ("TLS", "needs a firmware that was built with it, and with a CA to trust"),
            Self::Login => {
                ("user and password at the broker", "have 64 bytes at most, and no control characters")
            }
            Self::NoUser => ("the password at the broker", "needs a user"),
            Self::Name(why) => ("the device's name", why.as_str()),
            Self::LongName => ("the device's name", "has more than 32 bytes"),
            Self::Topic(why) => ("the topic", why.as_str()),
            Self::TooMuch => ("the form", "is too large: nothing was kept"),
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, why) = self.as_strs();
        f.write_str(what)?;
        f.write_str(" ")?;
        f.write_str(why)
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
    /// Returns an error if the name or password is invalid, if the network is listed already, or if the list is full.
    pub fn add_network(&mut self, ssid: &str, password: &str) -> Result<(), Invalid> {
        let name = String::try_from(ssid).ok().filter(|name| !name.is_empty() && !has_control(name));
        let name: String<32> = name.ok_or(Invalid::Ssid)?;
        let password: String<64> = String::try_from(password).map_err(|_| Invalid::WifiPassword)?;
        let key = password.len() == 64 && password.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !(key || matches!(password.len(), 0 | 8..=63)) || has_control(&password) {
            return Err(Invalid::WifiPassword);
        }
        if self.networks.iter().any(|network| network.ssid == name) {
            return Err(Invalid::SameNetwork);
        }
        let network = Network { ssid: name, password };
        self.networks.push(network).map_err(|_| Invalid::TooManyNetworks)
    }

    /// Sets the broker.
    ///
    /// # Errors
    /// Returns an error if a device cannot connect to this host, or if the port is 0.
    pub fn set_broker(&mut self, host: &str, port: u16) -> Result<(), Invalid> {
        if port == 0 {
            return Err(Invalid::Port);
        }
        name::host(host).map_err(Invalid::Host)?;
        if name::is_loopback(host) {
            return Err(Invalid::OwnHost);
        }
        if host.contains(':') {
            return Err(Invalid::Ipv6);
        }
        self.port = port;
        self.host = String::try_from(host).map_err(|_| Invalid::LongHost)?;
        Ok(())
    }

    /// Sets the version of MQTT; an empty one is found out.
    ///
    /// # Errors
    /// Returns [`Invalid::MqttVersion`] if the text names none.
    pub fn set_mqtt(&mut self, version: &str) -> Result<(), Invalid> {
        let version = if version.is_empty() { Ok(MqttVersion::Auto) } else { version.parse() };
        self.mqtt = version.map_err(|_| Invalid::MqttVersion)?;
        Ok(())
    }

    /// Sets the login at the broker. A user may do without a password.
    ///
    /// # Errors
    /// Returns an error if the user or password is invalid, or if there is a password without a user.
    pub fn set_login(&mut self, user: &str, password: &str) -> Result<(), Invalid> {
        if user.is_empty() && !password.is_empty() {
            return Err(Invalid::NoUser);
        }
        if has_control(user) || has_control(password) {
            return Err(Invalid::Login);
        }
        self.user = String::try_from(user).map_err(|_| Invalid::Login)?;
        self.password = String::try_from(password).map_err(|_| Invalid::Login)?;
        Ok(())
    }

    /// Sets the device's name; an empty one is made of chip and MAC address.
    ///
    /// # Errors
    /// Returns an error if the name is longer than 32 bytes, or cannot be part of a topic.
    pub fn set_name(&mut self, name: &str) -> Result<(), Invalid> {
        if !name.is_empty() {
            name::device(name).map_err(Invalid::Name)?;
        }
        self.name = String::try_from(name).map_err(|_| Invalid::LongName)?;
        Ok(())
    }

    /// Sets how topics begin; empty for the default.
    ///
    /// # Errors
    /// Returns [`Invalid::Topic`] if the topic is too long, or cannot be the beginning of one.
    pub fn set_topic(&mut self, topic: &str) -> Result<(), Invalid> {
        if !topic.is_empty() {
            name::base(topic).map_err(Invalid::Topic)?;
        }
        self.topic = String::try_from(topic).map_err(|_| Invalid::Topic(BadName::TooLong))?;
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
        if self.host.is_empty() { Err(Invalid::Host(BadHost::Empty)) } else { Ok(()) }
    }
}

impl fmt::Debug for Settings {
    /// Without passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("networks", &self.networks)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls)
            .field("mqtt", &self.mqtt)
            .field("name", &self.name)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}
