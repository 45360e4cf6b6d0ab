//! What the browser sends from the set-up page: an HTTP/1.1 request (RFC 9112) with an urlencoded form (WHATWG URL,
//! section 5).

use heapless::{String, Vec};

use crate::{Invalid, Settings};

/// Bytes of the longest request: a form with everything at its longest, each byte as `%XX`, and headers.
pub const REQUEST: usize = 3072;

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// More bytes are to come.
    Incomplete,
    /// Somebody wants the page. All addresses show it: phones ask for their own to see whether there is internet.
    Page,
    /// The form, filled in.
    Form(&'a [u8]),
}

/// Looks at what has arrived of a request.
pub fn request(bytes: &[u8]) -> Request<'_> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Request::Incomplete };
    if !bytes.starts_with(b"POST ") {
        return Request::Page;
    }
    let body = &bytes[end + 4..];
    let length = core::str::from_utf8(&bytes[..end]).ok().and_then(|head| {
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?.1.trim().parse::<usize>().ok()
    });
    match length.unwrap_or(0) {
        length if length > REQUEST => Request::Page,
        length => body.get(..length).map_or(Request::Incomplete, Request::Form),
    }
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
    let port = field("port").filter(|port| !port.is_empty());
    let port = match port {
        Some(port) => port.trim().parse().map_err(|_| Invalid::Port)?,
        None => crate::MQTT,
    };
    settings.set_broker(field("host").ok_or(Invalid::Host)?.trim(), port)?;
    settings.set_login(&field("user").ok_or(Invalid::Login)?, &field("password").ok_or(Invalid::Login)?)?;
    settings.set_name(field("name").ok_or(Invalid::Name)?.trim())?;
    settings.set_topic(field("topic").ok_or(Invalid::Topic)?.trim())?;
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

    #[test]
    fn a_form_becomes_settings() {
        let form =
            b"ssid=At%20home&psk=caf%C3%A9+%26+tea&host=+broker.lan&port=&user=&password=&name=&topic=";
        let settings = settings(form).unwrap();
        assert_eq!(settings.networks[0].ssid, "At home");
        assert_eq!(settings.networks[0].password, "caf\u{e9} & tea");
        assert_eq!(settings.host, "broker.lan");
        assert_eq!(settings.port, 1883);
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        assert_eq!(settings(b"ssid=&host=b").unwrap_err(), Invalid::Ssid);
        assert_eq!(settings(b"ssid=a&psk=1234567&host=b").unwrap_err(), Invalid::WifiPassword);
        assert_eq!(settings(b"ssid=a&psk=&host=").unwrap_err(), Invalid::Host);
        assert_eq!(settings(b"ssid=a&psk=&host=b&port=70000").unwrap_err(), Invalid::Port);
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
        assert_eq!(request(b"POST / HTTP/1.1\r\nContent-Length: 99999\r\n\r\n"), Request::Page);
        assert_eq!(request(b"POST / HTTP/1.1\r\n\r\n"), Request::Form(b""));
    }
}
