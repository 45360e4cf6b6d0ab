//! Stand-in for the service of a bucket, for tests: it keeps objects in memory, and misbehaves as it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use otaru_broker::client::Secret;
use otaru_server::artifacts::s3::{Credentials, Patience, S3Config};
use otaru_tls::Trust;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Secret access key of the tests.
pub(crate) const SECRET: &str = "s3cr3t-access-key";
/// Token of a session of the tests. Answers repeat it, as those of Amazon do.
pub(crate) const TOKEN: &str = "t0ken-of-a-session";
/// The bucket.
pub(crate) const BUCKET: &str = "firmware";

/// Ways to misbehave.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The connection ends without an answer.
    Gone,
    /// Nothing is read of the request, and nothing answered.
    Silent,
    /// An answer with this status and code.
    Status(u16, &'static str),
    /// A file breaks off in its middle.
    Short,
    /// A file goes as far as its middle, and no further.
    Stalls,
    /// A file has other bytes, and its length.
    OtherBytes,
    /// An error that is told without end.
    Endless,
    /// A file that says it has this many bytes.
    Says(u64),
}

/// A stand-in.
pub(crate) struct StandIn {
    port: u16,
    shared: Arc<Mutex<State>>,
    /// The authority of its certificate, in PEM, if it speaks TLS.
    ca: Option<String>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Bytes>,
    uploads: BTreeMap<String, BTreeMap<u32, Bytes>>,
    fault: Option<(Fault, usize)>,
    asked: Vec<String>,
    /// Names of objects that have been there for long.
    old: BTreeSet<String>,
}

impl State {
    /// Keeps an object, which is new then.
    fn keep(&mut self, name: String, bytes: Bytes) {
        self.old.remove(&name);
        self.objects.insert(name, bytes);
    }

    fn moment(&self, name: &str) -> Moment {
        if self.old.contains(name) { LONG_AGO } else { NEVER_YET }
    }
}

/// Moment of a change, as RFC 3339 and as HTTP write it.
type Moment = [&'static str; 2];
const LONG_AGO: Moment = ["2020-01-01T00:00:00.000Z", "Wed, 01 Jan 2020 00:00:00 GMT"];
const NEVER_YET: Moment = ["2999-01-01T00:00:00.000Z", "Tue, 01 Jan 2999 00:00:00 GMT"];

type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

impl StandIn {
    /// Starts one that speaks plain HTTP.
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Starts one that speaks TLS, with a certificate of its own for `localhost`.
    pub(crate) async fn start_tls() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let secret = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = config.with_single_cert(vec![certificate.der().clone()], secret).unwrap();
        Self::start_with(Some((TlsAcceptor::from(Arc::new(config)), certificate.pem()))).await
    }

    async fn start_with(tls: Option<(TlsAcceptor, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::<Mutex<State>>::default();
        let (state, (acceptor, ca)) = (Arc::clone(&shared), tls.unzip());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, acceptor.clone(), Arc::clone(&state)));
            }
        });
        Self { port, shared, ca }
    }

    /// Settings of a bucket there, which is not waited for for long.
    pub(crate) fn config(&self) -> S3Config {
        let (scheme, trust) = match &self.ca {
            Some(ca) => ("https", Trust::of_pem(ca.as_bytes()).unwrap()),
            None => ("http", Trust::default()),
        };
        S3Config { trust, ..config(&format!("{scheme}://localhost:{}", self.port)) }
    }

    /// Misbehaves so from now on.
    pub(crate) fn misbehaves(&self, fault: Fault) {
        self.misbehaves_times(fault, usize::MAX);
    }

    /// Misbehaves so with the next few requests.
    pub(crate) fn misbehaves_times(&self, fault: Fault, times: usize) {
        self.state().fault = Some((fault, times));
    }

    /// Does what it should from now on.
    pub(crate) fn behaves(&self) {
        self.state().fault = None;
    }

    /// Counts the requests with this method.
    pub(crate) fn asked(&self, method: &str) -> usize {
        self.state().asked.iter().filter(|asked| asked.starts_with(method)).count()
    }

    /// Returns the names of all objects.
    pub(crate) fn names(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }

    /// Counts uploads in parts that were begun and not ended.
    pub(crate) fn begun(&self) -> usize {
        self.state().uploads.len()
    }

    /// Loses all objects but what says whose they are.
    pub(crate) fn loses_all(&self) {
        self.state().objects.retain(|name, _| name.ends_with("owner"));
    }

    /// Says of all objects there are that they have been there for long.
    pub(crate) fn ages(&self) {
        let mut state = self.state();
        state.old = state.objects.keys().cloned().collect();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap()
    }
}

