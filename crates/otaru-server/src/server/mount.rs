//! The whole site under a path, `https://example.com/ota`, behind a proxy that takes the path off or leaves it.
//!
//! Everything inside is written as if it were at the root. Here, and only here, the path is taken off what is asked for and put
//! in front of what is answered: links, forms and files of pages, redirects, cookies. So no page can forget it.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;

/// Bytes of the longest page.
const LONGEST_PAGE: usize = 16 << 20;
/// Attributes that lead somewhere. Texts of others cannot look like these: their quotation marks are escaped.
const LINKS: [&str; 4] = [" href=\"/", " action=\"/", " formaction=\"/", " src=\"/"];
/// The one script that is not ours and names a path, and the path.
const DESCRIPTION: (&str, &str) = ("/api/docs/swagger-initializer.js", "\"/api/v1/openapi.json\"");

/// Puts everything under `path`, such as `/ota`; nothing changes for an empty one.
pub(crate) fn under(path: &str, site: Router) -> Router {
    if path.is_empty() {
        return site;
    }
    // Around a router of its own, so that the path is gone before a route is looked for.
    Router::new().fallback_service(site).layer(from_fn_with_state(Arc::from(path), mount))
}

async fn mount(State(path): State<Arc<str>>, mut request: Request, next: Next) -> Response {
    if let Some(inside) = inside(request.uri(), &path) {
        *request.uri_mut() = inside;
    }
    let described = request.uri().path() == DESCRIPTION.0;
    let mut response = next.run(request).await;
    with_path(response.headers_mut(), &path);
    let is_page = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if !is_page && !described {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // All of it is in memory already.
    let Ok(bytes) = to_bytes(body, LONGEST_PAGE).await else {
        return Response::from_parts(parts, Body::empty());
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(rewritten(bytes, &path, described)))
}

/// Returns what is asked for without the path; `None` where a proxy took it off.
fn inside(uri: &Uri, path: &str) -> Option<Uri> {
    let rest = uri.path_and_query()?.as_str().strip_prefix(path)?;
    let rest = match rest.chars().next() {
        Some('/') => rest.to_owned(),
        None | Some('?') => format!("/{rest}"),
        Some(_) => return None,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(rest).ok()?);
    Uri::from_parts(parts).ok()
}

/// Redirects lead into the path, and cookies stay in it.
fn with_path(headers: &mut HeaderMap, path: &str) {
    let place = headers.get(header::LOCATION).and_then(|place| place.to_str().ok());
    let place = place.filter(|place| place.starts_with('/') && !place.starts_with("//"));
    if let Some(place) = place.and_then(|place| HeaderValue::from_str(&format!("{path}{place}")).ok()) {
        headers.insert(header::LOCATION, place);
    }
    if let header::Entry::Occupied(mut cookies) = headers.entry(header::SET_COOKIE) {
        for cookie in cookies.iter_mut() {
            let text =
                cookie.to_str().unwrap_or_default().replacen("; Path=/;", &format!("; Path={path};"), 1);
            if let Ok(text) = HeaderValue::from_str(&text) {
                *cookie = text;
            }
        }
    }
}

fn rewritten(bytes: Bytes, path: &str, described: bool) -> Bytes {
    let Ok(text) = std::str::from_utf8(&bytes) else { return bytes };
    if described {
        let (_, place) = DESCRIPTION;
        return text.replace(place, &format!("\"{path}{}", &place[1..])).into();
    }
    let put = |text: String, link: &str| text.replace(link, &format!("{}{path}/", &link[..link.len() - 1]));
    LINKS.into_iter().fold(text.to_owned(), put).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_taken_off_where_it_is() {
        let of = |uri: &str| inside(&uri.parse().unwrap(), "/ota").map(|uri| uri.to_string());
        assert_eq!(of("/ota"), Some("/".into()));
        assert_eq!(of("/ota?a=b"), Some("/?a=b".into()));
        assert_eq!(of("/ota/devices/a%2Fb?x=/ota"), Some("/devices/a%2Fb?x=/ota".into()));
        for other in ["/", "/devices", "/otaru", "/otaru/x", "/OTA/x"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn what_leads_somewhere_leads_into_the_path() {
        let page = r#"<a href="/">x</a><a href="/devices"> <form action="/x"><button formaction="/y"><img src="/z">"#;
        let put = rewritten(Bytes::from(page), "/ota", false);
        let wanted = r#"<a href="/ota/">x</a><a href="/ota/devices"> <form action="/ota/x"><button formaction="/ota/y"><img src="/ota/z">"#;
        assert_eq!(put, wanted);
        let others = r##"<a href="#main">a</a><a href="https://x/y">b</a> href=&#34;/c"##;
        assert_eq!(rewritten(Bytes::from(others), "/ota", false), others);
    }

    #[test]
    fn redirects_and_cookies_stay_in_the_path() {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, HeaderValue::from_static("/login?to=%2F"));
        headers.append(header::SET_COOKIE, HeaderValue::from_static("a=b; Path=/; HttpOnly"));
        headers.append(header::SET_COOKIE, HeaderValue::from_static("c=d; Path=/; Max-Age=0"));
        with_path(&mut headers, "/ota");
        assert_eq!(headers[header::LOCATION], "/ota/login?to=%2F");
        let cookies: Vec<_> = headers.get_all(header::SET_COOKIE).iter().collect();
        assert_eq!(cookies, ["a=b; Path=/ota; HttpOnly", "c=d; Path=/ota; Max-Age=0"]);
        for elsewhere in ["https://files.example/a", "//files.example/a"] {
            headers.insert(header::LOCATION, HeaderValue::from_static(elsewhere));
            with_path(&mut headers, "/ota");
            assert_eq!(headers[header::LOCATION], elsewhere);
        }
    }
}
