//! Settings as bytes, in flash and in a binary.
//!
//! A number for the layout, the port, then texts with their lengths: host, user, password, name, topic, and the
//! networks' names and passwords. Behind them stands what firmware of before did not know; it reads such a record as one of its own:
//! the version of MQTT, and where CAs were set, where those stand.

use heapless::Vec;

use crate::settings::{Invalid, MqttVersion, NETWORKS, Settings};
#[cfg(feature = "trust")]
use crate::trust_store::StoredTrust;

/// Longest record: all texts at their longest.
pub const LEN: usize = 1 + 2 + 4 * 65 + 33 + NETWORKS * (33 + 65) + 2 + TRUST;
/// Bytes that name set CAs.
#[cfg(feature = "trust")]
const TRUST: usize = StoredTrust::LEN;
#[cfg(not(feature = "trust"))]
const TRUST: usize = 0;
const LAYOUT: u8 = 1;
/// Layout of settings with TLS: firmware that knows none refuses them, and does not send a login in clear.
const TLS_LAYOUT: u8 = 2;
/// First byte of what stands behind the networks: longer than any text, so that the networks end here for whoever knows no more.
const MORE: u8 = 0xFF;

/// The bytes of `settings`.
pub fn encode(settings: &Settings) -> Vec<u8, LEN> {
    let mut bytes = Vec::new();
    // Everything fits by the lengths of its types, so nothing is lost here.
    let mut put = |part: &[u8]| drop(bytes.extend_from_slice(part));
    put(&[if settings.tls { TLS_LAYOUT } else { LAYOUT }]);
    put(&settings.port.to_le_bytes());
    let Settings { networks, host, user, password, name, topic, .. } = settings;
    let texts = [host.as_str(), user, password, name, topic].into_iter();
    for text in texts.chain(networks.iter().flat_map(|n| [n.ssid.as_str(), n.password.as_str()])) {
        put(&[text.len() as u8]);
        put(text.as_bytes());
    }
    #[cfg(feature = "trust")]
    if let Some(trust) = settings.trust {
        put(&[MORE, settings.mqtt.number()]);
        put(&trust.to_bytes());
        return bytes;
    }
    if settings.mqtt != MqttVersion::Auto {
        put(&[MORE, settings.mqtt.number()]);
    }
    bytes
}

