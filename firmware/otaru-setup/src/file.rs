//! `network_credentials.toml`, as a build reads it.
//!
//! What is wrong is told with its line, and without the line's text: it may be a password.

use std::fmt;

use serde::Deserialize;
use toml::Spanned;

use crate::{Invalid, MQTT, Settings};

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    /// The line, from 1.
    pub line: usize,
    /// A sentence.
    pub what: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for FileError {}

/// The file, with one network or several.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File<W> {
    ssid: Option<Spanned<String>>,
    #[serde(default)]
    password: String,
    wifi: Option<W>,
    broker: Spanned<Broker>,
    #[serde(default)]
    device: Device,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wifi {
    ssid: Spanned<String>,
    #[serde(default)]
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Broker {
    host: Spanned<String>,
    port: Option<Spanned<u16>>,
    #[serde(default)]
    user: String,
    #[serde(default)]
    password: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Device {
    name: Option<Spanned<String>>,
    topic: Option<Spanned<String>>,
}

/// Reads the file's text.
///
/// # Errors
/// The first thing that is wrong.
pub fn read(text: &str) -> Result<Settings, FileError> {
    let at = |offset: usize| 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
    let malformed = |error: toml::de::Error| FileError {
        line: at(error.span().map_or(0, |span| span.start)),
        what: error.message().to_owned(),
    };
    let one = toml::from_str::<toml::Table>(text)
        .map_err(malformed)?
        .get("wifi")
        .is_some_and(toml::Value::is_table);
    let file: File<Vec<Wifi>> = if one {
        let file: File<Wifi> = toml::from_str(text).map_err(malformed)?;
        let File { ssid, password, wifi, broker, device } = file;
        File { ssid, password, wifi: wifi.map(|wifi| vec![wifi]), broker, device }
    } else {
        toml::from_str(text).map_err(malformed)?
    };
    let invalid =
        |offset: usize| move |error: Invalid| FileError { line: at(offset), what: error.to_string() };
    let mut settings = Settings::new();
    let first = file.ssid.map(|ssid| Wifi { ssid, password: file.password });
    for Wifi { ssid, password } in first.into_iter().chain(file.wifi.into_iter().flatten()) {
        settings.add_network(ssid.get_ref(), &password).map_err(invalid(ssid.span().start))?;
    }
    let whole = file.broker.span().start;
    let Broker { host, port, user, password } = file.broker.into_inner();
    let (port, port_at) = port.map_or((MQTT, whole), |port| (*port.get_ref(), port.span().start));
    let at_fault = if port == 0 { port_at } else { host.span().start };
    settings.set_broker(host.get_ref(), port).map_err(invalid(at_fault))?;
    settings.set_login(&user, &password).map_err(invalid(whole))?;
    if let Some(name) = file.device.name {
        settings.set_name(name.get_ref()).map_err(invalid(name.span().start))?;
    }
    if let Some(topic) = file.device.topic {
        settings.set_topic(topic.get_ref()).map_err(invalid(topic.span().start))?;
    }
    settings.check().map_err(invalid(0))?;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../network_credentials.example.toml");

    #[test]
    fn the_example_is_valid() {
        let settings = read(EXAMPLE).unwrap();
        assert_eq!(settings.networks.len(), 2);
        assert_eq!(settings.port, 1883);
    }

    #[test]
    fn one_network_may_stand_alone() {
        for wifi in
            ["ssid = 'attic'\npassword = '12345678'\n", "[wifi]\nssid = 'attic'\npassword = '12345678'\n"]
        {
            let settings = read(&format!("{wifi}[broker]\nhost = 'broker.lan'\n")).unwrap();
            assert_eq!(settings.networks[0].ssid, "attic");
            assert_eq!(settings.networks[0].password, "12345678");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let line = |text: &str| read(text).unwrap_err().line;
        assert_eq!(line("[wifi]\nssid = 'attic\n"), 2);
        assert_eq!(line("[broker]\nhost = 'b'\nprot = 1\n"), 3);
        assert_eq!(line("[broker]\nhost = 'b'\nport = 0\n[wifi]\nssid='a'\n"), 3);
        assert_eq!(line("[[wifi]]\nssid = 'a'\n[[wifi]]\npassword = ''\nssid = ''\n[broker]\nhost='b'"), 5);
        assert_eq!(line("[broker]\nhost = 'b'\n[device]\nname = 'a b'\n[wifi]\nssid='a'\n"), 4);
    }

    #[test]
    fn a_password_is_not_told() {
        let error = read("[wifi]\nssid = 'attic'\npassword = topsecret\n").unwrap_err();
        assert!(!error.to_string().contains("topsecret"), "{error}");
        let error = read("[wifi]\nssid = 'attic'\npassword = 'secret'\n[broker]\nhost='b'").unwrap_err();
        assert!(!error.to_string().contains("'secret'"), "{error}");
    }
}
