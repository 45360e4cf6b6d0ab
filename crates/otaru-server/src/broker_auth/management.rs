//! RabbitMQ's management API, as far as connections are ended by it. Requests and answers are bounded in time and bytes.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{AUTHORIZATION, InvalidHeaderValue};
use axum::http::{HeaderValue, Method, Request, StatusCode};
use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use otaru_broker::client::Login;
use otaru_tls::TrustError;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::time::timeout;

use crate::config::BrokerManagement;

/// Longest time of a request and its answer.
const TIME: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
/// Bytes of the longest answer: the names of 200,000 connections have half as many.
const LONGEST: usize = if cfg!(test) { 64 << 10 } else { 64 << 20 };
/// Reason that the broker notes in its log.
const REASON: HeaderValue = HeaderValue::from_static("the login has ended");

/// A request that came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum ManagementError {
    /// No answer in time.
    #[error("{0} did not answer within {time} s", time = TIME.as_secs())]
    Late(String),
    /// An answer that is too long, broke off, or is something else.
    #[error("the answer of {0} broke off, or is no list of connections; is it RabbitMQ's management?")]
    Broken(String),
    /// No connection.
    #[error("{0} cannot be reached: {1}")]
    Unreachable(String, String),
    /// The login may not do this.
    #[error(
        "{0} refuses the login of --broker-management-login-file; it needs a user with the tag administrator"
    )]
    Login(String),
    /// Another answer.
    #[error("{0} answered {1}")]
    Refused(String, StatusCode),
}

/// A connection of MQTT, by its name there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Connection {
    /// Name: both ends of it.
    pub(super) name: String,
    /// Facts that its protocol brought.
    #[serde(default)]
    variable_map: Variables,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Variables {
    client_id: Option<String>,
}

impl Connection {
    /// Returns its client id, if it is one of MQTT.
    pub(super) fn client(&self) -> Option<&str> {
        self.variable_map.client_id.as_deref()
    }
}

/// Client of the management API.
pub(super) struct Management {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    url: String,
    authorization: HeaderValue,
    own: Option<String>,
}

impl Management {
    /// Speaks to it with this login; the connections of the user name `own` are the server's.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(super) fn new(config: &BrokerManagement, own: Option<String>) -> Result<Self, TrustError> {
        let tls = tls(config)?;
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        // Base64 is what a header may have.
        let authorization = basic(&config.login).unwrap_or_else(|_| HeaderValue::from_static(""));
        Ok(Self { client, url: config.url.clone(), authorization, own })
    }

    /// Whether this is the server's own user name.
    pub(super) fn is_own(&self, username: &str) -> bool {
        self.own.as_deref() == Some(username)
    }

    /// Ends all connections of a user.
    pub(super) async fn end_user(&self, username: &str) -> Result<(), ManagementError> {
        self.end(&format!("/api/connections/username/{}", escaped(username))).await
    }

    /// Ends a connection.
    pub(super) async fn end_connection(&self, name: &str) -> Result<(), ManagementError> {
        self.end(&format!("/api/connections/{}", escaped(name))).await
    }

    async fn end(&self, path: &str) -> Result<(), ManagementError> {
        match self.request(Method::DELETE, path).await {
            // It is over.
            Ok(_) | Err(ManagementError::Refused(_, StatusCode::NOT_FOUND)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Lists connections; one that is younger than five seconds may be missing.
    pub(super) async fn connections(&self) -> Result<Vec<Connection>, ManagementError> {
        let body = self.request(Method::GET, "/api/connections?columns=name,variable_map").await?;
        serde_json::from_slice(&body).map_err(|_| ManagementError::Broken(self.url.clone()))
    }

    async fn request(&self, method: Method, path: &str) -> Result<Bytes, ManagementError> {
        let at = || self.url.clone();
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header(AUTHORIZATION, self.authorization.clone())
            .header("x-reason", REASON)
            .body(Empty::new())
            .map_err(|error| ManagementError::Unreachable(at(), error.to_string()))?;
        let answer = async {
            let response = self.client.request(request).await;
            let response = response.map_err(|error| ManagementError::Unreachable(at(), cause(&error)))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LONGEST).collect().await;
            match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(ManagementError::Login(at())),
                _ if !status.is_success() => Err(ManagementError::Refused(at(), status)),
                _ => Ok(body.map_err(|_| ManagementError::Broken(at()))?.to_bytes()),
            }
        };
        timeout(TIME, answer).await.map_err(|_| ManagementError::Late(at()))?
    }
}

/// Returns the settings of TLS; nobody is trusted, and no root looked for, where none is spoken.
fn tls(config: &BrokerManagement) -> Result<ClientConfig, TrustError> {
    if config.url.starts_with("https://") {
        return Ok(config.trust.client_config()?.as_ref().clone());
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// Returns the login as RFC 7617 has it; never shown.
fn basic(login: &Login) -> Result<HeaderValue, InvalidHeaderValue> {
    let both = format!("{}:{}", login.username, login.password.expose());
    let text = base64::engine::general_purpose::STANDARD.encode(both);
    let mut value = HeaderValue::try_from(format!("Basic {text}"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn escaped(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

/// Returns the innermost cause of an error.
fn cause(error: &dyn StdError) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use otaru_broker::client::Secret;
    use otaru_tls::Trust;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Asks a management that begins to answer so, then goes on for ever or says nothing more.
    async fn ask(head: &'static str, goes_on: bool) -> ManagementError {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            stream.write_all(head.as_bytes()).await.unwrap();
            while goes_on && stream.write_all(&[b'x'; 4096]).await.is_ok() {}
            std::future::pending::<()>().await;
        });
        let login = Login { username: "ends".into(), password: Secret::new("s3cret") };
        let config = BrokerManagement { url, login, trust: Trust::default() };
        let error = Management::new(&config, None).unwrap().connections().await.unwrap_err();
        assert!(!error.to_string().contains("s3cret"));
        error
    }

    #[tokio::test]
    async fn a_management_that_says_nothing_or_too_much_is_given_up() {
        assert!(matches!(ask("", false).await, ManagementError::Late(_)));
        let endless = ask("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", true).await;
        assert!(matches!(endless, ManagementError::Broken(_)), "{endless}");
        let page = ask("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", false).await;
        assert!(page.to_string().contains("is it RabbitMQ's management?"), "{page}");
        let refused = ask("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", false).await;
        assert!(refused.to_string().contains("--broker-management-login-file"), "{refused}");
    }
}
