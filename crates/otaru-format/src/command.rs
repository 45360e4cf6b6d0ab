//! Commands: a firmware URL as plain text, or a JSON offer.

use core::fmt;

use serde::Serialize;

use crate::digest::Digest;
use crate::json::{BadJson, Object, Text, Value, Writer};
use crate::name::has_control;
use crate::url::{Authority, Scheme, UrlError, split_authority, split_scheme};

/// Bytes of the longest command: the longest URL in an offer with every field, and some escapes.
pub const MAX_COMMAND: usize = 768;
/// Bytes of the longest URL.
pub const MAX_URL: usize = 512;
/// Bytes of the longest name of a deployment.
pub const MAX_DEPLOYMENT: usize = 64;
/// Bytes that [`Command::parse`] needs for unescaped JSON strings.
pub const SCRATCH: usize = MAX_URL + MAX_DEPLOYMENT;

/// An image offered to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Offer<'a> {
    /// URL of the firmware.
    pub url: &'a str,
    /// The SHA-256 of the image; anything else is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Digest>,
    /// Echoed in reports; at most [`MAX_DEPLOYMENT`] bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<&'a str>,
    /// Take it though it failed before or is for another product; of use where unsigned firmware is allowed only.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub force: bool,
    /// Place among a server's offers to this device; one below the highest that was followed is passed over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<u64>,
}

impl Offer<'_> {
    /// The offer as JSON; `None` when `buf` is too short.
    pub fn emit_json<'b>(&self, buf: &'b mut [u8]) -> Option<&'b str> {
        let mut json = Writer::new(buf);
        json.text("url", self.url);
        if let Some(image) = self.image {
            json.text("image", &image.hex());
        }
        json.text_if("deployment", self.deployment);
        if self.force {
            json.flag("force", true);
        }
        json.number_if("order", self.order);
        json.finish()
    }
}

/// Longest spread of a [`ReportRequest`], in seconds; a device takes a longer one for this.
pub const MAX_SPREAD: u16 = 3600;

/// Request to report at a random moment, so that a fleet that is asked at once does not answer at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportRequest {
    /// Seconds within which a device answers.
    pub spread: u16,
}

impl ReportRequest {
    /// The request as JSON; `None` when `buf` is too short.
    pub fn emit_json<'b>(&self, buf: &'b mut [u8]) -> Option<&'b str> {
        let mut json = Writer::new(buf);
        json.flag("report", true);
        json.number("spread", self.spread.into());
        json.finish()
    }
}

/// Command to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command<'a> {
    /// Run this firmware.
    Update(Offer<'a>),
    /// Stop the update that goes on.
    Cancel,
    /// Report yourself. It changes nothing else.
    Report(ReportRequest),
}

/// Why a command cannot be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum CommandError {
    /// Longer than [`MAX_COMMAND`], or its URL than [`MAX_URL`].
    TooLong,
    /// Neither a URL nor a JSON object.
    NotACommand,
    /// JSON that is not an offer.
    BadJson,
    /// The URL has spaces or control characters, or no usable host and port.
    BadUrl,
    /// Not `http://`.
    UnsupportedScheme,
    /// The URL has a user name or password in it.
    Login,
    /// The URL's host is written in letters beyond ASCII.
    International,
    /// `deployment` is longer than [`MAX_DEPLOYMENT`], or has a control character.
    BadDeployment,
    /// `image` is not a SHA-256.
    BadDigest,
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the command is too long: a URL has at most 512 bytes, a command 768",
            Self::NotACommand => "not a command: send a URL, or JSON such as {\"url\":\"http://…\"}",
            Self::BadJson => "the JSON is not an offer: \"url\" is missing, or a field is of the wrong type",
            Self::BadUrl => "the URL's host or port cannot be used, or it has spaces or control characters",
            Self::UnsupportedScheme => "only http:// and https:// URLs can be fetched",
            Self::Login => "the URL has a login in it, and logins in URLs are not sent",
            Self::International => "the URL's host name must be written as punycode (xn--…)",
            Self::BadDeployment => "\"deployment\" has at most 64 bytes and no control characters",
            Self::BadDigest => "\"image\" is not a SHA-256 in hexadecimal",
        })
    }
}

impl core::error::Error for CommandError {}

/// The fields of an offer, as they are written.
#[derive(Default)]
struct Fields<'a> {
    url: Option<Text<'a>>,
    image: Option<Text<'a>>,
    deployment: Option<Text<'a>>,
    force: Option<bool>,
    order: Option<u64>,
    cancel: Option<bool>,
    report: Option<bool>,
    spread: Option<u64>,
}

