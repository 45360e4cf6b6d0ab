//! Requests to a directory, bounded in time and bytes. The library reads whole answers, waits for as long as these say, and takes the
//! directory's URLs for good; so answers are looked at here first.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use otaru_tls::{Reason, Trust, TrustError};
use serde::Deserialize;
use tokio::time::timeout;

/// Longest time of a request and its answer.
const TIME: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 30 });
/// Bytes of the longest answer; a chain of certificates has a few thousand.
const LONGEST: usize = 64 * 1024;
/// Longest pause that a directory is granted. The library adds what it is told to the time of day, however much that is.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3_600);

/// Request that got no answer of use.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// No answer in time.
    #[error("it did not answer within {} s", TIME.as_secs())]
    Late,
    /// An answer that is too long, or broke off.
    #[error("its answer broke off, or is longer than {} KiB", LONGEST / 1024)]
    Broken,
    /// No session over TLS.
    #[error("{0}")]
    Tls(Reason),
    /// No connection.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// An answer that is no directory's.
    #[error("it answered {0} with something else than a directory of ACME; is --acme-directory right?")]
    NotADirectory(StatusCode),
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        Self::Other(Box::new(error))
    }
}

/// Remarks that a directory makes beside its answers.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    /// URL of its terms.
    pub(super) terms: Option<String>,
    /// Time for which it wants to be left alone.
    pub(super) pause: Option<Duration>,
    /// Whether it answered a signed request that it does not know the account.
    pub(super) knows_no_account: bool,
}

/// Client of a directory.
#[derive(Clone)]
pub(super) struct DirectoryClient {
    client: Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    directory: String,
    remarks: Arc<Mutex<Remarks>>,
}

impl DirectoryClient {
    /// Speaks to a directory that has a certificate which is trusted.
    pub(super) fn new(directory: &str, trust: &Trust) -> Result<Self, TrustError> {
        let config = trust.client_config()?.as_ref().clone();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, directory: directory.to_owned(), remarks: Arc::default() })
    }

    /// Takes the remarks that were made so far.
    pub(super) fn remarks(&self) -> Remarks {
        std::mem::take(&mut *self.remarks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl HttpClient for DirectoryClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let is_directory = *request.uri() == *self.directory;
        // All of ACME's are, and nothing else is posted.
        let is_signed = request.method() == Method::POST;
        let (sent, remarks) = (self.client.request(request), Arc::clone(&self.remarks));
        Box::pin(async move {
            let answer = async {
                let response = sent.await.map_err(|error| failed(&error))?;
                read(response).await
            };
            let (parts, body) = timeout(TIME, answer).await.map_err(|_| ClientError::Late)??;
            let mut remarks = remarks.lock().unwrap_or_else(PoisonError::into_inner);
            if is_directory {
                let directory = Directory::read(&body).ok_or(ClientError::NotADirectory(parts.status))?;
                remarks.terms = directory.meta.terms_of_service;
            }
            if parts.status.is_client_error() || parts.status.is_server_error() {
                remarks.pause = pause(&parts.headers);
                remarks.knows_no_account = is_signed && is_unknown_account(&body);
            }
            Ok(BytesResponse { parts, body: Box::new(body) })
        })
    }
}

/// Reads an answer, and bounds the pause that it asks for.
async fn read(
    response: hyper::Response<Incoming>,
) -> Result<(axum::http::response::Parts, Bytes), ClientError> {
    let (mut parts, body) = response.into_parts();
    let body = Limited::new(body, LONGEST).collect().await.map_err(|_| ClientError::Broken)?;
    if let Some(pause) = pause(&parts.headers) {
        parts.headers.insert(RETRY_AFTER, HeaderValue::from(pause.as_secs()));
    }
    Ok((parts, body.to_bytes()))
}

/// Returns the pause that an answer asks for, if it says it in seconds; with a sign, too, as the library reads it.
fn pause(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let text = text.strip_prefix('+').unwrap_or(text);
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().map_or(LONGEST_PAUSE, Duration::from_secs).min(LONGEST_PAUSE))
}

/// An error, as the cause of another.
type Cause<'a> = &'a (dyn StdError + 'static);

fn cause<'a>(error: &Cause<'a>) -> Option<Cause<'a>> {
    (*error).source()
}

/// Finds the reason in an error, which may be in another of its kind.
fn reason(error: &io::Error) -> Option<Reason> {
    let inner = || error.get_ref()?.downcast_ref().and_then(reason);
    Reason::of_io(error, true).or_else(inner)
}

