//! Requests to the server's API, and their answers: JSON, page by page, and files to upload.

use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use otaru_api::{Cursor, Page};
use otaru_tls::Reason;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use ureq::http::{Method, Request, Response};
use ureq::{Agent, AsSendBody, Body, SendBody};

use super::error::{Away, refusal};
use super::login::Login;
use crate::percent::escape;
use crate::trust;

/// Longest time a server may take to begin its answer.
const ANSWER: Duration = Duration::from_secs(60);
/// Longest answer that is read, in bytes.
const LONGEST: u64 = 64 << 20;

/// Longest time that a server may be away which was there before.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pauses before a request is sent again that was answered as if another server might take it. A load balancer that asks has left one out by then
/// which does not do.
const AGAIN: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(2)];
/// The pause before it is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// A client of one server. Cheap to clone; its calls run on threads for blocking work.
#[derive(Clone)]
pub(crate) struct Client {
    pub(super) agent: Agent,
    login: Arc<Login>,
}

impl Client {
    /// Of this server, with this token.
    ///
    /// # Errors
    /// Returns an error if it is asked over TLS, and the system has no root certificates.
    pub(crate) fn new(login: Login) -> anyhow::Result<Self> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(ANSWER))
            .user_agent(concat!("otaru/", env!("CARGO_PKG_VERSION")))
            // A token must not follow a redirect to somebody else.
            .max_redirects(0)
            .tls_config(trust::for_requests(&login.server, login.ca.as_deref())?)
            .build();
        Ok(Self { agent: config.into(), login: Arc::new(login) })
    }

    /// The server's address.
    pub(crate) fn server(&self) -> &str {
        &self.login.server
    }

    /// Reads something.
    pub(crate) async fn get<T: DeserializeOwned + Send + 'static>(&self, path: &str) -> anyhow::Result<T> {
        self.json(Method::GET, path, None).await
    }

    /// Reads something again, from a server that was there before: one that restarts, or a proxy that lost it, is waited for.
    ///
    /// # Errors
    /// When the server refuses, or is away for [`PATIENCE`].
    pub(crate) async fn get_again<T: DeserializeOwned + Send + 'static>(
        &self,
        path: &str,
    ) -> anyhow::Result<T> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match self.get(path).await {
                Err(error) if error.is::<Away>() && tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(PAUSE).await;
                }
                ended => return ended,
            }
        }
    }

    /// Makes something. The request may be repeated without harm, and is.
    pub(crate) async fn post<T: DeserializeOwned + Send + 'static>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.json(Method::POST, path, Some(serde_json::to_value(body)?)).await
    }

    /// Makes something happen that the path says by itself. The request may be repeated without harm, and is.
    pub(crate) async fn act<T: DeserializeOwned + Send + 'static>(&self, path: &str) -> anyhow::Result<T> {
        self.json(Method::POST, path, Some(Value::Object(serde_json::Map::new()))).await
    }

    /// Changes something to what is said. The request may be repeated without harm, and is.
    pub(crate) async fn patch<T: DeserializeOwned + Send + 'static>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.json(Method::PATCH, path, Some(serde_json::to_value(body)?)).await
    }

    /// Takes something away.
    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.json::<IgnoredAny>(Method::DELETE, path, None).await.map(drop)
    }

    /// Reads the items of a list, page by page; at most `most` of them.
    pub(crate) async fn list<T: DeserializeOwned + Send + 'static>(
        &self,
        path: &str,
        most: usize,
    ) -> anyhow::Result<Vec<T>> {
        Ok(self.first(path, most).await?.0)
    }

    /// The same, and whether there are more.
    pub(crate) async fn first<T: DeserializeOwned + Send + 'static>(
        &self,
        path: &str,
        most: usize,
    ) -> anyhow::Result<(Vec<T>, bool)> {
        let mut items = Vec::new();
        let mut cursor: Option<Cursor> = None;
        loop {
            let limit = (most - items.len()).min(1_000);
            let joint = if path.contains('?') { '&' } else { '?' };
            let mut page = format!("{path}{joint}limit={limit}");
            if let Some(cursor) = &cursor {
                page.push_str(&format!("&cursor={}", escape(&cursor.to_string())));
            }
            let Page { items: more, next, .. } = self.get::<Page<T>>(&page).await?;
            items.extend(more);
            match next {
                Some(next) if items.len() < most => cursor = Some(next),
                next => return Ok((items, next.is_some())),
            }
        }
    }

    /// Sends a file, whose bytes come from what `open` gives. Who refuses by the head alone, the server or a proxy, is asked before a
    /// byte is sent (RFC 9110, section 10.1.1).
    pub(crate) async fn upload<T: DeserializeOwned + Send + 'static, R: Read + Send + 'static>(
        &self,
        path: &str,
        len: u64,
        open: impl Fn() -> std::io::Result<R> + Send + 'static,
    ) -> anyhow::Result<T> {
        let client = self.clone();
        let head = || {
            self.request(Method::POST, path)
                .header("content-type", "application/octet-stream")
                .header("content-length", len)
        };
        let (asking, plain) = (head().header("expect", "100-continue"), head());
        blocking(move || {
            let body = || Ok::<_, std::io::Error>(SendBody::from_owned_reader(open()?));
            let mut answered = client.agent.run(asking.body(body()?)?);
            // Some proxies, such as Caddy, say more than the library can bear when they tell it to go on.
            if matches!(answered, Err(ureq::Error::Protocol(_))) {
                answered = client.agent.run(plain.body(body()?)?);
            }
            client.read(answered)
        })
        .await
    }

    async fn json<T: DeserializeOwned + Send + 'static>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<T> {
        let (client, path) = (self.clone(), path.to_owned());
        // What is deleted already would be missing the second time.
        let is_repeatable = method != Method::DELETE;
        let key = (method == Method::POST).then(|| format!("{:032x}", rand::random::<u128>()));
        let send = move || {
            let mut request = client.request(method.clone(), &path);
            if let Some(key) = &key {
                request = request.header("idempotency-key", key);
            }
            match &body {
                None => client.answer(request.body(())?),
                Some(body) => {
                    let request = request.header("content-type", "application/json");
                    client.answer(request.body(body.to_string())?)
                }
            }
        };
        blocking(move || {
            // Behind an address there may be several servers, and a load balancer sends nothing but GET to another one by itself.
            for pause in AGAIN.into_iter().filter(|_| is_repeatable) {
                match send() {
                    Err(error) if error.downcast_ref::<Away>().is_some_and(Away::is_passing) => {
                        std::thread::sleep(pause);
                    }
                    ended => return ended,
                }
            }
            send()
        })
        .await
    }

    pub(super) fn request(&self, method: Method, path: &str) -> ureq::http::request::Builder {
        Request::builder()
            .method(method)
            .uri(format!("{}/api/v1{path}", self.login.server))
            .header("authorization", format!("Bearer {}", self.login.token.expose()))
            .header("accept", "application/json")
    }

    fn answer<T: DeserializeOwned>(&self, request: Request<impl AsSendBody>) -> anyhow::Result<T> {
        self.read(self.agent.run(request))
    }

    fn read<T: DeserializeOwned>(&self, answered: Result<Response<Body>, ureq::Error>) -> anyhow::Result<T> {
        let mut response = answered.map_err(|error| self.explain(&error))?;
        if !response.status().is_success() {
            return Err(refusal(&mut response, self.server()));
        }
        let text = response.body_mut().with_config().limit(LONGEST).read_to_string().map_err(|error| {
            Away::in_passing(format!("the answer of {} broke off: {error}", self.server()))
        })?;
        let text = if text.is_empty() { "null" } else { &text };
        serde_json::from_str(text).map_err(|error| {
            let server = self.server();
            let words = match error.is_data() {
                // JSON, but not of the form that is expected.
                true => format!(
                    "{server} answered in another form than this version of `otaru` reads; is it an Otaru server of the same version?"
                ),
                false => format!("{server} answered something else; is it an Otaru server?"),
            };
            anyhow::Error::new(error).context(words)
        })
    }

    pub(super) fn explain(&self, error: &ureq::Error) -> anyhow::Error {
        let server = self.server();
        if let Some(why) = no_tls(server, error) {
            return Away::lasting(why).into();
        }
        let away = match error {
            ureq::Error::HostNotFound => return anyhow!("no such host: {server}; check the address"),
            ureq::Error::Io(io) if io.kind() == ErrorKind::ConnectionRefused => {
                format!("nothing listens at {server}; is the server running? `otaru serve` starts one")
            }
            ureq::Error::Io(io) if is_cut(io.kind()) => {
                return Away::in_passing(format!(
                    "{server} ended the connection before it answered; where something is uploaded, a proxy on the way may \
                     limit how large that is or how long it takes"
                ))
                .into();
            }
            ureq::Error::Timeout(_) => format!("{server} does not answer; check address, port and firewall"),
            other => format!("cannot reach {server}: {other}"),
        };
        Away::lasting(away).into()
    }
}

