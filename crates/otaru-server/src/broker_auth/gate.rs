//! The broker that asks: whether it has the secret, how often it asks, and how much of it is held at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use otaru_broker::client::Secret;
use otaru_format::digest::Digest;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::app::Shared;
use crate::problem::Problem;
use crate::rates::BrokerQuestions;
use crate::secret;
use crate::tls::Told;
use crate::web::login::{logged_in, peer};

/// Connections of the listener, those that wait and those of the reserve included.
pub(crate) const CONNECTIONS: usize = 256;
/// Questions that are answered at the same time.
const AT_ONCE: usize = 128;
/// Bytes of the longest question: a client id, a user name and a password of MQTT, or a topic, with room for what brokers send beside them.
const LONGEST: usize = 16 * 1024;
/// Longest time for a question to arrive.
const SLOWEST: Duration = Duration::from_secs(5);

/// Line of the log about whoever has another secret.
const WRONG_SECRET: &str = "somebody asked as a broker without the right secret: is that of --broker-auth-secret-file in the broker's \
                            settings?";

/// Admission of questions.
pub(super) struct Gate {
    app: Shared,
    /// Hash of the secret, if there is one: comparing hashes takes no time that tells about what they are of.
    secret: Option<Digest>,
    questions: BrokerQuestions,
    room: Semaphore,
    refused: Told,
}

impl Gate {
    /// Lets those in who have this secret, or everybody whose connection was admitted where there is none.
    pub(super) fn new(app: Shared, secret: Option<&Secret>) -> Self {
        let secret = secret.map(|secret| secret::hash(secret.expose()));
        let (questions, refused) = Default::default();
        Self { app, secret, questions, room: Semaphore::new(AT_ONCE), refused }
    }

    /// Puts it before a router.
    pub(super) fn around(self, router: Router) -> Router {
        router.layer(from_fn_with_state(Arc::new(self), pass))
    }

    /// Whether this comes from the broker.
    fn knows(&self, parts: &Parts) -> bool {
        self.secret
            .is_none_or(|wanted| presented(parts).is_some_and(|secret| secret::hash(&secret) == wanted))
    }

    /// Admits a question, before its body is read.
    fn admit(&self, parts: &Parts) -> Result<SemaphorePermit<'_>, Problem> {
        let (peer, now) = (peer(parts), self.app.clock.now());
        if !self.knows(parts) {
            if let Some(ConnectInfo(address)) = parts.extensions.get::<ConnectInfo<SocketAddr>>() {
                self.refused.tell(*address, WRONG_SECRET);
            }
            self.app.login_rates.failed.count(peer, now)?;
            return Err(Problem::bad_token("the secret is missing or wrong"));
        }
        logged_in(parts);
        self.questions.count(peer, now)?;
        self.room.try_acquire().map_err(|_| {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many questions at the same time")
                .retry_after(1)
        })
    }
}

/// Returns the secret of a request: a bearer's, or, for brokers that cannot send headers, `secret` in the query.
fn presented(parts: &Parts) -> Option<String> {
    let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = header.and_then(|text| text.split_once(' '));
    match bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) {
        Some((_, secret)) => Some(secret.trim().to_owned()),
        None => {
            let query = form_urlencoded::parse(parts.uri.query()?.as_bytes());
            query.into_iter().find(|(name, _)| name == "secret").map(|(_, secret)| secret.into_owned())
        }
    }
}

async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let _permit = gate.admit(&parts)?;
    let body = whole(body).await?;
    Ok(next.run(Request::from_parts(parts, body)).await)
}

/// Reads a question to its end.
async fn whole(body: Body) -> Result<Body, Problem> {
    match timeout(SLOWEST, to_bytes(body, LONGEST)).await {
        Ok(Ok(bytes)) => Ok(Body::from(bytes)),
        Ok(Err(_)) => {
            let detail = format!("a question has at most {} KiB", LONGEST / 1024);
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail))
        }
        Err(_) => {
            let detail = format!("the question was not complete after {} seconds", SLOWEST.as_secs());
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", detail))
        }
    }
}
