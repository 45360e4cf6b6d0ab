//! Reads what a device reports, and bounds it: whatever else sees a report sees one that came through here.

use otaru_format::name;
use otaru_format::status::{CaIds, Status};

use crate::text::cut;
use otaru_broker::client::LONGEST_MESSAGE;

/// Bytes of the longest report; those of our own firmware have 1 KiB at most.
pub const LONGEST: usize = LONGEST_MESSAGE;

/// Bytes of the longest name: of a device, a product, a version, a deployment.
const NAME: usize = 64;
/// Bytes of the longest word of a kind: a chip, a reason of a restart.
const WORD: usize = 32;
/// Bytes of the longest sentence.
const SENTENCE: usize = 256;

/// Why a report is none.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// It is longer than any report.
    #[error("it has {0} bytes, more than the {LONGEST} that a report has at most")]
    TooLong(usize),
    /// It is not what a report is.
    #[error(transparent)]
    Unreadable(#[from] serde_json::Error),
}

/// Reads a report.
///
/// # Errors
/// When it is too long or no report.
pub fn read(payload: &[u8]) -> Result<Status<String>, ReportError> {
    match payload.len() {
        ..=LONGEST => Ok(bounded(serde_json::from_slice(payload)?)),
        more => Err(ReportError::TooLong(more)),
    }
}

/// The same report with every text cut to its bound and without control characters.
#[must_use]
pub fn bounded(mut report: Status<String>) -> Status<String> {
    // What a device may be called is left as it is: whoever takes a report looks whether it is of who sends it.
    if name::device(&report.device).is_err() {
        cut(&mut report.device, NAME);
    }
    for (text, most) in [
        (&mut report.chip, WORD),
        (&mut report.project, NAME),
        (&mut report.version, NAME),
        (&mut report.boot, WORD),
    ] {
        cut(text, most);
    }
    for text in [&mut report.product, &mut report.deployment].into_iter().flatten() {
        cut(text, NAME);
    }
    if let Some(error) = &mut report.error {
        cut(&mut error.detail, SENTENCE);
    }
    if let Some(tls) = &mut report.tls {
        tls.trusts = ids(&tls.trusts);
    }
    if let Some(failed) = &mut report.failed {
        cut(&mut failed.version, NAME);
    }
    report
}

/// Returns the names of CAs in a text, and nothing else that a device may say there.
fn ids(text: &str) -> String {
    let is_id = |word: &&str| {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        word.len() == CaIds::DIGITS && word.bytes().all(is_digit)
    };
    text.split(' ').filter(is_id).take(CaIds::MOST).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(text: &str) -> String {
        let image = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        serde_json::json!({
            "device": text, "chip": text, "state": "failed", "project": text, "product": text, "version": text,
            "image": image, "slot": 0, "confirmed": true, "deployment": text,
            "error": {"code": "timeout", "detail": text},
            "failed": {"version": text, "image": image, "boots": 1}, "tls": {"trusts": text, "dates": "checked"}, "boot": text, "uptime": 1, "more": text,
        })
        .to_string()
    }

    /// Every text in a value, however deep.
    fn texts(value: &serde_json::Value) -> Vec<&str> {
        match value {
            serde_json::Value::String(text) => vec![text],
            serde_json::Value::Object(fields) => fields.values().flat_map(texts).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn a_report_names_cas_and_nothing_else_where_they_stand() {
        let [one, other] = ["0123456789abcdef", "fedcba9876543210"];
        assert_eq!(ids(&format!("{one} trust-me {other}  {}", one.to_uppercase())), format!("{one} {other}"));
        assert_eq!(ids(&format!("{one} ").repeat(9)), [one; CaIds::MOST].join(" "));
    }

    #[test]
    fn every_text_of_a_report_has_a_bound() {
        let long = "ä".repeat(150);
        let report = read(full(&long).as_bytes()).unwrap();
        let value = serde_json::to_value(&report).unwrap();
        let cut = texts(&value).into_iter().filter(|text| text.contains('ä')).collect::<Vec<_>>();
        assert_eq!(cut.len(), 9, "all but the one that no report has, and names of CAs: {value}");
        for text in cut {
            assert!(text.ends_with('…') && text.len() <= SENTENCE, "{text}");
        }
        assert!(value.to_string().len() < LONGEST / 2);
    }

    #[test]
    fn a_text_as_long_as_it_may_be_is_left_alone() {
        let most = "v".repeat(NAME);
        let report = read(full(&most).as_bytes()).unwrap();
        assert_eq!((report.version.as_str(), report.device.as_str()), (most.as_str(), most.as_str()));
        assert_eq!(report.chip.len(), WORD);
    }

    #[test]
    fn no_terminal_is_told_what_to_do() {
        let report = read(full("\u{1b}]0;x\u{7}\u{9b}2J\n").as_bytes()).unwrap();
        let text = serde_json::to_string(&report).unwrap();
        assert!(!text.contains(char::is_control) && !text.contains("\\u00"), "{text}");
        let report = read(full("x\u{202e}nib.exe").as_bytes()).unwrap();
        assert_eq!(report.version, "x\u{fffd}nib.exe");
    }

    #[test]
    fn what_is_longer_than_any_report_is_not_looked_at() {
        let long = full(&"x".repeat(500));
        assert!(matches!(read(long.as_bytes()), Err(ReportError::TooLong(_))));
        assert!(matches!(read(b"{}"), Err(ReportError::Unreadable(_))));
    }
}
