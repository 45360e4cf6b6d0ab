//! The dashboard's doors: who comes in, what a role may do, what forms are taken from, and that nothing of what devices and people
//! write gets out of its place in a page.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::http::{Method, Request, header};
use otaru_rollout::Time;
use otaru_server::clock::Clock;
use serde_json::json;

use crate::bench::{Answer, Bench};

/// Pages for whoever is logged in.
const PAGES: [&str; 8] = [
    "/",
    "/devices",
    "/devices?q=x&sort=last_seen&descending=1",
    "/devices/lamp-1",
    "/releases",
    "/rollouts",
    "/rollouts/1",
    "/live?of=device",
];
/// Pages for operators.
const FOR_OPERATORS: [&str; 2] = ["/audit", "/rollouts/new"];
/// Forms for operators; those for admins follow.
const DONE_BY_OPERATORS: [&str; 19] = [
    "/devices/tags",
    "/devices/update",
    "/devices/lamp-1/label",
    "/devices/lamp-1/tags",
    "/devices/lamp-1/tags/remove",
    "/devices/lamp-1/retire",
    "/devices/lamp-1/unretire",
    "/releases",
    "/releases/1/notes",
    "/releases/1/yank",
    "/releases/1/unyank",
    "/releases/1/build",
    "/rollouts/new",
    "/rollouts/1/start",
    "/rollouts/1/pause",
    "/rollouts/1/resume",
    "/rollouts/1/advance",
    "/rollouts/1/abort",
    "/rollouts/1/retry/lamp-1",
];
const DONE_BY_ADMINS: [&str; 6] = [
    "/devices",
    "/devices/lamp-1/password",
    "/keys/tokens",
    "/keys/tokens/01234567/revoke",
    "/keys/fleet",
    "/keys/fleet/01234567/revoke",
];

impl Bench {
    /// Opens a page with this cookie.
    pub(crate) async fn page(&self, cookie: &str, path: &str) -> Answer {
        let request = Request::builder().uri(path).header(header::COOKIE, cookie);
        // Of a stream, the head is enough.
        if path.starts_with("/live") {
            let response = self.respond(request.body(Body::empty()).unwrap()).await;
            let (parts, _) = response.into_parts();
            return Answer { status: parts.status, headers: parts.headers, text: String::new() };
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// Sends a form of one of our pages.
    pub(crate) async fn form(&self, cookie: &str, path: &str, form: &str) -> Answer {
        self.form_from(cookie, path, form, &[("sec-fetch-site", "same-origin")]).await
    }

    async fn form_from(&self, cookie: &str, path: &str, form: &str, more: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(Method::POST).uri(path).header(header::COOKIE, cookie);
        request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(form.to_owned())).unwrap()).await
    }

    /// Logs in with a token; gives back the cookie.
    pub(crate) async fn log_in(&self, token: &str) -> String {
        let answer = self.form("", "/login", &format!("token={token}")).await.is(303);
        cookie(&answer)
    }
}

/// The session that an answer opens.
fn cookie(answer: &Answer) -> String {
    let line = answer.headers[header::SET_COOKIE].to_str().unwrap();
    line.split(';').next().unwrap().to_owned()
}

fn location(answer: &Answer) -> &str {
    answer.headers[header::LOCATION].to_str().unwrap()
}

