//! Conditional requests (RFC 9110, section 13) for a file that has one strong entity tag and no date.

use axum::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
use axum::http::{HeaderMap, HeaderValue, Method};

/// Verdict on a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict<'a> {
    /// The client wants another file.
    Failed,
    /// The client has it.
    Unchanged,
    /// Send it, or this range of it.
    Send {
        /// The header, where it holds.
        range: Option<&'a HeaderValue>,
    },
}

/// Judges in the order of section 13.2.2.
pub(super) fn judge<'a>(method: &Method, headers: &'a HeaderMap, tag: &HeaderValue) -> Verdict<'a> {
    if headers.contains_key(IF_MATCH) && !lists(headers, &IF_MATCH, tag, false) {
        return Verdict::Failed;
    }
    if lists(headers, &IF_NONE_MATCH, tag, true) {
        return Verdict::Unchanged;
    }
    let mut ranges = headers.get_all(RANGE).iter();
    let range = ranges.next().filter(|_| ranges.next().is_none());
    // A date never holds: none was ever sent.
    let unchanged = headers.get(IF_RANGE).is_none_or(|wanted| wanted == tag);
    // It means nothing with other methods (section 14.2).
    Verdict::Send { range: range.filter(|_| unchanged && method == Method::GET) }
}

/// Whether a header lists the tag, or is `*`.
fn lists(headers: &HeaderMap, name: &HeaderName, tag: &HeaderValue, weak_counts: bool) -> bool {
    let values = headers.get_all(name).iter();
    // The tag itself has neither commas nor spaces, so whatever others have does not matter.
    values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).any(|listed| {
        let listed = listed.trim_ascii();
        let strong = if weak_counts { listed.strip_prefix(b"W/").unwrap_or(listed) } else { listed };
        listed == b"*" || strong == tag.as_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(method: Method, headers: &[(HeaderName, &'static str)]) -> String {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        match judge(&method, &headers, &HeaderValue::from_static("\"a\"")) {
            Verdict::Failed => "failed".into(),
            Verdict::Unchanged => "unchanged".into(),
            Verdict::Send { range: None } => "whole".into(),
            Verdict::Send { range: Some(range) } => range.to_str().unwrap().into(),
        }
    }

    #[test]
    fn as_the_rfc_says() {
        const DATE: &str = "Tue, 01 Jan 2030 00:00:00 GMT";
        let range = (RANGE, "bytes=0-1");
        for (headers, expected) in [
            (vec![], "whole"),
            (vec![range.clone()], "bytes=0-1"),
            (vec![range.clone(), (IF_RANGE, "\"a\"")], "bytes=0-1"),
            (vec![range.clone(), (IF_RANGE, "\"b\"")], "whole"),
            (vec![range.clone(), (IF_RANGE, "W/\"a\"")], "whole"),
            (vec![range.clone(), (IF_RANGE, DATE)], "whole"),
            (vec![(IF_RANGE, "\"a\"")], "whole"),
            (vec![(IF_NONE_MATCH, "\"a\"")], "unchanged"),
            (vec![(IF_NONE_MATCH, "W/\"a\"")], "unchanged"),
            (vec![(IF_NONE_MATCH, "*")], "unchanged"),
            (vec![(IF_NONE_MATCH, "\"b\" ,\t\"a\"")], "unchanged"),
            (vec![(IF_NONE_MATCH, "\"b\"")], "whole"),
            (vec![(IF_NONE_MATCH, "a")], "whole"),
            (vec![range.clone(), (IF_NONE_MATCH, "\"a\"")], "unchanged"),
            (vec![(IF_MATCH, "\"a\"")], "whole"),
            (vec![(IF_MATCH, "*")], "whole"),
            (vec![(IF_MATCH, "W/\"a\"")], "failed"),
            (vec![(IF_MATCH, "\"b\"")], "failed"),
            (vec![(IF_MATCH, "\"b\""), (IF_NONE_MATCH, "\"a\"")], "failed"),
        ] {
            assert_eq!(verdict(Method::GET, &headers), expected, "{headers:?}");
        }
        assert_eq!(verdict(Method::HEAD, &[range]), "whole");
    }

    #[test]
    fn of_two_range_headers_none_counts() {
        let mut headers = HeaderMap::new();
        headers.append(RANGE, HeaderValue::from_static("bytes=0-1"));
        headers.append(RANGE, HeaderValue::from_static("bytes=2-3"));
        let tag = HeaderValue::from_static("\"a\"");
        assert_eq!(judge(&Method::GET, &headers, &tag), Verdict::Send { range: None });
    }
}
