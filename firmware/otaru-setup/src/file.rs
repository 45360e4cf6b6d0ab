//! `network_credentials.toml`, as a build reads it.
//!
//! An error is told with its line, and without the line's text: it may be a password.

mod error;
mod tls;

use otaru_format::url::{AllowedHost, NO_ALLOWED_HOST};
use serde::Deserialize;
use toml::Spanned;

pub use self::error::FileError;
use self::tls::TlsTable;
pub use self::tls::{Preset, TIME_SERVER, Tls};
use crate::settings::{Invalid, MQTT, MQTT_TLS, Settings};
use crate::updates::{self, PublicKey};

/// Contents of the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Contents {
    /// Network and broker; `None` if the device is to be told by phone.
    pub settings: Option<Settings>,
    /// Updates that the device takes.
    pub updates: Updates,
    /// TLS; `None` for a device without.
    pub tls: Option<Tls>,
}

impl Contents {
    /// Returns why a firmware with this TLS, or with none, cannot have these credentials; `None` if it can.
    pub fn unfit(&self, preset: Option<Preset>) -> Option<&'static str> {
        let tls = self.tls.as_ref()?;
        match preset {
            None => Some(
                "the file has [tls], and this firmware is built without: say `cargo xtask firmware --tls own-server`, or name \
                 the feature tls",
            ),
            Some(Preset::OwnServer) if tls.public => Some(
                "ca = \"public\" needs RSA and P-384, which the preset own-server leaves out: say `cargo xtask firmware --tls \
                 any-server`, or name the feature tls-any-server",
            ),
            Some(_) => None,
        }
    }
}

/// Updates that a device takes. This is built in and cannot be changed on the set-up page.
#[derive(Debug, PartialEq, Eq)]
pub struct Updates {
    /// The Ed25519 public keys whose releases are taken.
    pub keys: Vec<PublicKey>,
    /// Whether firmware without a signature is taken, too.
    pub allow_unsigned: bool,
    /// The hosts that firmware is fetched from; none are any.
    pub hosts: Vec<String>,
}

/// The file, with one network or several.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File<W> {
    ssid: Option<Spanned<String>>,
    #[serde(default)]
    password: String,
    wifi: Option<W>,
    broker: Option<Spanned<Broker>>,
    #[serde(default)]
    device: Device,
    updates: Option<Spanned<UpdatesTable>>,
    tls: Option<TlsTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpdatesTable {
    #[serde(default)]
    keys: Vec<Spanned<String>>,
    allow_unsigned: Option<bool>,
    hosts: Option<Spanned<Vec<Spanned<String>>>>,
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
    tls: bool,
    mqtt: Option<Spanned<String>>,
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
pub fn read(text: &str) -> Result<Contents, FileError> {
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
        let File { ssid, password, wifi, broker, device, updates, tls } = file;
        File { ssid, password, wifi: wifi.map(|wifi| vec![wifi]), broker, device, updates, tls }
    } else {
        toml::from_str(text).map_err(malformed)?
    };
    let wrong = |offset: usize, what: &str| FileError { line: at(offset), what: what.to_owned() };
    let updates = trusted_updates(file.updates, &wrong)?;
    let tls = file.tls.map(|table| tls::read(table, &wrong)).transpose()?;
    let told_by_phone = file.ssid.is_none() && file.wifi.is_none() && file.broker.is_none();
    if told_by_phone && file.device.name.is_none() && file.device.topic.is_none() {
        return Ok(Contents { settings: None, updates, tls });
    }

    let invalid =
        |offset: usize| move |error: Invalid| FileError { line: at(offset), what: error.to_string() };
    let mut settings = Settings::new();
    let first = file.ssid.map(|ssid| Wifi { ssid, password: file.password });
    for Wifi { ssid, password } in first.into_iter().chain(file.wifi.into_iter().flatten()) {
        settings.add_network(ssid.get_ref(), &password).map_err(invalid(ssid.span().start))?;
    }
    if let Some(broker) = file.broker {
        let whole = broker.span().start;
        let Broker { host, port, tls: over_tls, mqtt, user, password } = broker.into_inner();
        if over_tls && tls.is_none() {
            return Err(wrong(whole, NOBODY));
        }
        settings.tls = over_tls;
        let usual = if over_tls { MQTT_TLS } else { MQTT };
        let (port, port_at) = port.map_or((usual, whole), |port| (*port.get_ref(), port.span().start));
        let at_fault = if port == 0 { port_at } else { host.span().start };
        settings.set_broker(host.get_ref(), port).map_err(invalid(at_fault))?;
        if let Some(mqtt) = mqtt {
            settings.set_mqtt(mqtt.get_ref()).map_err(invalid(mqtt.span().start))?;
        }
        settings.set_login(&user, &password).map_err(invalid(whole))?;
    }
    if let Some(name) = file.device.name {
        settings.set_name(name.get_ref()).map_err(invalid(name.span().start))?;
    }
    if let Some(topic) = file.device.topic {
        settings.set_topic(topic.get_ref()).map_err(invalid(topic.span().start))?;
    }
    settings.check().map_err(invalid(0))?;
    Ok(Contents { settings: Some(settings), updates, tls })
}