impl<'a> Fields<'a> {
    /// Reads them; what no version knows is passed over, and what stands twice is refused, as it could be meant either way.
    fn read(text: &'a str) -> Result<Self, BadJson> {
        let mut fields = Self::default();
        let mut object = Object::open(text)?;
        while let Some((name, value)) = object.next()? {
            let twice = match value {
                Value::Null => false,
                _ if name.is("url") => fields.url.replace(value.text()?).is_some(),
                _ if name.is("image") => fields.image.replace(value.text()?).is_some(),
                _ if name.is("deployment") => fields.deployment.replace(value.text()?).is_some(),
                _ if name.is("force") => fields.force.replace(value.flag()?).is_some(),
                _ if name.is("order") => fields.order.replace(value.number()?).is_some(),
                _ if name.is("cancel") => fields.cancel.replace(value.flag()?).is_some(),
                _ if name.is("report") => fields.report.replace(value.flag()?).is_some(),
                _ if name.is("spread") => fields.spread.replace(value.number()?).is_some(),
                _ => false,
            };
            if twice {
                return Err(BadJson);
            }
        }
        Ok(fields)
    }
}

impl<'a> Command<'a> {
    /// Reads a command. Unescaped JSON strings are put into `scratch`, which has [`SCRATCH`] bytes.
    ///
    /// # Errors
    /// A [`CommandError`] that says what to send instead.
    pub fn parse(payload: &'a [u8], scratch: &'a mut [u8]) -> Result<Self, CommandError> {
        if payload.len() > MAX_COMMAND {
            return Err(CommandError::TooLong);
        }
        let text = core::str::from_utf8(payload).map_err(|_| CommandError::NotACommand)?.trim();
        if text.starts_with('{') {
            return Self::parse_json(text, scratch);
        }
        if text.eq_ignore_ascii_case("cancel") {
            return Ok(Self::Cancel);
        }
        if !text.as_bytes().windows(3).any(|three| three == b"://") {
            return Err(CommandError::NotACommand);
        }
        check_url(text)?;
        Ok(Self::Update(Offer { url: text, image: None, deployment: None, force: false, order: None }))
    }

    fn parse_json(text: &'a str, scratch: &'a mut [u8]) -> Result<Self, CommandError> {
        let json = Fields::read(text).map_err(|BadJson| CommandError::BadJson)?;
        if json.cancel == Some(true) {
            return Ok(Self::Cancel);
        }
        if json.report == Some(true) {
            let spread = json.spread.unwrap_or(0).min(MAX_SPREAD.into());
            return Ok(Self::Report(ReportRequest { spread: u16::try_from(spread).unwrap_or(MAX_SPREAD) }));
        }
        let url = json.url.ok_or(CommandError::BadJson)?;
        let (url, rest) = url.unescape(scratch).ok_or(CommandError::TooLong)?;
        check_url(url)?;
        let deployment = match json.deployment {
            Some(text) => {
                let room = rest.len().min(MAX_DEPLOYMENT);
                let name = text.unescape(&mut rest[..room]).map(|(name, _)| name);
                Some(name.filter(|name| !has_control(name)).ok_or(CommandError::BadDeployment)?)
            }
            None => None,
        };
        let image = match json.image {
            Some(hex) => {
                let mut digits = [0; 64];
                let digest = hex.unescape(&mut digits).and_then(|(hex, _)| hex.parse().ok());
                Some(digest.ok_or(CommandError::BadDigest)?)
            }
            None => None,
        };
        Ok(Self::Update(Offer { url, image, deployment, force: json.force == Some(true), order: json.order }))
    }
}

impl From<UrlError> for CommandError {
    fn from(error: UrlError) -> Self {
        match error {
            UrlError::Malformed => Self::BadUrl,
            UrlError::Scheme | UrlError::Https => Self::UnsupportedScheme,
            UrlError::Login => Self::Login,
            UrlError::International => Self::International,
            UrlError::TooLong => Self::TooLong,
        }
    }
}