/// Returns a path with a query behind it: of what is given, as no server knows a name that means nothing to it.
pub(crate) fn with_query(path: &str, query: &impl Serialize) -> String {
    let query = serde_json::to_value(query).unwrap_or_default();
    let given = query.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let parts = given.map(|(name, value)| match value {
        Value::String(text) => format!("{name}={}", escape(text)),
        other => format!("{name}={}", escape(&other.to_string())),
    });
    match parts.collect::<Vec<_>>().join("&") {
        none if none.is_empty() => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

/// Says why there is no TLS with a server, if that is what an error is about.
pub(crate) fn no_tls(server: &str, error: &ureq::Error) -> Option<String> {
    let why = match error {
        ureq::Error::Rustls(error) => Reason::of(error, true),
        ureq::Error::Io(io) => match Reason::of_io(io, true) {
            // What speaks no TLS ends a connection that does.
            None if server.starts_with("https://") && io.kind() == ErrorKind::UnexpectedEof => Reason::Closed,
            why => why?,
        },
        _ => return None,
    };
    Some(format!("no TLS with {server}: {why}"))
}

/// Whether the other side ended a connection in the middle.
fn is_cut(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("the request was given up")?
}

#[cfg(test)]
mod tests {
    use otaru_api::{AbortQuery, ReleaseQuery};

    use super::*;

    #[test]
    fn a_query_has_what_is_given() {
        let query = ReleaseQuery { product: Some("a lamp".into()), ..ReleaseQuery::default() };
        assert_eq!(with_query("/releases", &query), "/releases?product=a%20lamp");
        assert_eq!(with_query("/releases", &ReleaseQuery::default()), "/releases");
        assert_eq!(
            with_query("/rollouts/1/abort", &AbortQuery { cancel: true }),
            "/rollouts/1/abort?cancel=true"
        );
    }
}
