//! Names that people write: of devices, of topics, of hosts; and what can be wrong with them.
//!
//! A build, a set-up page, a device and a command line all ask here, so that none keeps what another refuses.

use core::fmt;

/// Bytes of the longest device name or base topic.
pub const MAX_NAME: usize = 64;
/// Bytes of the longest host name (RFC 1035 section 2.3.4, as text).
pub const MAX_HOST: usize = 253;

/// Reason that the name of a device, or the beginning of topics, cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum BadName {
    /// There is none.
    Empty,
    /// More than [`MAX_NAME`] bytes.
    TooLong,
    /// A character that MQTT does not want: a control character or none at all (MQTT 5 section 1.5.4).
    Character,
    /// White space, which nobody sees.
    Space,
    /// `+` or `#` (MQTT 5 section 4.7.1).
    Wildcard,
    /// A `/` in a device's name.
    Slash,
    /// A `/` at the start or the end of a topic, or two in a row.
    EmptyPart,
    /// `$` at the start of a topic (MQTT 5 section 4.7.2).
    Dollar,
}

impl BadName {
    /// Ends a sentence that begins with "the name".
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "is empty",
            Self::TooLong => "is too long; 64 bytes are the most",
            Self::Character => "has a control character, or one that text may not have",
            Self::Space => "has a space",
            Self::Wildcard => "has a + or #, which MQTT gives a meaning",
            Self::Slash => "has a /, which divides topics",
            Self::EmptyPart => "has a / at its start or end, or two in a row",
            Self::Dollar => "begins with $, which is the broker's own",
        }
    }
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for BadName {}

/// Whether people would not see some of it, or terminals and brokers would obey it.
#[inline(never)]
pub fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// Checks the name of a device, which is part of its topics and its client id.
///
/// # Errors
/// Reason that it cannot be used.
pub fn device(name: &str) -> Result<(), BadName> {
    let part = part_of_topic(name);
    if part.is_ok() && name.contains('/') { Err(BadName::Slash) } else { part }
}

/// Checks how topics begin.
///
/// # Errors
/// Reason that it cannot be used.
pub fn base(topic: &str) -> Result<(), BadName> {
    part_of_topic(topic)?;
    if topic.starts_with('$') {
        return Err(BadName::Dollar);
    }
    if topic.split('/').any(str::is_empty) { Err(BadName::EmptyPart) } else { Ok(()) }
}

fn part_of_topic(text: &str) -> Result<(), BadName> {
    if text.is_empty() {
        return Err(BadName::Empty);
    }
    if text.len() > MAX_NAME {
        return Err(BadName::TooLong);
    }
    for c in text.chars() {
        match c {
            '+' | '#' => return Err(BadName::Wildcard),
            c if c.is_control() || is_no_character(c) => return Err(BadName::Character),
            c if c.is_whitespace() => return Err(BadName::Space),
            _ => {}
        }
    }
    Ok(())
}

/// Whether a character has no place in a line that others read: it controls a terminal, ends the line, or turns the direction of writing, so that
/// what follows looks like something else (Unicode Standard Annex 9, section 2).
pub fn is_unruly(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') || turns_writing(c)
}

fn turns_writing(c: char) -> bool {
    matches!(c, '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// Whether a character takes no place, or only says how another looks: soft hyphen, joiners, fillers, selectors, tags (Unicode's property
/// `Default_Ignorable_Code_Point`).
pub fn is_unseen(c: char) -> bool {
    matches!(c, '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
        | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{3164}'
        | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFF8}' | '\u{1BCA0}'..='\u{1BCA3}'
        | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

/// Whether a name looks like itself: another with a character more that nobody sees, or that turns the direction of writing, would be taken for
/// it. Whoever makes a name known asks here; one that is known already is good for what it is called.
pub fn is_plain(name: &str) -> bool {
    !name.chars().any(|c| is_unruly(c) || is_unseen(c))
}

/// Whether Unicode keeps a code point for no character at all (section 23.7).
fn is_no_character(c: char) -> bool {
    let code = u32::from(c);
    code & 0xFFFE == 0xFFFE || (0xFDD0..=0xFDEF).contains(&code)
}

/// Reason that a host name or address cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum BadHost {
    /// There is none.
    Empty,
    /// Longer than a host name can be.
    TooLong,
    /// A whole URL, or part of one.
    Url,
    /// A port behind it.
    Port,
    /// Letters of other alphabets than DNS has.
    NotAscii,
    /// A character that no host name has.
    Character,
    /// A dot at an end, or two in a row.
    Dot,
    /// A part of more than 63 bytes, or with a `-` at its end (RFC 1123 section 2.1).
    Part,
    /// An IPv4 address that is none, or that no host has.
    Address,
}

impl BadHost {
    /// Ends a sentence that begins with "the host".
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "is missing",
            Self::TooLong => "is too long",
            Self::Url => "is a URL: write the host name or address alone",
            Self::Port => "has a port: write the host name or address alone",
            Self::NotAscii => "has letters that DNS has not: write the form that begins with xn--",
            Self::Character => "has a character that no host name has",
            Self::Dot => "has a dot at its start or end, or two in a row",
            Self::Part => "has a part of more than 63 bytes, or with a - at its end",
            Self::Address => "is no IPv4 address that a host can have: four numbers from 0 to 255",
        }
    }
}