const NOBODY: &str =
    "tls = true needs to know whom to trust: [tls] with ca = '''…''', the PEM text of the broker's CA";

/// Reads whose updates are taken. Without a key, taking unsigned ones must have been chosen: it is all or nothing then.
fn trusted_updates(
    table: Option<Spanned<UpdatesTable>>,
    wrong: &impl Fn(usize, &str) -> FileError,
) -> Result<Updates, FileError> {
    const CHOOSE: &str = "[updates] has to say whose updates the device takes: keys = [\"...\"] with what \
                          `otaru keygen` printed as public key, or allow_unsigned = true for whatever is offered";
    const NO_HOSTS: &str = "this list of hosts is empty: name one, or take the line out to allow every host";
    let table = table.ok_or_else(|| wrong(0, CHOOSE))?;
    let start = table.span().start;
    let UpdatesTable { keys, allow_unsigned, hosts } = table.into_inner();
    let mut known = Vec::new();
    for key in &keys {
        let at = key.span().start;
        let key = updates::key(key.get_ref()).map_err(|error| wrong(at, &error.to_string()))?;
        if known.contains(&key) {
            return Err(wrong(at, "this key is there twice"));
        }
        known.push(key);
    }
    let keys = known;
    let host = |host: Spanned<String>| match AllowedHost::new(host.get_ref()).is_valid() {
        true => Ok(host.into_inner()),
        false => Err(wrong(host.span().start, &format!("this {NO_ALLOWED_HOST}"))),
    };
    let hosts = match hosts {
        // Neither nowhere nor everywhere is what an empty list says for sure.
        Some(list) if list.get_ref().is_empty() => return Err(wrong(list.span().start, NO_HOSTS)),
        Some(list) => list.into_inner().into_iter().map(host).collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    match allow_unsigned {
        None | Some(false) if keys.is_empty() => Err(wrong(start, CHOOSE)),
        allowed => Ok(Updates { keys, allow_unsigned: allowed.unwrap_or(false), hosts }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::MqttVersion;

    const UNSIGNED: &str = "[updates]\nallow_unsigned = true\n";
    const EXAMPLE: &str = include_str!("../../network_credentials.example.toml");

    #[test]
    fn the_example_is_valid() {
        let Contents { settings, updates, tls } = read(EXAMPLE).unwrap();
        assert_eq!(tls, None);
        assert_eq!(updates, Updates { keys: vec![], allow_unsigned: true, hosts: vec![] });
        let settings = settings.unwrap();
        assert_eq!(settings.networks.len(), 2);
        assert_eq!(settings.port, 1883);
    }

    #[test]
    fn one_network_may_stand_alone() {
        for wifi in
            ["ssid = 'attic'\npassword = '12345678'\n", "[wifi]\nssid = 'attic'\npassword = '12345678'\n"]
        {
            let text = format!("{wifi}[broker]\nhost = 'broker.lan'\n{UNSIGNED}");
            let settings = read(&text).unwrap().settings.unwrap();
            assert_eq!(settings.networks[0].ssid, "attic");
            assert_eq!(settings.networks[0].password, "12345678");
        }
    }

    #[test]
    fn the_version_of_mqtt_may_be_chosen() {
        let version = |line: &str| {
            let text = format!("ssid = 'attic'\n[broker]\nhost = 'b'\n{line}\n{UNSIGNED}");
            read(&text).map(|contents| contents.settings.unwrap().mqtt)
        };
        assert_eq!(version(""), Ok(MqttVersion::Auto));
        assert_eq!(version("mqtt = 'auto'"), Ok(MqttVersion::Auto));
        assert_eq!(version("mqtt = '5'"), Ok(MqttVersion::V5));
        assert_eq!(version("mqtt = '3.1.1'"), Ok(MqttVersion::V311));
        let error = version("mqtt = '4'").unwrap_err();
        assert!(error.line == 4 && error.what.contains("auto, 5 or 3.1.1"), "{error}");
    }

    /// Of no CA, but of its form.
    const PEM: &str = "-----BEGIN CERTIFICATE-----\nMAMCAQc=\n-----END CERTIFICATE-----\n";

    #[test]
    fn credentials_fit_the_tls_that_is_built() {
        let file = |table: &str| read(&format!("{UNSIGNED}{table}")).unwrap();
        let (without, own, public) =
            (file(""), file(&format!("[tls]\nca = '''{PEM}'''")), file("[tls]\nca = 'public'"));
        for preset in [Preset::OwnServer, Preset::AnyServer, Preset::Prebuilt] {
            assert_eq!((without.unfit(Some(preset)), own.unfit(Some(preset))), (None, None));
        }
        assert_eq!(without.unfit(None), None);
        assert!(own.unfit(None).unwrap().contains("--tls own-server"));
        assert!(public.unfit(Some(Preset::OwnServer)).unwrap().contains("--tls any-server"));
        assert_eq!(public.unfit(Some(Preset::AnyServer)), None);
        assert_eq!(public.unfit(Some(Preset::Prebuilt)), None);
    }

    #[test]
    fn a_broker_over_tls_needs_somebody_to_trust() {
        let broker = "ssid = 'attic'\n[broker]\nhost = 'b'\ntls = true\n";
        let error = read(&format!("{broker}{UNSIGNED}")).unwrap_err();
        assert!(error.line == 2 && error.what.contains("[tls]"), "{error}");
        let contents = read(&format!("{broker}{UNSIGNED}[tls]\nca = '''{PEM}{PEM}'''\n")).unwrap();
        let (settings, tls) = (contents.settings.unwrap(), contents.tls.unwrap());
        assert_eq!((settings.tls, settings.port), (true, 8883));
        assert_eq!((tls.cas.len(), tls.identity, tls.time_server.as_deref()), (2, None, Some(TIME_SERVER)));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let line = |text: &str| read(&format!("{text}\n{UNSIGNED}")).unwrap_err().line;
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
        let text = format!("[wifi]\nssid = 'attic'\npassword = 'secret'\n[broker]\nhost='b'\n{UNSIGNED}");
        let error = read(&text).unwrap_err();
        assert!(!error.to_string().contains("'secret'"), "{error}");
    }

    #[test]
    fn whose_updates_are_taken_must_be_chosen() {
        let network = "[wifi]\nssid = 'attic'\n[broker]\nhost = 'b'\n";
        let updates = |table: &str| read(&format!("{network}{table}")).map(|contents| contents.updates);
        let key = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";
        assert!(updates("").unwrap_err().what.contains("allow_unsigned"));
        assert_eq!(updates("[updates]\nallow_unsigned = false").unwrap_err().line, 5);
        assert_eq!(updates("[updates]\nkeys = [\n'x']").unwrap_err().line, 7);
        assert!(updates("[updates]\nallow_unsigned = true").unwrap().allow_unsigned);
        let signed = updates(&format!("[updates]\nkeys = ['{key}']")).unwrap();
        assert!(!signed.allow_unsigned);
        assert_eq!(signed.keys[0].as_bytes()[..2], [0x19, 0xbf]);
        let twice = updates(&format!("[updates]\nkeys = ['{key}',\n'{key}']")).unwrap_err();
        assert!(twice.line == 7 && twice.what.contains("twice"), "{twice}");
        let weak = updates(&format!("[updates]\nkeys = ['{}']", "0".repeat(64))).unwrap_err();
        assert!(weak.line == 6 && weak.what.contains("anybody can sign"), "{weak}");
    }

    #[test]
    fn what_the_page_refuses_the_build_refuses() {
        let wifi = "[wifi]\nssid = 'attic'\n";
        for (text, line, what) in [
            ("[wifi]\nssid = \"a\\u0000b\"\n[broker]\nhost = 'b'\n", 2, "the Wi-Fi network's name"),
            ("[[wifi]]\nssid = 'a'\n[[wifi]]\nssid = 'a'\n[broker]\nhost = 'b'\n", 4, "is there twice"),
            (
                &format!("{wifi}password = '{}'\n[broker]\nhost = 'b'\n", "g".repeat(64)),
                2,
                "the Wi-Fi password",
            ),
            (&format!("{wifi}[broker]\nhost = 'mqtt://b'\n"), 4, "is a URL"),
            (&format!("{wifi}[broker]\nhost = 'b:1883'\n"), 4, "has a port"),
            (&format!("{wifi}[broker]\nhost = 'localhost'\n"), 4, "this device itself"),
            (&format!("{wifi}[broker]\nhost = 'b'\npassword = 'x'\n"), 3, "needs a user"),
            (
                &format!("{wifi}[broker]\nhost = 'b'\n[device]\ntopic = 'home/ota/'\n"),
                6,
                "at its start or end",
            ),
            (&format!("{wifi}[broker]\nhost = 'b'\n[device]\ntopic = '$SYS'\n"), 6, "begins with $"),
            (&format!("{wifi}[broker]\nhost = 'b'\n[device]\nname = 'a/b'\n"), 6, "the device's name"),
        ] {
            let error = read(&format!("{text}{UNSIGNED}")).unwrap_err();
            assert!(error.line == line && error.what.contains(what), "{text}: {error}");
        }
    }

    #[test]
    fn hosts_are_those_a_device_understands() {
        let read = |hosts: &str| {
            read(&format!("{UNSIGNED}hosts = [{hosts}]")).map(|contents| contents.updates.hosts)
        };
        let empty = read("").unwrap_err();
        assert!(empty.line == 3 && empty.what.contains("take the line out"), "{empty}");
        let hosts = ["files.lan:8080", "*.example.org", "192.0.2.1", "[2001:db8::1]:80"];
        assert_eq!(read(&hosts.map(|host| format!("'{host}'")).join(", ")).unwrap(), hosts);
        for host in ["", "http://files.lan", "u:p@files.lan", "files.lan/x", "*", "127.1", "files.lan:0"] {
            let error = read(&format!("'files.lan',\n'{host}'")).unwrap_err();
            assert_eq!(error.line, 4, "{host}");
            assert!(!error.what.contains("u:p"), "{}", error.what);
        }
    }

    #[test]
    fn keys_alone_make_a_firmware_that_is_told_by_phone() {
        assert_eq!(read(UNSIGNED).unwrap().settings, None);
        assert!(read("").is_err());
    }
}
