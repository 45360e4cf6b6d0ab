//! Who looks at a page, and what their cookies say.

use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use otaru_format::digest::Digest;

use super::shell::{Failure, Notice};
use crate::access::sessions;
use crate::app::{App, Shared};
use crate::caller::{Caller, Role};
use crate::problem::Problem;
use crate::web::login::logged_in;

/// The cookie of a session.
const SESSION: &str = "otaru_session";
/// The cookie with what the next page tells.
pub(super) const NOTICE: &str = "otaru_notice";

/// Somebody who is logged in. As an extractor it sends everybody else to the login.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    /// Who, and what they may do.
    pub(super) caller: Caller,
    /// Their session.
    pub(super) session: Digest,
    /// What the page before wants to be told.
    pub(super) notice: Option<Notice>,
    /// When the page was asked for, in milliseconds since 1970.
    pub(super) now: i64,
    /// How many events there had been then.
    pub(super) since: u64,
}

impl Visitor {
    /// Whether they may change devices, releases and rollouts.
    pub(super) fn operates(&self) -> bool {
        self.caller.role >= Role::Operator
    }

    /// Whether they may do everything.
    pub(super) fn administers(&self) -> bool {
        self.caller.role >= Role::Admin
    }
}

impl FromRequestParts<Shared> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Response> {
        let since = app.events.told();
        let session = cookie(&parts.headers, SESSION).and_then(|text| sessions::key(&text));
        let found = match session {
            None => None,
            Some(key) => {
                let caller = sessions::verify(app, key).await;
                let caller = caller.map_err(|error| Failure::from(Problem::from(error)).into_response())?;
                caller.map(|caller| (caller, key))
            }
        };
        let Some((caller, session)) = found else { return Err(to_login(parts)) };
        logged_in(parts);
        let notice = cookie(&parts.headers, NOTICE).filter(|_| !is_script(&parts.headers));
        let notice = notice.and_then(|text| Notice::read(&text));
        Ok(Self { caller, session, notice, now: app.clock.now().0.cast_signed(), since })
    }
}

/// To the login, and from there back to where they wanted to go.
fn to_login(parts: &Parts) -> Response {
    let wanted = match parts.method {
        axum::http::Method::GET => parts.uri.path_and_query().map_or("/", |path| path.as_str()),
        _ => "/",
    };
    let to: String = form_urlencoded::Serializer::new(String::new()).append_pair("to", wanted).finish();
    Redirect::to(&if wanted == "/" { "/login".to_owned() } else { format!("/login?{to}") }).into_response()
}

/// A visitor who may change things.
#[derive(Debug, Clone)]
pub(super) struct OperatorVisitor(pub(super) Visitor);

impl FromRequestParts<Shared> for OperatorVisitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Response> {
        let visitor = Visitor::from_request_parts(parts, app).await?;
        match visitor.caller.require(Role::Operator) {
            Ok(()) => Ok(Self(visitor)),
            Err(problem) => Err(Failure::from(problem).into_response()),
        }
    }
}

/// A visitor who may do everything.
#[derive(Debug, Clone)]
pub(super) struct AdminVisitor(pub(super) Visitor);

impl FromRequestParts<Shared> for AdminVisitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Response> {
        let visitor = Visitor::from_request_parts(parts, app).await?;
        match visitor.caller.require(Role::Admin) {
            Ok(()) => Ok(Self(visitor)),
            Err(problem) => Err(Failure::from(problem).into_response()),
        }
    }
}

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

/// The cookie of a notice.
pub(super) fn notice_cookie(notice: &Notice) -> Option<HeaderValue> {
    let cookie = format!("{NOTICE}={}; Path=/; Max-Age=60; HttpOnly; SameSite=Strict", notice.written());
    HeaderValue::from_str(&cookie).ok()
}

/// Ends the cookie of a notice.
pub(super) fn no_notice() -> HeaderValue {
    HeaderValue::from_static("otaru_notice=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict")
}

/// Whether somebody came over TLS: a proxy that is trusted says so.
pub(super) fn is_secure(app: &App, headers: &HeaderMap, connection: Option<IpAddr>) -> bool {
    let trusted = connection.is_some_and(|ip| app.config.trusted_proxies.contains(&ip.to_canonical()));
    trusted
        && headers
            .get("x-forwarded-proto")
            .is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"))
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
        assert_eq!(cookie(&headers, NOTICE).as_deref(), Some("done:ok"));
        assert_eq!(cookie(&headers, "b").as_deref(), Some(""));
        assert_eq!(cookie(&headers, "session"), None);
    }
}