/// Checks what makes a URL useless; what else is not allowed in one (RFC 3986 section 2) is encoded when it is sent.
fn check_url(url: &str) -> Result<(), CommandError> {
    if url.len() > MAX_URL {
        return Err(CommandError::TooLong);
    }
    if url.bytes().any(|b| b <= b' ' || b == 0x7F) {
        return Err(CommandError::BadUrl);
    }
    let (scheme, rest) = split_scheme(url.as_bytes()).ok_or(CommandError::BadUrl)?;
    Scheme::parse(scheme)?;
    let (authority, _) = split_authority(rest.strip_prefix(b"//").ok_or(CommandError::BadUrl)?);
    Authority::parse(authority)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    fn url_of(payload: &str) -> Result<std::string::String, CommandError> {
        let mut scratch = [0; MAX_COMMAND];
        match Command::parse(payload.as_bytes(), &mut scratch)? {
            Command::Update(offer) => Ok(offer.url.into()),
            Command::Cancel => Ok("cancel".into()),
            Command::Report(ReportRequest { spread }) => Ok(format!("report within {spread} s")),
        }
    }

    #[test]
    fn plain_and_json_mean_the_same() {
        assert_eq!(url_of(" http://h:8000/new.bin\n").unwrap(), "http://h:8000/new.bin");
        assert_eq!(url_of(r#"{"url":"http:\/\/h\/n","later":[1,{"x":2}]}"#).unwrap(), "http://h/n");
        assert_eq!(url_of(r#"{"cancel":true}"#).unwrap(), "cancel");
        assert_eq!(url_of("CANCEL").unwrap(), "cancel");
        for url in [
            "HTTP://H:/ü.bin",
            "https://h/x",
            "http://h?x=a@b",
            "http://[::1]:81/x#part",
            "http://h/a|b",
            "http://h#x",
        ] {
            assert_eq!(url_of(url).unwrap(), url);
        }
    }

    #[test]
    fn an_offer_leads_back() {
        let offer = Offer {
            url: "http://h/x",
            image: Some(Digest::of(b"x")),
            deployment: Some("d-1"),
            force: true,
            order: Some(7),
        };
        let (mut buf, mut scratch) = ([0; 512], [0; 512]);
        let json = offer.emit_json(&mut buf).unwrap();
        assert_eq!(Command::parse(json.as_bytes(), &mut scratch), Ok(Command::Update(offer)));
    }

    #[test]
    fn a_request_to_report_leads_back_and_its_spread_has_a_bound() {
        let mut buf = [0; 64];
        let json = ReportRequest { spread: 40 }.emit_json(&mut buf).unwrap();
        assert_eq!(json, r#"{"report":true,"spread":40}"#);
        assert_eq!(url_of(json).unwrap(), "report within 40 s");
        assert_eq!(url_of(r#"{"report":true}"#).unwrap(), "report within 0 s");
        for spread in ["3600", "3601", "65536", "18446744073709551615"] {
            let json = format!(r#"{{"spread":{spread},"report":true}}"#);
            assert_eq!(url_of(&json).unwrap(), "report within 3600 s");
        }
        for bad in [
            r#"{"report":false}"#,
            r#"{"report":1}"#,
            r#"{"report":true,"report":true}"#,
            r#"{"report":true,"spread":-1}"#,
            r#"{"report":true,"spread":"1"}"#,
        ] {
            assert_eq!(url_of(bad), Err(CommandError::BadJson), "{bad}");
        }
        // What is asked of an update stays what it is.
        assert_eq!(url_of(r#"{"url":"http://h/x","report":false}"#).unwrap(), "http://h/x");
    }

    #[test]
    fn bad_commands_say_why() {
        for (payload, error) in [
            ("", CommandError::NotACommand),
            ("hello", CommandError::NotACommand),
            ("http:///x", CommandError::BadUrl),
            ("http://h/a b", CommandError::BadUrl),
            ("http://h:0/x", CommandError::BadUrl),
            ("http://h:x/x", CommandError::BadUrl),
            ("http://h:+80/x", CommandError::BadUrl),
            ("http://[::1/x", CommandError::BadUrl),
            ("http://[fe80::1%25wlan0]/x", CommandError::BadUrl),
            ("http://2130706433/x", CommandError::BadUrl),
            ("http://?x", CommandError::BadUrl),
            ("http:/h://x", CommandError::BadUrl),
            ("/x?from=http://h", CommandError::BadUrl),
            ("ftp://h/x", CommandError::UnsupportedScheme),
            ("HTTPS://user:secret@h/x", CommandError::Login),
            ("http://user:secret@h/x", CommandError::Login),
            ("http://user@h/x", CommandError::Login),
            ("http://münchen.example/x", CommandError::International),
            (r#"{"url":"http:\/\/u:p@h\/x"}"#, CommandError::Login),
            ("{}", CommandError::BadJson),
            ("{\"url\":", CommandError::BadJson),
            (r#"{"url":"http://h/x","image":"12"}"#, CommandError::BadDigest),
        ] {
            assert_eq!(url_of(payload), Err(error), "{payload}");
        }
        assert_eq!(url_of(&format!("http://h/{}", "x".repeat(600))), Err(CommandError::TooLong));
    }

    #[test]
    fn a_deployment_has_64_bytes() {
        let offer = |name: &str| url_of(&format!(r#"{{"url":"http://h/x","deployment":"{name}"}}"#));
        assert_eq!(offer(&"d".repeat(64)).unwrap(), "http://h/x");
        assert_eq!(offer(&"d".repeat(65)), Err(CommandError::BadDeployment));
        // Bytes, not characters.
        assert_eq!(offer(&"ö".repeat(33)), Err(CommandError::BadDeployment));
    }

    #[test]
    fn a_deployment_can_be_shown() {
        let offer = |name: &str| url_of(&format!(r#"{{"url":"http://h/x","deployment":"{name}"}}"#));
        for name in [r"a\u0000", r"\n", r"\u001b[31m", r"\u007f", r"\u0085"] {
            assert_eq!(offer(name), Err(CommandError::BadDeployment), "{name}");
        }
        assert_eq!(offer(r#"\\ \"x\" é"#).unwrap(), "http://h/x");
    }
}