/// Settings of a bucket at this URL, which is not waited for for long.
pub(crate) fn config(endpoint: &str) -> S3Config {
    S3Config {
        place: format!("s3://{BUCKET}/a/prefix").parse().unwrap(),
        endpoint: Some(endpoint.to_owned()),
        region: "us-east-1".into(),
        path_style: true,
        credentials: Credentials {
            key_id: "AKIAEXAMPLE".into(),
            secret: Secret::new(SECRET),
            token: Some(Secret::new(TOKEN)),
        },
        trust: Trust::default(),
        copies: 64 << 20,
        redirect: false,
        patience: Patience {
            stall: Duration::from_millis(500),
            retries: 2,
            retry_for: Duration::from_secs(5),
            wait: Duration::from_secs(20),
            fetch: Duration::from_secs(20),
            remembered: Duration::ZERO,
            look: Duration::from_secs(1),
        },
    }
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, state: Arc<Mutex<State>>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&state)));
    let http = hyper::server::conn::http1::Builder::new();
    // A connection that a fault ended is no error here.
    let _ = match tls {
        None => http.serve_connection(TokioIo::new(stream), service).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => http.serve_connection(TokioIo::new(stream), service).await,
            Err(_) => return,
        },
    };
}

async fn answer(request: Request<Incoming>, state: Arc<Mutex<State>>) -> io::Result<Answer> {
    let (parts, body) = request.into_parts();
    let fault = {
        let mut state = state.lock().unwrap();
        state.asked.push(format!("{} {}", parts.method, parts.uri));
        state.fault = state.fault.filter(|(_, times)| *times > 0).map(|(fault, times)| (fault, times - 1));
        state.fault.map(|(fault, _)| fault)
    };
    match fault {
        Some(Fault::Gone) => return Err(io::Error::other("gone")),
        Some(Fault::Silent) => return std::future::pending().await,
        Some(Fault::Status(status, code)) => return Ok(error(status, code)),
        Some(Fault::Endless) => {
            let piece = || Ok(Frame::data(Bytes::from_static(&[b'x'; 65_536])));
            let body = StreamBody::new(stream::repeat_with(piece)).boxed_unsync();
            return Ok(Response::builder().status(400).body(body).unwrap());
        }
        _ => {}
    }
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let query = parts.uri.query().unwrap_or_default();
    let asks = |name: &str| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    let name = parts.uri.path().trim_start_matches('/').strip_prefix(BUCKET).unwrap_or_default();
    let name = name.trim_start_matches('/').to_owned();
    let mut state = state.lock().unwrap();
    Ok(match (&parts.method, asks("uploadId"), asks("partNumber")) {
        (&Method::GET, ..) if asks("list-type").is_some() => {
            list(&state, &asks("prefix").unwrap_or_default())
        }
        (&Method::GET | &Method::HEAD, ..) => match state.objects.get(&name) {
            Some(bytes) => object(bytes.clone(), state.moment(&name), &parts.headers, fault),
            None => error(404, "NoSuchKey"),
        },
        (&Method::POST, None, _) => {
            let id = format!("upload-{}", state.asked.len());
            state.uploads.insert(id.clone(), BTreeMap::new());
            let opened = "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key>";
            xml(200, format!("{opened}<UploadId>{id}</UploadId></InitiateMultipartUploadResult>"))
        }
        (&Method::PUT, Some(id), Some(part)) => {
            state.uploads.get_mut(&id).unwrap().insert(part.parse().unwrap(), body);
            tagged(200)
        }
        (&Method::POST, Some(id), _) => {
            let Some(parts) = state.uploads.remove(&id) else { return Ok(error(404, "NoSuchUpload")) };
            let parts: Vec<Bytes> = parts.into_values().collect();
            state.keep(name, parts.concat().into());
            let done = "<CompleteMultipartUploadResult><ETag>\"x\"</ETag></CompleteMultipartUploadResult>";
            xml(200, done.into())
        }
        (&Method::DELETE, Some(id), _) => {
            state.uploads.remove(&id);
            tagged(204)
        }
        (&Method::DELETE, ..) => {
            state.objects.remove(&name);
            tagged(204)
        }
        (&Method::PUT, ..) => {
            state.keep(name, body);
            tagged(200)
        }
        _ => error(405, "MethodNotAllowed"),
    })
}