/// Finds the reason among the causes of an error.
fn failed(error: &hyper_util::client::legacy::Error) -> ClientError {
    let causes = || std::iter::successors(Some(error as Cause<'_>), cause);
    let mut reasons = causes().filter_map(|cause| reason(cause.downcast_ref()?));
    match reasons.next() {
        Some(reason) => ClientError::Tls(reason),
        None => ClientError::Unreachable(causes().last().map(ToString::to_string).unwrap_or_default()),
    }
}

/// Whether a refusal says that the directory does not know the account: RFC 8555, section 6.7.
fn is_unknown_account(body: &[u8]) -> bool {
    let problem: Option<Refusal> = serde_json::from_slice(body).ok();
    problem.is_some_and(|problem| problem.r#type == "urn:ietf:params:acme:error:accountDoesNotExist")
}

/// The part of a refusal that is looked at.
#[derive(Deserialize)]
struct Refusal {
    r#type: String,
}

/// The parts of a directory that are looked at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Directory {
    new_nonce: String,
    #[serde(default)]
    meta: Meta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    terms_of_service: Option<String>,
}

impl Directory {
    /// Reads a directory. The library asks for a nonce at whatever URL it has, and panics if it is none.
    fn read(body: &[u8]) -> Option<Self> {
        let directory: Self = serde_json::from_slice(body).ok()?;
        directory.new_nonce.parse::<Uri>().is_ok().then_some(directory)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A directory that begins to answer so, then repeats a byte for ever or says nothing more: a client of it, and its URL.
    async fn directory(head: &'static str, goes_on: bool) -> (DirectoryClient, String) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let secret = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config =
            config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], secret).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            stream.write_all(head.as_bytes()).await.unwrap();
            while goes_on && stream.write_all(&[b'x'; 4096]).await.is_ok() {}
            let _ = stream.flush().await;
            std::future::pending::<()>().await;
        });
        let trust = Trust::of_pem(certificate.pem().as_bytes()).unwrap();
        let url = format!("https://localhost:{port}/dir");
        (DirectoryClient::new(&url, &trust).unwrap(), url)
    }

    /// Asks such a directory.
    async fn ask(head: &'static str, goes_on: bool) -> ClientError {
        let (client, url) = directory(head, goes_on).await;
        let request = Request::get(&url).body(BodyWrapper::default()).unwrap();
        let Err(Error::Other(error)) = client.request(request).await.map(drop) else { panic!("an error") };
        *error.downcast().unwrap()
    }

    #[tokio::test]
    async fn an_answer_without_end_is_given_up() {
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
        assert!(matches!(ask(head, true).await, ClientError::Broken));
        let announced = "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n";
        assert!(matches!(ask(announced, true).await, ClientError::Broken));
        assert!(matches!(ask("HTTP/1.1 200 OK\r\nX: ", true).await, ClientError::Unreachable(_)));
    }

    #[tokio::test]
    async fn a_directory_that_says_nothing_is_given_up() {
        assert!(matches!(ask("", false).await, ClientError::Late));
        assert!(matches!(
            ask("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", false).await,
            ClientError::Late
        ));
    }

    #[test]
    fn a_directory_grants_itself_no_endless_pause() {
        for (said, taken) in [
            ("60", Some(60)),
            ("18446744073709551615", Some(86_400)),
            ("+18446744073709551615", Some(86_400)),
            ("+60", Some(60)),
            ("99999999999999999999999999", Some(86_400)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(said))]);
            assert_eq!(pause(&headers), taken.map(Duration::from_secs), "{said}");
        }
        assert_eq!(pause(&HeaderMap::new()), None);
    }

    #[test]
    fn a_directory_that_would_make_the_library_panic_is_none() {
        assert!(Directory::read(br#"{"newNonce":"https://ca.example/nonce"}"#).is_some());
        for garbage in [&b""[..], b"<html>", b"[]", b"{}", br#"{"newNonce":"a b"}"#, br#"{"newNonce":7}"#] {
            assert!(Directory::read(garbage).is_none(), "{garbage:?}");
        }
    }

    #[test]
    fn an_account_is_unknown_where_the_directory_says_so_and_nothing_else() {
        let said = |kind: &str| is_unknown_account(format!(r#"{{"type":"{kind}","detail":"x"}}"#).as_bytes());
        assert!(said("urn:ietf:params:acme:error:accountDoesNotExist"));
        assert!(!said("accountDoesNotExist") && !said("urn:ietf:params:acme:error:unauthorized"));
        for other in [&b""[..], b"<html>accountDoesNotExist</html>", b"{}", br#"{"type":7}"#] {
            assert!(!is_unknown_account(other), "{other:?}");
        }
    }

    #[tokio::test]
    async fn only_a_signed_request_is_answered_about_its_account() {
        let refused = "HTTP/1.1 400 Bad Request\r\nContent-Length: 57\r\n\r\n\
                       {\"type\":\"urn:ietf:params:acme:error:accountDoesNotExist\"}";
        for (method, knows_no_account) in [(Method::POST, true), (Method::GET, false)] {
            let (client, url) = directory(refused, false).await;
            let request = Request::builder().method(method).uri(format!("{url}/order"));
            let answer = client.request(request.body(BodyWrapper::default()).unwrap()).await.unwrap();
            assert_eq!(answer.parts.status, StatusCode::BAD_REQUEST);
            assert_eq!(client.remarks().knows_no_account, knows_no_account);
        }
    }
}
