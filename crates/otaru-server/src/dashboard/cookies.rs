//! Cookies, of sessions above all.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue, header};

use crate::access::sessions;
use crate::app::App;
use crate::http::OverTls;

/// Cookie of a session.
pub(super) const SESSION: &str = "otaru_session";

/// Whether our own script asks for a page.
pub(super) fn is_script(headers: &HeaderMap) -> bool {
    headers.contains_key("x-otaru-script")
}

/// A cookie's text (RFC 6265, section 4.2).
pub(super) fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, text)| text.to_owned())
}

/// The cookie of a session; not for scripts, nor for what other sites ask for in the background. Over TLS it stays there.
pub(super) fn session_cookie(text: &str, secure: bool) -> Option<HeaderValue> {
    let age = sessions::LONGEST.0 / 1_000;
    let secure = if secure { "; Secure" } else { "" };
    let cookie = format!("{SESSION}={text}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::from_str(&cookie).ok()
}

/// Ends the cookie of a session.
pub(super) fn no_session() -> HeaderValue {
    HeaderValue::from_static("otaru_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax")
}

/// Whether somebody came over TLS: to this server, or to a proxy that is trusted and says so.
pub(super) fn is_secure(
    app: &App,
    headers: &HeaderMap,
    connection: Option<IpAddr>,
    tls: Option<OverTls>,
) -> bool {
    let trusted = connection.is_some_and(|ip| app.config.trusted_proxies.contains(&ip.to_canonical()));
    let forwarded = headers.get("x-forwarded-proto");
    let forwarded = forwarded.is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"));
    tls.is_some() || trusted && forwarded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; otaru_session=x_y; b="));
        headers.append(header::COOKIE, HeaderValue::from_static("otaru_notice=done:ok"));
        assert_eq!(cookie(&headers, SESSION).as_deref(), Some("x_y"));
        assert_eq!(cookie(&headers, "otaru_notice").as_deref(), Some("done:ok"));
        assert_eq!(cookie(&headers, "b").as_deref(), Some(""));
        assert_eq!(cookie(&headers, "session"), None);
    }
}
