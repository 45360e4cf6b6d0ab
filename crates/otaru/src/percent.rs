//! Percent-encoding (RFC 3986, section 2.1), of file names and of what stands in paths and queries of the API.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Everything but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same for a name in a path, where a `+` is only a `+`.
const RESERVED_IN_PATHS: &AsciiSet = &RESERVED.remove(b'+');

/// Encodes a text as a part of a path or a value of a query.
pub(crate) fn escape(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Encodes a file name as a part of a URL.
pub(crate) fn escape_name(name: &str) -> String {
    utf8_percent_encode(name, RESERVED_IN_PATHS).to_string()
}

/// Decodes a part of a URL; `None` where that is no text.
pub(crate) fn unescape(path: &str) -> Option<String> {
    percent_decode_str(path).decode_utf8().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_a_url_is_encoded() {
        assert_eq!(escape("lamp 1/ü?"), "lamp%201%2F%C3%BC%3F");
        assert_eq!(escape("1.0.0-rc_1~a+b"), "1.0.0-rc_1~a%2Bb");
        assert_eq!(escape_name("lamp+a b.bin"), "lamp+a%20b.bin");
    }

    #[test]
    fn what_was_encoded_is_read_again() {
        assert_eq!(unescape(&escape("a/ü +%")).as_deref(), Some("a/ü +%"));
        assert_eq!(unescape("%ff"), None);
    }
}