impl fmt::Display for BadHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for BadHost {}

/// Checks a host: a name as DNS has it (RFC 1123), an IPv4 address, or an IPv6 address without brackets.
///
/// # Errors
/// Reason that it cannot be used.
pub fn host(text: &str) -> Result<(), BadHost> {
    if text.is_empty() {
        return Err(BadHost::Empty);
    }
    if text.len() > MAX_HOST {
        return Err(BadHost::TooLong);
    }
    if text.contains(['/', '@', '?', '\\']) {
        return Err(BadHost::Url);
    }
    if is_ipv6(text) {
        return Ok(());
    }
    if text.contains(':') {
        return Err(BadHost::Port);
    }
    if !text.is_ascii() {
        return Err(BadHost::NotAscii);
    }
    if text.split('.').any(str::is_empty) {
        return Err(BadHost::Dot);
    }
    // An underscore is none of RFC 1123's, but home networks have them.
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return Err(BadHost::Character);
    }
    if text.split('.').any(|part| part.len() > 63 || part.starts_with('-') || part.ends_with('-')) {
        return Err(BadHost::Part);
    }
    // No top-level domain is a number, so what ends with one is meant as an address.
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    match text.rsplit('.').next().is_some_and(is_number) {
        true => ipv4(text).filter(|address| can_be_a_host(*address)).map(drop).ok_or(BadHost::Address),
        false => Ok(()),
    }
}

/// Whether a host leads back to whoever asks for it.
pub fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host == "::1"
        || ipv4(host).is_some_and(|[first, ..]| first == 127)
}

/// Whether this is written as an IPv6 address, without brackets. The parser that uses it may still refuse it.
fn is_ipv6(text: &str) -> bool {
    let colons = text.bytes().filter(|byte| *byte == b':').count();
    colons >= 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte))
}

fn ipv4(text: &str) -> Option<[u8; 4]> {
    let mut address = [0; 4];
    let mut parts = text.split('.');
    for byte in &mut address {
        // Not `010`, which some read as eight.
        *byte = parts.next().filter(|part| *part == "0" || !part.starts_with(['0', '+']))?.parse().ok()?;
    }
    parts.next().is_none().then_some(address)
}

