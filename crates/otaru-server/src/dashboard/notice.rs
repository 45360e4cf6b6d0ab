//! Notices: what a page tells at its top, and the cookie that brings it there.

use axum::http::HeaderValue;

/// Cookie with what the next page tells.
pub(super) const COOKIE: &str = "otaru_notice";

/// A line at the top of a page: that something was done, or why it was not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) good: bool,
    pub(super) text: String,
}

/// Bytes of the longest text that is told.
const LONGEST: usize = 1_200;

impl Notice {
    /// Something was done.
    pub(super) fn done(text: impl Into<String>) -> Self {
        Self { good: true, text: text.into() }
    }

    /// Something was not done.
    pub(super) fn failed(text: impl Into<String>) -> Self {
        Self { good: false, text: text.into() }
    }

    /// As a cookie has it.
    pub(super) fn written(&self) -> String {
        let mut text = self.text.clone();
        text.truncate(text.floor_char_boundary(LONGEST));
        let text: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
        format!("{}:{text}", if self.good { "done" } else { "failed" })
    }

    /// From a cookie.
    pub(super) fn read(cookie: &str) -> Option<Self> {
        let (kind, text) = cookie.split_once(':')?;
        // A pair without a value is a name.
        let (text, _) = form_urlencoded::parse(text.as_bytes()).next()?;
        Some(Self { good: kind == "done", text: text.chars().take(LONGEST).collect() })
    }
}

/// Returns the cookie that brings a notice to the next page.
pub(super) fn notice_cookie(notice: &Notice) -> Option<HeaderValue> {
    let cookie = format!("{COOKIE}={}; Path=/; Max-Age=60; HttpOnly; SameSite=Strict", notice.written());
    HeaderValue::from_str(&cookie).ok()
}

/// Returns the end of that cookie.
pub(super) fn no_notice() -> HeaderValue {
    HeaderValue::from_static("otaru_notice=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_leads_back() {
        for text in ["Done.", "a; b=c, \"d\" & ü %", ""] {
            let notice = Notice::done(text);
            let written = notice.written();
            assert!(
                written.bytes().all(|byte| byte.is_ascii_graphic() && !b";,\"\\".contains(&byte)),
                "{written}"
            );
            assert_eq!(Notice::read(&written).unwrap_or(Notice::done("")), notice);
        }
        assert!(Notice::failed("ü".repeat(1_000)).written().len() < 3_700, "a cookie has 4 KiB");
        assert_eq!(Notice::read("nonsense"), None);
    }
}
