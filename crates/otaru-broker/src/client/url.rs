//! Address of a broker, `mqtt://[user:pass@]HOST[:PORT]`, with a password that is never printed.

use std::fmt;
use std::str::FromStr;

use otaru_format::mqtt::MqttVersion;
use percent_encoding::percent_decode_str;

use super::secret::Secret;

/// The port of plain MQTT.
pub const DEFAULT_PORT: u16 = 1883;

/// A user name and its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// A broker's address. Shown without the login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    /// A host name or an address, without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// The user name, if a login is needed.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// The version that is spoken with it. No part of the text: it is `auto` where that was parsed.
    pub version: MqttVersion,
}

impl BrokerUrl {
    /// Makes the address of a broker without a login.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, username: None, password: None, version: MqttVersion::Auto }
    }

    /// Changes the version that is spoken with it.
    #[must_use]
    pub fn with_version(self, version: MqttVersion) -> Self {
        Self { version, ..self }
    }

    /// Returns the login, if there is one; a name without a password has an empty one.
    pub fn login(&self) -> Option<Login> {
        let username = self.username.clone()?;
        let password = self.password.clone().unwrap_or_else(|| Secret::new(""));
        Some(Login { username, password })
    }

    /// Returns `host:port`, with an IPv6 address in brackets.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mqtt://{}", self.authority())
    }
}

/// Why a text is no broker URL. Never contains the text, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerUrlError {
    /// It asks for TLS.
    Tls,
    /// The scheme is not that of a broker.
    Scheme(String),
    /// It has a path.
    Path,
    /// It has no host.
    NoHost,
    /// The host cannot be one.
    Host,
    /// The port cannot be one.
    Port,
    /// The login has a bad escape.
    Escape,
}

impl fmt::Display for BrokerUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls => f.write_str(
                "TLS to the broker is not built in yet: use mqtt:// on a network you trust, \
                 or a local tunnel (stunnel, ssh -L) to the broker's TLS port",
            ),
            Self::Scheme(scheme) => {
                write!(f, "\"{scheme}://\" is not a broker; write mqtt://HOST:PORT")
            }
            Self::Path => f.write_str("a broker URL has no path; the topic prefix goes into --base"),
            Self::NoHost => f.write_str("the host is missing; write mqtt://HOST:PORT"),
            Self::Host => f.write_str(
                "the host is no host name and no address; an IPv6 address goes into brackets: mqtt://[::1]:1883",
            ),
            Self::Port => f.write_str("the port is not a number from 1 to 65535"),
            Self::Escape => f.write_str(
                "the login has a bad % escape; write % as %25, @ as %40, : as %3A and / as %2F",
            ),
        }
    }
}

impl std::error::Error for BrokerUrlError {}

impl FromStr for BrokerUrl {
    type Err = BrokerUrlError;

    fn from_str(text: &str) -> Result<Self, BrokerUrlError> {
        let text = text.trim();
        let rest = match text.split_once("://") {
            None => text,
            Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
                "mqtt" | "tcp" => rest,
                "mqtts" | "ssl" | "tls" => return Err(BrokerUrlError::Tls),
                // What stands before "://" is a scheme only if it looks like one; it could be a password.
                other if other.bytes().all(|b| b.is_ascii_lowercase()) => {
                    return Err(BrokerUrlError::Scheme(other.to_owned()));
                }
                _ => return Err(BrokerUrlError::Host),
            },
        };
        let (login, address) = match rest.rsplit_once('@') {
            Some((login, address)) => (Some(login), address),
            None => (None, rest),
        };
        let address = address.strip_suffix('/').unwrap_or(address);
        if address.contains(['/', '?', '#']) {
            return Err(BrokerUrlError::Path);
        }
        let (host, port) = split_address(address)?;
        let mut url = Self::new(host, port);
        if let Some(login) = login {
            let (username, password) = match login.split_once(':') {
                Some((username, password)) => (username, Some(password)),
                None => (login, None),
            };
            url.username = Some(unescape(username)?);
            url.password = password.map(unescape).transpose()?.map(Secret::new);
        }
        Ok(url)
    }
}

