//! Words for reason codes.

use otaru_format::name::is_unruly;

/// Characters of a broker's own sentence that are shown.
const LONGEST_SENTENCE: usize = 200;

/// Says a reason code of MQTT 5 in words, with what the broker itself adds.
pub(super) fn reason(code: u8, sentence: Option<&str>) -> String {
    let name = name(code).map_or_else(|| format!("reason {code:#04x}"), str::to_owned);
    match sentence {
        None => name,
        Some(sentence) => format!("{name}: {}", shown(sentence)),
    }
}

/// A broker's sentence as it may be shown: without control characters, and not without end.
pub(super) fn shown(sentence: &str) -> String {
    sentence.chars().filter(|char| !is_unruly(*char)).take(LONGEST_SENTENCE).collect()
}

/// Returns the standard's name for a code of a refusal or an end (MQTT 5, section 2.4).
fn name(code: u8) -> Option<&'static str> {
    Some(match code {
        0x00 => "no reason",
        0x80 => "unspecified error",
        0x81 => "malformed packet",
        0x82 => "protocol error",
        0x83 => "implementation specific error",
        0x84 => "unsupported protocol version",
        0x85 => "client identifier not valid",
        0x86 => "bad user name or password",
        0x87 => "not authorized",
        0x88 => "server unavailable",
        0x89 => "server busy",
        0x8A => "banned",
        0x8B => "server shutting down",
        0x8C => "bad authentication method",
        0x8D => "keep alive timeout",
        0x8E => "session taken over",
        0x8F => "topic filter invalid",
        0x90 => "topic name invalid",
        0x91 => "packet identifier in use",
        0x92 => "packet identifier not found",
        0x93 => "receive maximum exceeded",
        0x94 => "topic alias invalid",
        0x95 => "packet too large",
        0x96 => "message rate too high",
        0x97 => "quota exceeded",
        0x98 => "administrative action",
        0x99 => "payload format invalid",
        0x9A => "retain not supported",
        0x9B => "QoS not supported",
        0x9C => "use another server",
        0x9D => "server moved",
        0x9E => "shared subscriptions not supported",
        0x9F => "connection rate exceeded",
        0xA0 => "maximum connect time",
        0xA1 => "subscription identifiers not supported",
        0xA2 => "wildcard subscriptions not supported",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_words() {
        for (code, words) in
            [(0, "no reason"), (0x87, "not authorized"), (0x8E, "session taken over"), (3, "reason 0x03")]
        {
            assert_eq!(reason(code, None), words);
        }
        assert!((0x80..=0xA2).all(|code| name(code).is_some()) && name(0xA3).is_none());
    }

    #[test]
    fn what_a_broker_adds_is_short_and_clean() {
        let sentence = format!("\u{1b}[31mno{}", "x".repeat(1000));
        let told = reason(0x97, Some(&sentence));
        assert!(told.starts_with("quota exceeded: [31mnoxxx") && told.len() < 250, "{told}");
    }
}
