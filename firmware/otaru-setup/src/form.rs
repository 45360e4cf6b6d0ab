//! Form of the set-up page, as the browser sends it: an HTTP/1.1 request (RFC 9112) with an urlencoded form (WHATWG URL,
//! section 5).

#[cfg(feature = "trust")]
pub mod certificates;

use heapless::{String, Vec};

use otaru_format::name::BadName;

use crate::settings::{Invalid, MQTT, MQTT_TLS, Settings};

/// Bytes of the longest request: a form with everything at its longest, each byte as `%XX`, and headers. Where CAs can be set, PEM texts
/// for all that flash has room for: some 7,000 bytes as a browser sends them, and as much again for what people copy along.
pub const REQUEST: usize = 3072 + if cfg!(feature = "trust") { 13 * 1024 } else { 0 };

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// More bytes are to come.
    Incomplete,
    /// Somebody wants the page. All addresses show it: phones ask for their own to see whether there is internet.
    Page,
    /// The form, filled in.
    Form(&'a [u8]),
    /// A form that is larger than one can be.
    TooMuch,
}

/// Looks at what has arrived of a request.
pub fn request(bytes: &[u8]) -> Request<'_> {
    let Some((start, length)) = body(bytes) else {
        return if bytes.len() < REQUEST { Request::Incomplete } else { Request::TooMuch };
    };
    if !bytes.starts_with(b"POST ") {
        return Request::Page;
    }
    match bytes.get(start..).unwrap_or_default() {
        _ if length > REQUEST.saturating_sub(start) => Request::TooMuch,
        body => body.get(..length).map_or(Request::Incomplete, Request::Form),
    }
}

/// Returns the place of a request's body and its length; `None` while its head is not whole.
fn body(bytes: &[u8]) -> Option<(usize, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let length = core::str::from_utf8(bytes.get(..end)?).ok().and_then(|head| {
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?.1.trim().parse::<usize>().ok()
    });
    Some((end + 4, length.unwrap_or(0)))
}

/// The settings a form asks for.
///
/// # Errors
/// The first field that cannot be used.
pub fn settings(form: &[u8]) -> Result<Settings, Invalid> {
    let field = |name: &str| value::<64>(form, name);
    let mut settings = Settings::new();
    settings
        .add_network(&field("ssid").ok_or(Invalid::Ssid)?, &field("psk").ok_or(Invalid::WifiPassword)?)?;
    // A box that is not ticked is not in the form.
    settings.tls = field("tls").is_none_or(|tls| !tls.is_empty());
    let port = field("port").filter(|port| !port.is_empty());
    let port = match port {
        Some(port) => port.trim().parse().map_err(|_| Invalid::Port)?,
        None if settings.tls => MQTT_TLS,
        None => MQTT,
    };
    settings.set_broker(field("host").ok_or(Invalid::LongHost)?.trim(), port)?;
    settings.set_mqtt(&field("mqtt").ok_or(Invalid::MqttVersion)?)?;
    settings.set_login(&field("user").ok_or(Invalid::Login)?, &field("password").ok_or(Invalid::Login)?)?;
    settings.set_name(field("name").ok_or(Invalid::Name(BadName::TooLong))?.trim())?;
    settings.set_topic(field("topic").ok_or(Invalid::Topic(BadName::TooLong))?.trim())?;
    settings.check()?;
    Ok(settings)
}