/// The settings in `bytes`; `None` unless they are complete and valid.
pub fn decode(bytes: &[u8]) -> Option<Settings> {
    let (head, mut rest) = bytes.split_first_chunk::<3>()?;
    let tls = match head[0] {
        LAYOUT => false,
        TLS_LAYOUT => true,
        _ => return None,
    };
    let mut text = || -> Option<&str> {
        let (len, after) = rest.split_first()?;
        let (text, after) = after.split_at_checked(usize::from(*len))?;
        rest = after;
        core::str::from_utf8(text).ok()
    };
    let [host, user, password, name, topic] = [text()?, text()?, text()?, text()?, text()?];
    let mut settings = Settings { tls, ..Settings::new() };
    let mut fill = || -> Result<(), Invalid> {
        settings.set_broker(host, u16::from_le_bytes([head[1], head[2]]))?;
        settings.set_login(user, password)?;
        settings.set_name(name)?;
        settings.set_topic(topic)?;
        while let Some(ssid) = text() {
            settings.add_network(ssid, text().ok_or(Invalid::WifiPassword)?)?;
        }
        settings.check()
    };
    fill().ok()?;
    #[cfg(feature = "trust")]
    if let Some(([MORE, _], more)) = rest.split_first_chunk::<2>()
        && let Some(trust) = StoredTrust::from_bytes(more)
    {
        settings.trust = Some(trust);
        rest = rest.get(..2)?;
    }
    settings.mqtt = match rest {
        [MORE, 5] => MqttVersion::V5,
        [MORE, 4] => MqttVersion::V311,
        // Firmware that is newer still may have more to say; what it cannot be asked about has its default.
        _ => MqttVersion::Auto,
    };
    Some(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_lead_back() {
        let mut settings = Settings::new();
        for number in 0..NETWORKS {
            settings.add_network(&format!("{number}{}", "s".repeat(31)), &"f".repeat(64)).unwrap();
        }
        settings.set_broker(&format!("{0}.{0}", "h".repeat(31)), 65535).unwrap();
        settings.set_login(&"u".repeat(64), &"q".repeat(64)).unwrap();
        settings.set_name(&"n".repeat(32)).unwrap();
        settings.set_topic(&"t".repeat(64)).unwrap();
        let bytes = encode(&settings);
        let longest = LEN - TRUST;
        assert_eq!(bytes.len(), longest - 3);
        assert_eq!(decode(&bytes), Some(settings.clone()));
        for (mqtt, len) in [
            (MqttVersion::Auto, longest - 3),
            (MqttVersion::V5, longest - 1),
            (MqttVersion::V311, longest - 1),
        ] {
            settings.mqtt = mqtt;
            let bytes = encode(&settings);
            assert_eq!(bytes.len(), len);
            assert_eq!(decode(&bytes), Some(settings.clone()));
            #[cfg(feature = "trust")]
            {
                let settings = with_trust(settings.clone());
                let bytes = encode(&settings);
                assert_eq!(bytes.len(), LEN - 1);
                assert_eq!(decode(&bytes), Some(settings));
            }
        }
    }

    #[cfg(feature = "trust")]
    fn with_trust(settings: Settings) -> Settings {
        Settings { trust: Some(StoredTrust::new(1, b"certificates")), ..settings }
    }

    /// Firmware without TLS, and of before there were set CAs, passes them over; the version of MQTT it finds out.
    #[cfg(feature = "trust")]
    #[test]
    fn set_cas_stand_where_older_firmware_does_not_look() {
        let settings = with_trust(decode(OLDER).unwrap());
        let bytes = encode(&settings);
        assert!(bytes.starts_with(&[OLDER, &[MORE, 0]].concat()));
        assert!(usize::from(MORE) > bytes.len() - OLDER.len() - 1);
        assert_eq!(decode(&bytes), Some(settings.clone()));
        // Cut within what names them, it is what firmware of before makes of it.
        for end in OLDER.len()..bytes.len() {
            assert_eq!(decode(&bytes[..end]), decode(OLDER), "{end}");
        }
        // Newer firmware may have more to say behind.
        assert_eq!(decode(&[&bytes[..], &[1, 2, 3]].concat()), Some(settings));
    }

    /// As firmware wrote it that spoke MQTT 5 only.
    const OLDER: &[u8] = b"\x01\x5B\x07\x0Abroker.lan\x02me\x06secret\0\0\x05attic\x08password\x04shed\0";

    #[test]
    fn a_record_of_older_firmware_is_read_and_written_the_same() {
        let settings = decode(OLDER).unwrap();
        assert_eq!(
            (settings.host.as_str(), settings.port, settings.mqtt),
            ("broker.lan", 1883, MqttVersion::Auto)
        );
        assert_eq!(settings.networks.len(), 2);
        assert_eq!(encode(&settings), OLDER);
    }

    #[test]
    fn older_firmware_reads_a_record_of_this_one() {
        let mut settings = decode(OLDER).unwrap();
        settings.mqtt = MqttVersion::V311;
        let bytes = encode(&settings);
        assert_eq!(bytes[..], [OLDER, &[MORE, 4]].concat());
        // It takes texts until one is longer than what is left.
        assert!(usize::from(MORE) > bytes.len() - OLDER.len() - 1);
    }

    /// Sent to a TLS port in clear, a login would be everybody's.
    #[test]
    fn firmware_without_tls_refuses_a_record_with_it() {
        let mut settings = decode(OLDER).unwrap();
        settings.tls = true;
        let bytes = encode(&settings);
        assert_eq!(bytes[..], [&[2], &OLDER[1..]].concat());
        assert_eq!(decode(&bytes), Some(settings));
    }

    #[test]
    fn what_newer_firmware_adds_is_passed_over() {
        for more in [&[MORE][..], &[MORE, 9], &[MORE, 4, 1]] {
            let settings = decode(&[OLDER, more].concat()).unwrap();
            assert_eq!(settings, decode(OLDER).unwrap(), "{more:?}");
        }
    }

    #[test]
    fn cut_and_foreign_bytes_are_refused() {
        let mut settings = Settings::new();
        settings.add_network("attic", "").unwrap();
        settings.set_broker("broker.lan", 1883).unwrap();
        let bytes = encode(&settings);
        assert_eq!(decode(&bytes), Some(settings));
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), None, "{end}");
        }
        assert_eq!(decode(&[0xFF; LEN]), None);
    }

    #[test]
    fn what_a_form_refuses_is_not_taken_from_flash_either() {
        let mut settings = Settings::new();
        settings.add_network("attic", "").unwrap();
        settings.set_broker("broker.lan", 1883).unwrap();
        settings.topic = heapless::String::try_from("home/ota/").unwrap();
        assert_eq!(decode(&encode(&settings)), None);
        settings.topic.clear();
        settings.host = heapless::String::try_from("mqtt://broker").unwrap();
        assert_eq!(decode(&encode(&settings)), None);
    }

    #[test]
    fn passwords_are_not_printed() {
        let mut settings = Settings::new();
        settings.add_network("attic", "topsecret").unwrap();
        settings.set_login("me", "topsecret").unwrap();
        assert!(!format!("{settings:?}").contains("topsecret"));
    }
}
