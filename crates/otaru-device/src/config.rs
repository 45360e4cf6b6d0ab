//! Everything that can be set, with its default.

use core::fmt;
use core::time::Duration;

use otaru_format::mqtt::MqttVersion;
use otaru_format::name::{self, BadHost, has_control};
use otaru_format::release::is_good_text;
use otaru_format::topic::{TopicError, Topics};
use otaru_format::url::{AllowedHost, NO_ALLOWED_HOST};

use crate::backoff::Backoff;
use crate::http::HttpConfig;
use crate::trust::{BadKey, PublicKey};

/// Configuration of the agent. Start from [`Config::new`] and change what differs.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Config<'a> {
    /// The device's name: MQTT client id and part of its topics.
    pub device: &'a str,
    /// The product that firmware must be for, 1 to 32 bytes; `None` for that of the last confirmed release, or else the running
    /// image's project name.
    pub product: Option<&'a str>,
    /// Other products whose firmware is taken too, so that a fleet can be renamed.
    pub products: &'a [&'a str],
    /// The prefix of every topic.
    pub topic_prefix: &'a str,
    /// The broker's host name or address.
    pub broker_host: &'a str,
    /// The broker's TCP port; 1883 unless said otherwise.
    pub broker_port: u16,
    /// Whether the broker is spoken to over TLS; the usual port is 8883 then.
    pub broker_tls: bool,
    /// The login at the broker, if it wants one.
    pub credentials: Option<Credentials<'a>>,
    /// Version of MQTT; by default 5, and 3.1.1 where the broker speaks nothing newer.
    pub mqtt: MqttVersion,
    /// MQTT keep-alive (MQTT 5 section 3.1.2.10). Half of it idle makes a ping; an answer must come
    /// within [`Config::answer_timeout`].
    #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
    pub keep_alive: Duration,
    /// Time for the broker to answer a connect, a ping or a subscribe.
    #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
    pub answer_timeout: Duration,
    /// Pauses between attempts to reach the broker. A network that comes back ends one.
    pub reconnect: Backoff,
    /// HTTP timeouts and bounds.
    pub http: HttpConfig,
    /// The hosts that firmware is fetched from, held against a command's URL and each redirect before anything is resolved
    /// or opened. None are any.
    pub hosts: &'a [AllowedHost<'a>],
    /// Failed attempts without progress before an update is given up.
    pub attempts: u8,
    /// Pauses between attempts of a download.
    pub retry: Backoff,
    /// The Ed25519 public keys whose releases are taken; more than one while a key is replaced by another.
    pub keys: &'a [PublicKey],
    /// Whether firmware without a signature may be installed, and `force` be asked for. Whoever may publish a command
    /// can then install anything.
    pub allow_unsigned: bool,
    /// Whether a release may be older than the newest that was confirmed, or another one with its sequence.
    pub allow_downgrade: bool,
    /// Whether firmware for any product may be installed.
    pub allow_other_product: bool,
    /// Boots a new image gets, where the bootloader does not count, before the old one returns.
    pub trial_boots: u8,
    /// Time for a new image to reach the broker and pass its health check.
    #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
    pub trial_deadline: Duration,
    /// The time of the watchdog, at least 8 s: a program that lets nothing else run for so long is reset, whatever image it
    /// is and however long it has worked. It proves that the agent's loop turns, not that it succeeds.
    #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
    pub watchdog: Duration,
    /// Restarts in the middle of an update after which it is given up. Switching the device off and on does not count, and crashes have
    /// a limit of their own: three.
    pub resumptions: u8,
}

impl<'a> Config<'a> {
    /// The defaults for a device of this name at this broker.
    pub const fn new(device: &'a str, broker_host: &'a str) -> Self {
        Self {
            device,
            product: None,
            products: &[],
            topic_prefix: otaru_format::topic::DEFAULT_BASE,
            broker_host,
            broker_port: 1883,
            broker_tls: false,
            credentials: None,
            mqtt: MqttVersion::Auto,
            keep_alive: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(10),
            reconnect: Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) },
            http: HttpConfig::DEFAULT,
            hosts: &[],
            attempts: 6,
            retry: Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) },
            keys: &[],
            allow_unsigned: false,
            allow_downgrade: false,
            allow_other_product: false,
            trial_boots: 3,
            trial_deadline: Duration::from_secs(300),
            watchdog: Duration::from_secs(30),
            resumptions: 10,
        }
    }
}

/// A configuration that no device can work with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ConfigError {
    /// The device's name or the prefix of its topics.
    Topic(TopicError),
    /// The broker's host.
    Host(BadHost),
    /// A key, by its place in [`Config::keys`].
    Key(usize, BadKey),
    /// An entry that allows nothing, by its place in [`Config::hosts`].
    AllowedHost(usize),
    /// A name in [`Config::product`] or [`Config::products`] that no release can have.
    Product,
    /// A count in [`Config::trial_boots`] that cannot be kept.
    TrialBoots,
    /// [`Config::broker_port`] is 0.
    Port,
    /// [`Config::broker_tls`] is set, and the firmware has no TLS, or no CA to trust.
    NoTls,
    /// [`Config::credentials`] have a control character, at which a broker closes the connection (MQTT 5 section 1.5.4).
    Credentials,
    /// One of [`Config::keep_alive`], [`Config::answer_timeout`], [`Config::reconnect`] and [`Config::trial_deadline`] is zero: the device
    /// would never get through to its broker, or no new image ever stay.
    NoTime,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Product => "a product has 1 to 32 bytes and no control characters",
            Self::Port => "the broker's port is 0",
            Self::NoTls => {
                "the broker is to be spoken to over TLS, and this firmware has none, or no CA to trust"
            }
            Self::Credentials => "the login has a control character",
            Self::NoTime => "a time limit is zero",
            Self::TrialBoots => "a new image gets 1 to 31 starts",
            Self::Topic(error) => return error.fmt(f),
            Self::Host(error) => return write!(f, "the broker's host {}", error.as_str()),
            Self::Key(index, error) => return write!(f, "public key {index} {}", error.as_str()),
            Self::AllowedHost(index) => {
                return write!(f, "host {index} that firmware may come from {NO_ALLOWED_HOST}");
            }
        };
        f.write_str(text)
    }
}