/// A field's value, empty if it is missing; `None` if it is too long or no text.
fn value<const N: usize>(form: &[u8], name: &str) -> Option<String<N>> {
    let mut pairs = form.split(|byte| *byte == b'&');
    let encoded = pairs.find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    let mut bytes: Vec<u8, N> = Vec::new();
    let mut rest = encoded.unwrap_or_default();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let byte = match first {
            b'+' => b' ',
            b'%' => {
                let (digits, after) = rest.split_first_chunk::<2>()?;
                rest = after;
                hex(digits[0])? << 4 | hex(digits[1])?
            }
            byte => *byte,
        };
        bytes.push(byte).ok()?;
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    u8::try_from(char::from(digit).to_digit(16)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::MqttVersion;
    use otaru_format::name::BadHost;

    /// A form as a browser sends it, with one field changed.
    fn with(field: &str, value: &str) -> Result<Settings, Invalid> {
        let mut form = String::<3072>::new();
        for (name, usual) in [
            ("ssid", "attic"),
            ("psk", "12345678"),
            ("host", "broker.lan"),
            ("port", "1883"),
            ("user", "me"),
            ("password", "secret"),
            ("name", "lamp"),
            ("topic", "home/ota"),
        ] {
            let value = if name == field { value } else { usual };
            core::fmt::write(&mut form, format_args!("{name}={value}&")).unwrap();
        }
        settings(form.as_bytes())
    }

    #[test]
    fn what_a_person_can_write_wrong_is_told() {
        let long = "x".repeat(65);
        for (field, value, error) in [
            ("ssid", "", Invalid::Ssid),
            ("ssid", "a%00b", Invalid::Ssid),
            ("ssid", "a%0Ab", Invalid::Ssid),
            ("ssid", "%FF%FE", Invalid::Ssid),
            ("ssid", &long[..33], Invalid::Ssid),
            ("ssid", &long, Invalid::Ssid),
            ("psk", "1234567", Invalid::WifiPassword),
            ("psk", &long[..64], Invalid::WifiPassword),
            ("psk", &long, Invalid::WifiPassword),
            ("psk", "1234567%00", Invalid::WifiPassword),
            ("psk", "12345678%0D", Invalid::WifiPassword),
            ("host", "", Invalid::Host(BadHost::Empty)),
            ("host", "mqtt://broker", Invalid::Host(BadHost::Url)),
            ("host", "broker:1883", Invalid::Host(BadHost::Port)),
            ("host", "[fe80::1]", Invalid::Host(BadHost::Port)),
            ("host", "fe80::1", Invalid::Ipv6),
            ("host", "localhost", Invalid::OwnHost),
            ("host", "127.0.0.1", Invalid::OwnHost),
            ("host", "k%C3%BCche", Invalid::Host(BadHost::NotAscii)),
            ("host", "broker.", Invalid::Host(BadHost::Dot)),
            ("host", "bro+ker", Invalid::Host(BadHost::Character)),
            ("host", "%22broker%22", Invalid::Host(BadHost::Character)),
            ("host", "bro%00ker", Invalid::Host(BadHost::Character)),
            ("host", "192.168.1.256", Invalid::Host(BadHost::Address)),
            ("host", &long, Invalid::LongHost),
            ("port", "0", Invalid::Port),
            ("port", "-1", Invalid::Port),
            ("port", "18.83", Invalid::Port),
            ("user", "", Invalid::NoUser),
            ("user", "a%00", Invalid::Login),
            ("user", &long, Invalid::Login),
            ("password", "a%0A", Invalid::Login),
            ("name", "a+b", Invalid::Name(BadName::Space)),
            ("name", "a%2Fb", Invalid::Name(BadName::Slash)),
            ("name", "a%2Bb", Invalid::Name(BadName::Wildcard)),
            ("name", "a%00", Invalid::Name(BadName::Character)),
            ("name", &long[..33], Invalid::LongName),
            ("topic", "home/ota/", Invalid::Topic(BadName::EmptyPart)),
            ("topic", "/home", Invalid::Topic(BadName::EmptyPart)),
            ("topic", "home//ota", Invalid::Topic(BadName::EmptyPart)),
            ("topic", "$SYS", Invalid::Topic(BadName::Dollar)),
            ("topic", "home/%23", Invalid::Topic(BadName::Wildcard)),
            ("topic", "home/a+b", Invalid::Topic(BadName::Space)),
            ("topic", "home%EF%BF%BF", Invalid::Topic(BadName::Character)),
        ] {
            assert_eq!(with(field, value), Err(error), "{field}={value}");
        }
        for (field, value) in [
            ("psk", ""),
            ("psk", &"0123456789abcdefABCDEF".repeat(3)[..64]),
            ("host", "+broker.lan+"),
            ("port", ""),
            ("password", ""),
            ("name", ""),
            ("topic", ""),
        ] {
            let settings = with(field, value).unwrap();
            assert_eq!(
                crate::record::decode(&crate::record::encode(&settings)),
                Some(settings),
                "{field}={value}"
            );
        }
    }

    #[test]
    fn a_form_becomes_settings() {
        let form =
            b"ssid=At%20home&psk=caf%C3%A9+%26+tea&host=+broker.lan&port=&user=&password=&name=&topic=";
        let settings = settings(form).unwrap();
        assert_eq!(settings.networks[0].ssid, "At home");
        assert_eq!(settings.networks[0].password, "caf\u{e9} & tea");
        assert_eq!(settings.host, "broker.lan");
        assert_eq!(settings.port, 1883);
        assert_eq!(settings.mqtt, MqttVersion::Auto);
    }

    #[test]
    fn a_form_chooses_the_version_of_mqtt() {
        for (text, version) in [
            ("", MqttVersion::Auto),
            ("auto", MqttVersion::Auto),
            ("5", MqttVersion::V5),
            ("3.1.1", MqttVersion::V311),
        ] {
            let form = format!("ssid=a&psk=&host=b&mqtt={text}");
            assert_eq!(settings(form.as_bytes()).unwrap().mqtt, version);
        }
    }

    #[test]
    fn a_form_asks_for_tls() {
        for (text, tls, port) in [
            ("", false, 1883),
            ("&tls=", false, 1883),
            ("&tls=on", true, 8883),
            ("&tls=on&port=", true, 8883),
            ("&tls=on&port=18883", true, 18_883),
        ] {
            let settings = settings(format!("ssid=a&psk=&host=b{text}").as_bytes()).unwrap();
            assert_eq!((settings.tls, settings.port), (tls, port), "{text}");
        }
        // What cannot be read is not taken for a box that was left alone.
        assert!(settings(b"ssid=a&psk=&host=b&tls=%").unwrap().tls);
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        assert_eq!(settings(b"ssid=&host=b").unwrap_err(), Invalid::Ssid);
        assert_eq!(settings(b"ssid=a&psk=1234567&host=b").unwrap_err(), Invalid::WifiPassword);
        assert_eq!(settings(b"ssid=a&psk=&host=").unwrap_err(), Invalid::Host(BadHost::Empty));
        assert_eq!(settings(b"ssid=a&psk=&host=b&port=70000").unwrap_err(), Invalid::Port);
        assert_eq!(settings(b"ssid=a&psk=&host=b&mqtt=4").unwrap_err(), Invalid::MqttVersion);
        assert_eq!(settings(b"ssid=a&psk=%&host=b").unwrap_err(), Invalid::WifiPassword);
    }

    #[test]
    fn a_request_is_waited_for() {
        let whole = b"POST /save HTTP/1.1\r\ncontent-length: 6\r\n\r\nssid=a";
        for end in 0..whole.len() {
            assert_eq!(request(&whole[..end]), Request::Incomplete);
        }
        assert_eq!(request(whole), Request::Form(b"ssid=a"));
        assert_eq!(request(b"GET /generate_204 HTTP/1.1\r\n\r\n"), Request::Page);
        assert_eq!(request(b"POST / HTTP/1.1\r\nContent-Length: 99999\r\n\r\n"), Request::TooMuch);
        let head = format!("POST / HTTP/1.1\r\nContent-Length: {REQUEST}\r\n\r\n");
        assert_eq!(request(head.as_bytes()), Request::TooMuch);
        assert_eq!(request(&[b'a'; REQUEST]), Request::TooMuch);
        assert_eq!(request(b"POST / HTTP/1.1\r\n\r\n"), Request::Form(b""));
    }

    #[test]
    fn a_request_may_have_as_many_bytes_as_there_is_room_for() {
        let of = |length: usize| {
            let head = format!("POST / HTTP/1.1\r\nContent-Length: {length:05}\r\n\r\n");
            (head.len(), [head.as_bytes(), &vec![b'a'; length]].concat())
        };
        let (head, _) = of(0);
        let (_, largest) = of(REQUEST - head);
        assert_eq!(largest.len(), REQUEST);
        assert_eq!(request(&largest), Request::Form(&largest[head..]));
        assert_eq!(request(&largest[..REQUEST - 1]), Request::Incomplete);
        let (_, larger) = of(REQUEST - head + 1);
        // It is told by its head, before the rest has come.
        assert_eq!(request(&larger[..head]), Request::TooMuch);
    }
}