/// Answers with an object, or a part of it, as the fault says.
fn object(bytes: Bytes, [_, changed]: Moment, asked: &HeaderMap, fault: Option<Fault>) -> Answer {
    let range = asked.get(header::RANGE).and_then(|range| range.to_str().unwrap().strip_prefix("bytes="));
    let range = range.and_then(|range| range.split_once('-'));
    let range = range.map(|(from, to)| from.parse().unwrap()..to.parse::<usize>().unwrap() + 1);
    let (total, part) = (bytes.len(), range.clone().unwrap_or(0..bytes.len()));
    let bytes = bytes.slice(part.clone());
    let half = bytes.slice(..bytes.len() / 2);
    let len = match fault {
        Some(Fault::Says(len)) => len,
        _ => bytes.len() as u64,
    };
    let frame = |bytes: Bytes| Ok(Frame::data(bytes));
    let body = match fault {
        Some(Fault::Short) => {
            StreamBody::new(stream::iter([frame(half), Err(io::Error::other("short"))])).boxed_unsync()
        }
        Some(Fault::Stalls) => {
            StreamBody::new(stream::iter([frame(half)]).chain(stream::pending())).boxed_unsync()
        }
        Some(Fault::OtherBytes) => whole(bytes.iter().map(|byte| !byte).collect()),
        // Of a body whose length is not known nobody asks whether it is the one that is told.
        Some(Fault::Says(_)) => {
            StreamBody::new(stream::iter([frame(bytes)]).chain(stream::pending())).boxed_unsync()
        }
        _ => whole(bytes),
    };
    let status = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    Response::builder()
        .status(status)
        .header(header::ETAG, "\"x\"")
        .header(header::LAST_MODIFIED, changed)
        .header(header::CONTENT_LENGTH, len)
        .header(header::CONTENT_RANGE, format!("bytes {}-{}/{total}", part.start, part.end.max(1) - 1))
        .body(body)
        .unwrap()
}

fn list(state: &State, prefix: &str) -> Answer {
    let named = state.objects.iter().filter(|(name, _)| name.starts_with(prefix));
    let objects: String = named
        .map(|(name, bytes)| {
            let (size, [moment, _]) = (bytes.len(), state.moment(name));
            format!(
                "<Contents><Key>{name}</Key><Size>{size}</Size><LastModified>{moment}</LastModified><ETag>\"x\"</ETag></Contents>"
            )
        })
        .collect();
    xml(200, format!("<ListBucketResult><IsTruncated>false</IsTruncated>{objects}</ListBucketResult>"))
}

fn error(status: u16, code: &str) -> Answer {
    let text = format!("<Error><Code>{code}</Code><Message>m</Message><Token-0>{TOKEN}</Token-0></Error>");
    xml(status, text)
}

fn xml(status: u16, text: String) -> Answer {
    Response::builder().status(status).body(whole(text.into())).unwrap()
}

fn tagged(status: u16) -> Answer {
    Response::builder().status(status).header(header::ETAG, "\"x\"").body(whole(Bytes::new())).unwrap()
}

fn whole(bytes: Bytes) -> UnsyncBoxBody<Bytes, io::Error> {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed_unsync()
}