impl core::error::Error for ConfigError {}

impl<'a> Config<'a> {
    /// Checks what people write; gives back the device's topics.
    ///
    /// # Errors
    /// A configuration that no device could work with: topics that no broker takes, a host that no resolver finds, a key that accepts no
    /// signature.
    pub fn check(&self) -> Result<Topics<'a>, ConfigError> {
        name::host(self.broker_host).map_err(ConfigError::Host)?;
        let products = self.product.iter().chain(self.products);
        if !products.into_iter().all(|name| is_good_text(name)) {
            return Err(ConfigError::Product);
        }
        if self.broker_port == 0 {
            return Err(ConfigError::Port);
        }
        if self.credentials.is_some_and(|login| has_control(login.username) || has_control(login.password)) {
            return Err(ConfigError::Credentials);
        }
        let times = [self.keep_alive, self.answer_timeout, self.reconnect.first, self.trial_deadline];
        if times.contains(&Duration::ZERO) {
            return Err(ConfigError::NoTime);
        }
        // The starts of a trial are counted in 32 bits.
        if !(1..=31).contains(&self.trial_boots) {
            return Err(ConfigError::TrialBoots);
        }
        for (index, key) in self.keys.iter().enumerate() {
            key.check().map_err(|error| ConfigError::Key(index, error))?;
        }
        if let Some(index) = self.hosts.iter().position(|host| !host.is_valid()) {
            return Err(ConfigError::AllowedHost(index));
        }
        Topics::new(self.topic_prefix, self.device).map_err(ConfigError::Topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_counts_that_would_end_all_updates_are_refused() {
        let good = Config::new("lamp", "broker");
        let long = "a product of more than 32 bytes ..";
        for product in ["", long, "la\nmp", "lamp\0"] {
            let names = [product];
            let set = Config { product: Some(product), ..good };
            let listed = Config { products: &names, ..good };
            assert_eq!(set.check().unwrap_err(), ConfigError::Product);
            assert_eq!(listed.check().unwrap_err(), ConfigError::Product);
        }
        for trial_boots in [0, 32, 255] {
            assert_eq!(Config { trial_boots, ..good }.check().unwrap_err(), ConfigError::TrialBoots);
        }
        assert!(Config { product: Some("lamp"), trial_boots: 31, ..good }.check().is_ok());
    }

    #[test]
    fn what_no_broker_takes_is_refused() {
        let good = Config::new("lamp", "broker");
        assert_eq!(Config { broker_port: 0, ..good }.check().unwrap_err(), ConfigError::Port);
        for (username, password) in [("me\0", "x"), ("me", "x\n")] {
            let credentials = Some(Credentials { username, password });
            assert_eq!(Config { credentials, ..good }.check().unwrap_err(), ConfigError::Credentials);
        }
        let credentials = Some(Credentials { username: "mé", password: "a b" });
        assert!(Config { credentials, ..good }.check().is_ok());
    }

    #[test]
    fn limits_in_which_nothing_can_be_done_are_refused() {
        let good = Config::new("lamp", "broker");
        let zero = Duration::ZERO;
        for bad in [
            Config { keep_alive: zero, ..good },
            Config { answer_timeout: zero, ..good },
            Config { reconnect: Backoff { first: zero, longest: zero }, ..good },
            Config { trial_deadline: zero, ..good },
        ] {
            assert_eq!(bad.check().unwrap_err(), ConfigError::NoTime);
        }
    }
    use otaru_format::name::BadName;

    #[test]
    fn what_no_device_can_work_with_is_refused() {
        let good = Config::new("kitchen", "broker.lan");
        assert!(good.check().is_ok());
        let check = |config: Config<'_>| config.check().map(drop);
        let prefix = Config { topic_prefix: "ESP32/ota/", ..good };
        assert_eq!(check(prefix), Err(ConfigError::Topic(TopicError::Base(BadName::EmptyPart))));
        let device = Config { device: "a/b", ..good };
        assert_eq!(check(device), Err(ConfigError::Topic(TopicError::Device(BadName::Slash))));
        let host = Config { broker_host: "mqtt://broker", ..good };
        assert_eq!(check(host), Err(ConfigError::Host(BadHost::Url)));
        let hosts = [AllowedHost::new("files.lan:8080"), AllowedHost::new("http://files.lan")];
        assert_eq!(check(Config { hosts: &hosts, ..good }), Err(ConfigError::AllowedHost(1)));
        let mut key = [0; 32];
        assert_eq!(
            check(Config { keys: &[PublicKey::from_bytes(key)], ..good }),
            Err(ConfigError::Key(0, BadKey::Weak))
        );
        key[0] = 2;
        assert_eq!(
            check(Config { keys: &[PublicKey::from_bytes(key)], ..good }),
            Err(ConfigError::Key(0, BadKey::NoPoint))
        );
    }
}

/// A login. Never printed.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// The user name.
    pub username: &'a str,
    /// The password.
    pub password: &'a str,
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Credentials<'_> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Credentials {{ .. }}");
    }
}