async fn with_a_device() -> Bench {
    let bench = Bench::start().await;
    bench.devices(vec![("lamp-1".into(), "1.0.0", "idle", vec![])]).await;
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_logged_in_sees_the_login_only() {
    let bench = with_a_device().await;
    let unknown = format!("otaru_session=session_01234567_{}", "0".repeat(64));
    for cookie in ["", "otaru_session=", "otaru_session=x", unknown.as_str()] {
        for path in PAGES.iter().chain(&FOR_OPERATORS).chain(&["/keys"]) {
            let answer = bench.page(cookie, path).await.is(303);
            assert!(location(&answer).starts_with("/login"), "{path}: {answer:?}");
        }
        for path in DONE_BY_OPERATORS.iter().chain(&DONE_BY_ADMINS).chain(&["/logout"]) {
            let answer = bench.form(cookie, path, "").await.is(303);
            assert_eq!(location(&answer), "/login", "{path}");
        }
    }
    let answer = bench.page("", "/devices?q=a%26b").await;
    assert_eq!(location(&answer), "/login?to=%2Fdevices%3Fq%3Da%2526b");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_does_what_it_may() {
    let bench = with_a_device().await;
    let (viewer, operator) = (bench.token("viewer").await, bench.token("operator").await);
    let (viewer, operator, admin) =
        (bench.log_in(&viewer).await, bench.log_in(&operator).await, bench.log_in(&bench.admin).await);
    for path in PAGES.iter().filter(|path| **path != "/rollouts/1") {
        for cookie in [&viewer, &operator, &admin] {
            bench.page(cookie, path).await.is(200);
        }
    }
    for path in FOR_OPERATORS {
        bench.page(&viewer, path).await.is(403);
        bench.page(&operator, path).await.is(200);
    }
    bench.page(&operator, "/keys").await.is(403);
    bench.page(&admin, "/keys").await.is(200);
    for path in DONE_BY_OPERATORS {
        bench.form(&viewer, path, "").await.is(403);
    }
    for path in DONE_BY_ADMINS {
        bench.form(&viewer, path, "").await.is(403);
        bench.form(&operator, path, "").await.is(403);
    }
    // Whoever may not do something is not shown it either.
    let page = bench.page(&viewer, "/devices/lamp-1").await.text;
    assert!(!page.contains("Retire") && !page.contains("<select"), "{page}");
    let page = bench.page(&operator, "/devices/lamp-1").await.text;
    assert!(page.contains("Retire") && !page.contains("Reset password"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_forms_of_our_own_pages_are_taken() {
    let bench = with_a_device().await;
    let admin = bench.log_in(&bench.admin).await;
    let mut refused = 0;
    for from in [
        &[][..],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "none")],
        &[("origin", "http://evil.example"), ("host", "ota.lan")],
        &[("origin", "null"), ("host", "ota.lan")],
    ] {
        for path in DONE_BY_OPERATORS.iter().chain(&DONE_BY_ADMINS).chain(&["/login", "/logout"]) {
            bench.form_from(&admin, path, "label=x", from).await.is(403);
            refused += 1;
        }
    }
    println!("{refused} forms of others were refused");
    let ours = [("origin", "http://ota.lan:8080"), ("host", "ota.lan:8080")];
    bench.form_from(&admin, "/devices/lamp-1/label", "label=Kitchen", &ours).await.is(303);
    assert_eq!(bench.get("/devices/lamp-1").await.json()["label"], "Kitchen");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_token_with_time_and_when_asked() {
    let now = Arc::new(AtomicU64::new(1_795_000_000_000));
    let clock = Arc::clone(&now);
    let bench = Bench::start_at(|_| {}, Clock::new(move || Time(clock.load(Ordering::Relaxed)))).await;
    let day = 86_400_000;

    let out = bench.log_in(&bench.admin).await;
    bench.page(&out, "/").await.is(200);
    bench.form(&out, "/logout", "").await.is(303);
    bench.page(&out, "/").await.is(303);

    let token = bench.token("viewer").await;
    let revoked = bench.log_in(&token).await;
    bench.page(&revoked, "/").await.is(200);
    let id = token.split('_').nth(1).unwrap();
    let admin = bench.log_in(&bench.admin).await;
    bench.form(&admin, &format!("/keys/tokens/{id}/revoke"), "").await.is(303);
    bench.page(&revoked, "/").await.is(303);

    // It lasts while it is used, but not for ever.
    let idle = bench.log_in(&bench.admin).await;
    for _ in 0..4 {
        now.fetch_add(6 * day, Ordering::Relaxed);
        bench.page(&admin, "/").await.is(200);
        // The use is noted after the answer.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    bench.page(&idle, "/").await.is(303);
    now.fetch_add(6 * day, Ordering::Relaxed);
    bench.page(&admin, "/").await.is(303);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_told_and_counted() {
    let bench = Bench::start().await;
    let wrong = format!("token=otaru_01234567_{}", "0".repeat(64));
    let first = bench.form("", "/login", &wrong).await.is(401);
    assert!(first.text.contains("token is not known here") && !first.text.contains("01234567"), "{first:?}");
    let mut last = String::new();
    for _ in 0..60 {
        last = bench.form("", "/login", &wrong).await.is(401).text;
    }
    assert!(last.contains("Too many failed logins"), "{last}");
    // Others at the same address are not locked out.
    bench.log_in(&bench.admin).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_for_browsers_only_and_stays_behind_tls() {
    let proxy = "127.0.0.1".parse().unwrap();
    let bench = Bench::start_with(|config| config.trusted_proxies = vec![proxy]).await;
    let login = format!("token={}", bench.admin);
    let origin = [("origin", "https://ota.example.com"), ("host", "ota.example.com")];
    let plain = bench.form_from("", "/login", &login, &origin).await.is(303);
    let plain = plain.headers[header::SET_COOKIE].to_str().unwrap().to_owned();
    assert!(plain.contains("; HttpOnly") && plain.contains("; SameSite=Lax"), "{plain}");
    assert!(!plain.contains("Secure") && !plain.contains(&bench.admin), "{plain}");
    let tls = [&origin[..], &[("x-forwarded-proto", "https")]].concat();
    let tls = bench.form_from("", "/login", &login, &tls).await.is(303);
    assert!(tls.headers[header::SET_COOKIE].to_str().unwrap().contains("; Secure"));
    // The API takes no sessions, so that no other page can use it with a visitor's cookie.
    let cookie = cookie(&tls);
    bench.page(&cookie, "/api/v1/devices").await.problem(401, "unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_stays_text() {
    let bench = Bench::start().await;
    let evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>";
    bench
        .devices(vec![(
            "lamp-1".into(),
            "<b>1.0</b>\" onclick=\"x",
            "<i>idle</i>",
            vec![("site", "<u>berlin</u>")],
        )])
        .await;
    let admin = bench.log_in(&bench.admin).await;
    let label: String = form_urlencoded::byte_serialize(evil.as_bytes()).collect();
    bench.form(&admin, "/devices/lamp-1/label", &format!("label={label}")).await.is(303);
    bench.post("/tokens", json!({"name": evil, "role": "viewer"})).await.is(201);
    let mut shown = 0;
    for path in [
        "/",
        "/devices",
        "/devices/lamp-1",
        "/audit",
        "/keys",
        &format!("/devices?q={label}"),
        "/rollouts/new",
    ] {
        let answer = bench.page(&admin, path).await.is(200);
        for bad in
            ["<script>alert", "<img src=x", "<b>1.0", "<i>idle", "<u>berlin", "\" onclick=\"x", "style="]
        {
            assert!(!answer.text.contains(bad), "{path} has {bad}: {}", answer.text);
        }
        shown += usize::from(answer.text.contains("&#60;script&#62;alert(1)"));
        let policy = answer.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"),
            "{policy}"
        );
    }
    assert!(shown >= 4, "it is shown, as text: {shown}");
    let nowhere = bench.page(&admin, "/devices/nobody").await.is(404);
    assert!(nowhere.text.contains("There is no device nobody"), "{}", nowhere.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_cannot_be_made_says_why_and_nothing_else() {
    let bench = with_a_device().await;
    let cookie = bench.log_in(&bench.admin).await;
    for (path, told) in [
        ("/devices?tags=site%3D", "<pre>  site=\n       ^</pre>"),
        ("/devices?versions=%3E%3D1.0.0%2C+newest", "<pre>  &#62;=1.0.0, newest\n"),
        ("/devices?state=rolledback", "did you mean rolled_back?"),
        (
            "/devices?sort=nope",
            "`sort`: there is no `nope`. It is one of: id, label, version, state, last_seen",
        ),
        ("/devices?standing=failed", "give `rollout`"),
    ] {
        let text = bench.page(&cookie, path).await.is(200).text;
        assert!(text.contains("role=\"alert\"") && text.contains(told), "{path}: {text}");
        for other in ["No device matches", "0 devices", "lamp-1"] {
            assert!(!text.contains(other), "{path} has {other}: {text}");
        }
    }
    let text = bench.page(&cookie, "/devices?q=porch").await.is(200).text;
    assert!(text.contains("No device matches") && !text.contains("role=\"alert\""), "{text}");
    let text = bench.page(&cookie, "/rollouts/new?undo=1&tags=site%3D").await.is(200).text;
    assert!(text.contains("<pre>  site=\n       ^</pre>"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_come_in_only_where_they_may() {
    let guest = |host: &'static str| [("sec-fetch-site", "same-origin"), ("host", host)];
    let closed = Bench::start().await;
    closed.form_from("", "/login/guest", "", &guest("127.0.0.1:8080")).await.is(403);
    let open = Bench::start_with(|config| config.guests = true).await;
    for host in ["127.0.0.1:8080", "localhost:8080", "[::1]:8080"] {
        let answer = open.form_from("", "/login/guest", "to=/devices", &guest(host)).await.is(303);
        assert_eq!(location(&answer), "/devices");
        open.page(&cookie(&answer), "/keys").await.is(200);
    }
    // A name that somebody else's page may have, though it leads here.
    for host in ["evil.example:8080", "localhost.evil.example", "10.0.0.1:8080", ""] {
        open.form_from("", "/login/guest", "", &guest(host)).await.is(403);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_form_brings_is_checked_and_nothing_filled_in_is_lost() {
    let bench = with_a_device().await;
    let admin = bench.log_in(&bench.admin).await;
    let answer =
        bench.form(&admin, "/rollouts/new", "sent=1&name=Mine&tags=site%3D%3D&wave=x&undo=1").await.is(422);
    assert!(
        answer.text.contains("value=\"Mine\"") && answer.text.contains("role=\"alert\""),
        "{}",
        answer.text
    );
    let answer = bench.form(&admin, "/devices/tags", "tags=a&do=add").await.is(303);
    let notice = answer.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(notice.starts_with("otaru_notice=failed:Select+devices"), "{notice}");
    let both = format!("{admin}; {}", notice.split(';').next().unwrap());
    let page = bench.page(&both, "/devices").await.is(200);
    assert!(page.text.contains("Select devices first"), "{}", page.text);
    assert!(page.headers[header::SET_COOKIE].to_str().unwrap().contains("Max-Age=0"), "it is told once");
    let long = format!("label={}", "x".repeat(600_000));
    bench.form(&admin, "/devices/lamp-1/label", &long).await.is(413);
}