/// Neither "this network" nor a group of hosts.
fn can_be_a_host([first, ..]: [u8; 4]) -> bool {
    (1..224).contains(&first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices() {
        for good in
            ["kitchen", "a", "esp32c3-a1b2c3", "k\u{fc}che", "\u{1f4a1}", "$1", "x.y_z", &"x".repeat(64)]
        {
            assert_eq!(device(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", BadName::Empty),
            (&"x".repeat(65), BadName::TooLong),
            (&"\u{fc}".repeat(33), BadName::TooLong),
            ("a\0b", BadName::Character),
            ("a\u{7f}", BadName::Character),
            ("a\u{85}", BadName::Character),
            ("a\u{ffff}", BadName::Character),
            ("a\u{fdd0}", BadName::Character),
            ("a\u{1fffe}", BadName::Character),
            ("a\n", BadName::Character),
            ("a\tb", BadName::Character),
            ("a b", BadName::Space),
            ("a\u{a0}b", BadName::Space),
            ("a\u{2003}", BadName::Space),
            ("a+", BadName::Wildcard),
            ("#", BadName::Wildcard),
            ("a/b", BadName::Slash),
            ("/", BadName::Slash),
        ] {
            assert_eq!(device(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn names_that_look_like_themselves() {
        for plain in ["kitchen", "k\u{fc}che", "\u{1f4a1}", "\u{5de}\u{5d8}", "\u{3b1}"] {
            assert!(is_plain(plain), "{plain:?}");
        }
        for c in [
            '\u{202e}',
            '\u{2066}',
            '\u{200f}',
            '\u{61c}',
            '\u{200b}',
            '\u{ad}',
            '\u{feff}',
            '\u{e0041}',
            '\u{fe0f}',
            '\u{e0100}',
            '\u{2028}',
        ] {
            let mut buf = [0; 4];
            let name = c.encode_utf8(&mut buf);
            assert!(!is_plain(name), "{name:?}");
            // A device that is called so keeps its name.
            assert_eq!(device(name).is_ok(), !c.is_whitespace(), "{name:?}");
        }
    }

    #[test]
    fn what_a_line_may_have() {
        for c in ['a', ' ', '\u{fc}', '\u{5d0}', '\u{200d}', '\u{1f4a1}', '\u{fffd}'] {
            assert!(!is_unruly(c), "{c:?}");
        }
        for c in ['\n', '\u{1b}', '\u{9b}', '\u{2028}', '\u{202e}', '\u{2067}', '\u{200e}'] {
            assert!(is_unruly(c), "{c:?}");
        }
    }

    #[test]
    fn how_topics_begin() {
        for good in ["ESP32/ota", "x", "a/b/c/d", "h\u{f6}f", "a/$b"] {
            assert_eq!(base(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", BadName::Empty),
            ("ESP32/ota/", BadName::EmptyPart),
            ("/ESP32", BadName::EmptyPart),
            ("a//b", BadName::EmptyPart),
            ("/", BadName::EmptyPart),
            ("$SYS/x", BadName::Dollar),
            ("$share/g/x", BadName::Dollar),
            ("a/+/b", BadName::Wildcard),
            ("a/#", BadName::Wildcard),
            ("a/b c", BadName::Space),
            ("a/\0", BadName::Character),
        ] {
            assert_eq!(base(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn hosts() {
        let long = ["x".repeat(63), "y".repeat(63), "z".repeat(63), "w".repeat(61)].join(".");
        for good in [
            "broker",
            "broker.lan",
            "my_broker.local",
            "192.168.1.10",
            "10.0.0.1",
            "xn--kche-0ra.example",
            "1and1.example",
            "a-b.c",
            "localhost",
            "127.0.0.1",
            "::1",
            "fe80::1:2",
            &long,
        ] {
            assert_eq!(host(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", BadHost::Empty),
            (&"x.".repeat(130), BadHost::TooLong),
            ("mqtt://broker", BadHost::Url),
            ("mqtts://broker:8883/", BadHost::Url),
            ("broker/x", BadHost::Url),
            ("user@broker", BadHost::Url),
            ("broker:1883", BadHost::Port),
            ("192.168.1.10:1883", BadHost::Port),
            ("[::1]", BadHost::Port),
            ("mqtt:broker", BadHost::Port),
            ("k\u{fc}che.lan", BadHost::NotAscii),
            ("broker\u{a0}", BadHost::NotAscii),
            ("broker.", BadHost::Dot),
            (".broker", BadHost::Dot),
            ("a..b", BadHost::Dot),
            (".", BadHost::Dot),
            ("bro ker", BadHost::Character),
            ("broker\n", BadHost::Character),
            ("bro\0ker", BadHost::Character),
            ("\"broker\"", BadHost::Character),
            ("'broker'", BadHost::Character),
            ("bro,ker", BadHost::Character),
            ("-broker", BadHost::Part),
            ("broker-.lan", BadHost::Part),
            (&"x".repeat(64), BadHost::Part),
            ("192.168.1.300", BadHost::Address),
            ("192.168.1", BadHost::Address),
            ("192.168.1.1.1", BadHost::Address),
            ("192.168.01.1", BadHost::Address),
            ("3232235777", BadHost::Address),
            ("0.0.0.0", BadHost::Address),
            ("255.255.255.255", BadHost::Address),
            ("239.1.2.3", BadHost::Address),
        ] {
            assert_eq!(host(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn what_leads_back() {
        for own in ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "::1"] {
            assert!(is_loopback(own), "{own}");
        }
        for other in ["broker", "localhost.example", "12.7.0.1", "127"] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
