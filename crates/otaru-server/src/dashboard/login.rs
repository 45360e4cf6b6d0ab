//! `/login` and `/logout`: from a token to a session, and its end.

use std::net::{IpAddr, SocketAddr};

use askama::Template;
use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use otaru_rollout::Time;
use serde_json::json;

use super::cookies::{is_secure, no_session, session_cookie};
use super::fields::{Fields, Form, Query};
use super::page::{Page, draw, sentence};
use super::shell::{Section, Shell};
use super::visitor::Visitor;
use crate::access::{audit, sessions, tokens};
use crate::app::{App, Shared};
use crate::caller::Caller;
use crate::http::{OverTls, Peer};
use crate::problem::Problem;

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/login", get(show).post(enter))
        .route("/login/guest", post(enter_as_guest))
        .route("/logout", post(leave))
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    shell: Shell,
    /// Page to go to after the login.
    to: String,
    /// Why it did not work.
    error: Option<String>,
    /// Whether one may come in without a token.
    guests: bool,
    /// Whether the token goes to another machine in clear.
    in_clear: bool,
}

/// A page of this server, from what a query says.
fn destination(fields: &Fields) -> String {
    let to = fields.text("to");
    let ours = to.starts_with('/')
        && !to.starts_with("//")
        && !to.contains('\\')
        && !to.chars().any(char::is_control);
    if ours { to.to_owned() } else { "/".to_owned() }
}

fn page(
    app: &App,
    to: String,
    error: Option<String>,
    (peer, secure): (IpAddr, bool),
    headers: &HeaderMap,
) -> Page {
    let guests = guests(app, peer, headers);
    let in_clear = !peer.to_canonical().is_loopback() && !secure;
    draw(&LoginPage { shell: Shell::bare("Log in"), to, error, guests, in_clear })
}

async fn show(
    State(app): State<Shared>,
    Query(fields): Query,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    tls: Option<axum::Extension<OverTls>>,
    headers: HeaderMap,
    visitor: Result<Visitor, Response>,
) -> Page {
    let to = destination(&fields);
    if visitor.is_ok() {
        return Ok(Redirect::to(&to).into_response());
    }
    let secure = is_secure(&app, &headers, Some(peer.ip()), tls.map(|tls| tls.0));
    page(&app, to, None, (peer.ip(), secure), &headers)
}

async fn enter(
    State(app): State<Shared>,
    axum::Extension(Peer(peer)): axum::Extension<Peer>,
    ConnectInfo(connection): ConnectInfo<SocketAddr>,
    tls: Option<axum::Extension<OverTls>>,
    headers: HeaderMap,
    Form(fields): Form,
) -> Page {
    let to = destination(&fields);
    let secure = is_secure(&app, &headers, Some(connection.ip()), tls.map(|tls| tls.0));
    let caller = match app.tokens.verify(fields.text("token")).await? {
        Ok(caller) => caller,
        Err(refusal) => {
            let detail = match app.login_rates.failed.count(peer, app.clock.now()) {
                Ok(()) => format!("{}.", sentence(&refusal.to_string())),
                Err(problem) => sentence(&problem.detail),
            };
            let mut response = page(&app, to, Some(detail), (connection.ip(), secure), &headers)?;
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            return Ok(response);
        }
    };
    admit(&app, caller, &to, secure).await
}

/// Whether somebody may come in without a token: only where that was asked for, from this machine, and by a name of this machine,
/// which no page of somebody else's can have.
fn guests(app: &App, peer: IpAddr, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    app.config.guests
        && peer.to_canonical().is_loopback()
        && matches!(name, "127.0.0.1" | "localhost" | "[::1]")
}

async fn enter_as_guest(
    State(app): State<Shared>,
    ConnectInfo(connection): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Form(fields): Form,
) -> Page {
    if !guests(&app, connection.ip(), &headers) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "this server lets in nobody without a token",
        )
        .into());
    }
    let now = app.clock.now();
    let admin = app.db.read(move |tx| tokens::first_admin(tx, now)).await?;
    let admin = admin.ok_or_else(|| Problem::conflict("there is no admin token; start the server again"))?;
    admit(&app, admin, &destination(&fields), false).await
}

async fn admit(app: &Shared, caller: Caller, to: &str, secure: bool) -> Page {
    let now: Time = app.clock.now();
    let opened = app.db.write(move |tx| {
        audit::note(tx, &caller, "session.open", &format!("token/{}", caller.token), &json!({}), now)?;
        sessions::open(tx, &caller.token, now)
    });
    let mut response = Redirect::to(to).into_response();
    if let Some(cookie) = session_cookie(&opened.await?, secure) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

async fn leave(State(app): State<Shared>, visitor: Visitor) -> Page {
    app.db.write(move |tx| sessions::close(tx, visitor.session)).await?;
    let mut response = Redirect::to("/login").into_response();
    response.headers_mut().append(header::SET_COOKIE, no_session());
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_to_our_own_pages_only() {
        let to = |query: &str| destination(&Fields::read(query.as_bytes()));
        assert_eq!(to("to=%2Fdevices%3Fq%3Dx"), "/devices?q=x");
        for bad in ["", "to=http://evil.example", "to=//evil.example", "to=/%5Cevil.example", "to=/%0d%0aX:1"]
        {
            assert_eq!(to(bad), "/", "{bad}");
        }
    }
}
