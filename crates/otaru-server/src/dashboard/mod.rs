//! The dashboard: what people look at.
//!
//! Pages are made here, whole, and work without JavaScript: links, forms, and the answers to forms are redirects to pages. A
//! small script makes them live: it hears from [`live`] that something changed, fetches the same page again and changes what
//! differs. So there is one place where anything is drawn.
//!
//! | page | file |
//! | --- | --- |
//! | log in, log out | [`login`] |
//! | overview | [`overview`] |
//! | devices, and one of them | [`devices`], [`device`] |
//! | releases, and one of them | [`releases`], [`release`] |
//! | rollouts, a new one, and one of them | [`rollouts`], [`plan`], [`rollout`] |
//! | who did what | [`audit`] |
//! | tokens and fleet keys | [`keys`] |
//!
//! [`admission`] decides who may see a page, what surrounds it is [`shell`], how it is answered [`page`], numbers and moments in words
//! are [`show`], drawings are [`chart`], what forms bring is [`fields`], style and script are [`assets`].

mod admission;
mod assets;
mod audit;
mod chart;
mod cookies;
mod device;
mod devices;
mod fields;
mod keys;
mod live;
mod login;
mod notice;
mod overview;
mod page;
mod plan;
mod release;
mod releases;
mod rollout;
mod rollouts;
mod secret;
mod shell;
mod show;
mod visitor;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};

use self::page::Failure;
use crate::app::Shared;
use crate::problem::Problem;

/// Bytes of the longest form, where a route does not say otherwise.
const LONGEST_FORM: usize = 512 * 1024;

/// Things that a page may load, and where it may send: this server only, and no code but its own file (Content Security Policy level 3).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The pages.
pub fn router(app: Shared) -> Router {
    Router::new()
        .merge(overview::router())
        .merge(devices::router())
        .merge(device::router())
        .merge(releases::router())
        .merge(release::router())
        .merge(rollouts::router())
        .merge(plan::router())
        .merge(rollout::router())
        .merge(audit::router())
        .merge(keys::router())
        .merge(login::router())
        .merge(live::router())
        .layer(DefaultBodyLimit::max(LONGEST_FORM))
        .layer(from_fn_with_state(app.clone(), guard))
        .merge(assets::router())
        .with_state(app)
}

/// A page that is nowhere.
pub fn not_found() -> Response {
    let response = Failure::from(Problem::not_found("such page")).into_response();
    with_headers(response)
}

/// Changes come from our own pages only, whatever cookies a browser sends along; and nothing of what is shown is kept or framed.
async fn guard(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads && !is_ours(request.headers(), app.config.public_url.as_deref()) {
        let text =
            "this form was not sent from a page of this server; open the page again, and send it from there";
        return with_headers(
            Failure::from(Problem::new(StatusCode::FORBIDDEN, "forbidden", text)).into_response(),
        );
    }
    // A script that looks for what changed shows no notice, so that the visitor sees it with the next page.
    let noticed = reads
        && !cookies::is_script(request.headers())
        && cookies::cookie(request.headers(), notice::COOKIE).is_some();
    let mut response = with_headers(next.run(request).await);
    // A notice is shown once.
    if noticed
        && response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"))
    {
        response.headers_mut().append(header::SET_COOKIE, notice::no_notice());
    }
    response
}

fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        // An answer that goes on says itself how it may be kept.
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Whether a form comes from a page of this server: browsers say so in `Sec-Fetch-Site` (W3C Fetch Metadata) where the connection
/// is one they trust, and in `Origin` in any case. That is the host that was asked or, as proxies may put another there, the one
/// that the operator named.
fn is_ours(headers: &HeaderMap, public_url: Option<&str>) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin";
    }
    let host = |url: &str| {
        let (_, rest) = url.split_once("://")?;
        Some(rest.split('/').next().unwrap_or_default().to_ascii_lowercase())
    };
    let Some(origin) = text("origin").and_then(host) else { return false };
    let asked = text("host").map(str::to_ascii_lowercase);
    asked.is_some_and(|asked| origin == asked)
        || public_url.and_then(host).is_some_and(|named| origin == named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_forms_are_taken() {
        let ours = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            is_ours(&headers, Some("https://Public.example:8443/ota"))
        };
        assert!(ours(&[("sec-fetch-site", "same-origin")]));
        assert!(ours(&[("origin", "http://ota.lan:8080"), ("host", "OTA.lan:8080")]));
        assert!(ours(&[("origin", "https://ota.lan"), ("host", "ota.lan")]), "behind a proxy that ends TLS");
        let renamed = [("origin", "https://public.example:8443"), ("host", "127.0.0.1:8080")];
        assert!(ours(&renamed), "behind a proxy that does not tell which host was asked");
        for bad in [
            &[("sec-fetch-site", "cross-site"), ("origin", "http://a"), ("host", "a")][..],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none")],
            &[("origin", "http://evil.example"), ("host", "ota.lan")],
            &[("origin", "null"), ("host", "ota.lan")],
            &[("origin", "http://ota.lan:8081"), ("host", "ota.lan:8080")],
            &[("host", "ota.lan")],
            &[],
        ] {
            assert!(!ours(bad), "{bad:?}");
        }
    }
}
