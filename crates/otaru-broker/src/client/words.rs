//! Words for reason codes.

use mqtt_protocol_core::mqtt::packet::{Properties, Property};
use mqtt_protocol_core::mqtt::result_code::MqttError;

/// Characters of a broker's own sentence that are shown.
const LONGEST_SENTENCE: usize = 200;

/// Says a reason code of MQTT 5 in words, with what the broker itself adds.
pub(super) fn reason(code: u8, props: Option<&Properties>) -> String {
    let name = match MqttError::try_from(code) {
        Ok(error) => spaced(&error.to_string()),
        Err(0) => "no reason".to_owned(),
        Err(other) => format!("reason {other:#04x}"),
    };
    let mut sentences = props.into_iter().flatten().filter_map(|property| match property {
        Property::ReasonString(sentence) => Some(sentence.val()),
        _ => None,
    });
    match sentences.next() {
        None => name,
        Some(sentence) => {
            let shown = sentence.chars().filter(|char| !char.is_control()).take(LONGEST_SENTENCE);
            format!("{name}: {}", shown.collect::<String>())
        }
    }
}

/// Makes `not authorized` of `NotAuthorized`.
fn spaced(name: &str) -> String {
    let mut words = String::new();
    for char in name.chars() {
        if char.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(char.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use mqtt_protocol_core::mqtt::packet::ReasonString;

    use super::*;

    #[test]
    fn codes_have_words() {
        for (code, words) in
            [(0, "no reason"), (0x87, "not authorized"), (0x8E, "session taken over"), (3, "reason 0x03")]
        {
            assert_eq!(reason(code, None), words);
        }
    }

    #[test]
    fn what_a_broker_adds_is_short_and_clean() {
        let sentence = format!("\u{1b}[31mno{}", "x".repeat(1000));
        let props = vec![Property::ReasonString(ReasonString::new(sentence.as_str()).unwrap())];
        let told = reason(0x97, Some(&props));
        assert!(told.starts_with("quota exceeded: [31mnoxxx") && told.len() < 250, "{told}");
    }
}