fn split_address(address: &str) -> Result<(&str, u16), BrokerUrlError> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(BrokerUrlError::Host)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| BrokerUrlError::Host)?;
            (
                host,
                if after.is_empty() {
                    None
                } else {
                    Some(after.strip_prefix(':').ok_or(BrokerUrlError::Host)?)
                },
            )
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    if host.is_empty() {
        return Err(BrokerUrlError::NoHost);
    }
    // What a device with this broker would refuse is refused here, too.
    if port.is_some_and(|port| port.contains(':')) || otaru_format::name::host(host).is_err() {
        return Err(BrokerUrlError::Host);
    }
    match port.map(str::parse) {
        None => Ok((host, DEFAULT_PORT)),
        Some(Ok(port)) if port != 0 => Ok((host, port)),
        Some(_) => Err(BrokerUrlError::Port),
    }
}

/// Resolves `%41` and the like; a URL's login may hold any byte that way. The crate lets a bad escape stand, which here would be a wrong
/// password.
fn unescape(text: &str) -> Result<String, BrokerUrlError> {
    let is_good = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|digit| digit.is_ascii_hexdigit());
    if !text.split('%').skip(1).all(is_good) {
        return Err(BrokerUrlError::Escape);
    }
    percent_decode_str(text).decode_utf8().map(Into::into).map_err(|_| BrokerUrlError::Escape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<BrokerUrl, BrokerUrlError> {
        text.parse()
    }

    #[test]
    fn addresses() {
        for (text, host, port) in [
            ("mqtt://broker.lan", "broker.lan", 1883),
            ("mqtt://10.0.0.2:1900/", "10.0.0.2", 1900),
            ("MQTT://[::1]", "::1", 1883),
            ("mqtt://u:p@[fe80::1]:77", "fe80::1", 77),
            ("localhost:99", "localhost", 99),
        ] {
            let url = parse(text).unwrap();
            assert_eq!((url.host.as_str(), url.port), (host, port), "{text}");
        }
        assert_eq!(parse("mqtt://[::1]").unwrap().to_string(), "mqtt://[::1]:1883");
    }

    #[test]
    fn logins_are_unescaped_and_hidden() {
        let url = parse("mqtt://ann%40home:p%3Aw%2F%25@h").unwrap();
        assert_eq!(url.username.as_deref(), Some("ann@home"));
        assert_eq!(url.password.as_ref().unwrap().expose(), "p:w/%");
        assert!(!format!("{url:?}{url}").contains("p:w"));
        let odd = parse("mqtt://u:a@b@h:5").unwrap();
        assert_eq!(odd.password.unwrap().expose(), "a@b");
        assert_eq!(parse("mqtt://u@h").unwrap().login().unwrap().password.expose(), "");
    }

    #[test]
    fn bad_urls_say_why() {
        for (text, error) in [
            ("mqtts://h", BrokerUrlError::Tls),
            ("http://h", BrokerUrlError::Scheme("http".into())),
            ("mqtt://", BrokerUrlError::NoHost),
            ("mqtt://:5", BrokerUrlError::NoHost),
            ("mqtt://h:x", BrokerUrlError::Port),
            ("mqtt://h:0", BrokerUrlError::Port),
            ("mqtt://h:99999", BrokerUrlError::Port),
            ("mqtt://h/topic", BrokerUrlError::Path),
            ("mqtt://::1", BrokerUrlError::NoHost),
            ("mqtt://fe80::1", BrokerUrlError::Host),
            ("mqtt://[::1", BrokerUrlError::Host),
            ("mqtt://a b", BrokerUrlError::Host),
            ("mqtt://broker.", BrokerUrlError::Host),
            ("mqtt://192.168.1.300", BrokerUrlError::Host),
            ("mqtt://k\u{fc}che", BrokerUrlError::Host),
            ("mqtt://u:%zz@h", BrokerUrlError::Escape),
            ("mqtt://u:%f@h", BrokerUrlError::Escape),
            ("mqtt://u:%@h", BrokerUrlError::Escape),
            ("mqtt://u:%+1@h", BrokerUrlError::Escape),
            ("mqtt://u:%ff@h", BrokerUrlError::Escape),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }
}
