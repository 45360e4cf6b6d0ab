use axum::extract::Request;
use http_body_util::BodyExt as _;
use proptest::prelude::*;
use tower::ServiceExt as _;

use super::*;
use crate::address::download_path;
use crate::artifacts::s3::stand_in::StandIn;

struct Server {
    _folder: tempfile::TempDir,
    _bucket: Option<StandIn>,
    artifacts: Artifacts,
    sent: Counter,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// With a cache of so many bytes; the smaller it is, the more comes from the disk.
fn server(cache: u64) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let artifacts = Artifacts::open(folder.path(), cache).unwrap();
    Server { _folder: folder, _bucket: None, artifacts, sent: Counter::default() }
}

/// The same, with its files in a bucket.
async fn server_with_bucket(cache: u64) -> Server {
    let (folder, bucket) = (tempfile::tempdir().unwrap(), StandIn::start().await);
    let artifacts = Artifacts::open_bucket(&bucket.config(), folder.path(), cache).await.unwrap();
    Server { _folder: folder, _bucket: Some(bucket), artifacts, sent: Counter::default() }
}

/// One of each store, with and without files in memory.
async fn servers() -> [Server; 4] {
    [server(0), server(1 << 20), server_with_bucket(0).await, server_with_bucket(1 << 20).await]
}

impl Server {
    async fn ask(&self, method: Method, path: &str, headers: &[(header::HeaderName, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let downloads = Downloads::new(self.artifacts.clone(), self.sent.clone());
        let router = router::<Downloads>().with_state(downloads);
        let answer = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn put(&self, bytes: &[u8]) -> (Digest, String) {
        let digest = self.artifacts.put(Bytes::copy_from_slice(bytes)).await.unwrap();
        (digest, download_path(digest, "p-1.0.0.otaru"))
    }
}

#[tokio::test]
async fn a_whole_file_and_what_is_said_of_it() {
    for server in servers().await {
        let (digest, path) = server.put(b"0123456789").await;
        let whole = server.ask(Method::GET, &path, &[]).await;
        assert_eq!((whole.status, &whole.body[..]), (200, &b"0123456789"[..]));
        assert_eq!(whole.header(header::ETAG), format!("\"{digest}\""));
        assert_eq!(whole.header(header::CACHE_CONTROL), "public, max-age=31536000, immutable");
        assert_eq!(whole.header(header::ACCEPT_RANGES), "bytes");
        assert_eq!(whole.header(header::CONTENT_TYPE), "application/octet-stream");
        assert_eq!(whole.header(header::CONTENT_LENGTH), "10");
        let head = server.ask(Method::HEAD, &path, &[(header::RANGE, "bytes=0-1")]).await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.headers, whole.headers);
        let zipped = server.ask(Method::GET, &path, &[(header::ACCEPT_ENCODING, "gzip, br")]).await;
        assert_eq!((&zipped.body, zipped.header(header::CONTENT_ENCODING)), (&whole.body, ""));
    }
}

#[tokio::test]
async fn ranges_and_conditions() {
    use header::{CONTENT_LENGTH, CONTENT_RANGE, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
    for server in servers().await {
        let (digest, path) = server.put(b"0123456789").await;
        let part = server.ask(Method::GET, &path, &[(RANGE, "bytes=2-4")]).await;
        assert_eq!((part.status, &part.body[..]), (206, &b"234"[..]));
        assert_eq!((part.header(CONTENT_RANGE), part.header(CONTENT_LENGTH)), ("bytes 2-4/10", "3"));
        let behind = server.ask(Method::GET, &path, &[(RANGE, "bytes=10-")]).await;
        assert_eq!((behind.status, behind.header(CONTENT_RANGE)), (416, "bytes */10"));
        let changed = [(RANGE, "bytes=2-4"), (IF_RANGE, "\"another\"")];
        let changed = server.ask(Method::GET, &path, &changed).await;
        assert_eq!((changed.status, changed.body.len()), (200, 10));
        assert_eq!(server.sent.get(), 3 + 10, "what was answered with bytes");
        let tag = format!("\"{digest}\"");
        let known = server.ask(Method::GET, &path, &[(IF_NONE_MATCH, &tag)]).await;
        assert_eq!((known.status, known.body.len(), known.header(header::ETAG)), (304, 0, &*tag));
        let other = server.ask(Method::GET, &path, &[(IF_MATCH, "\"another\"")]).await;
        assert_eq!((other.status, other.body.len()), (412, 0));
        assert_eq!(other.header(header::CACHE_CONTROL), "no-store", "another's condition is not everybody's");
    }
}

#[test]
fn a_store_that_hands_out_its_files_itself_is_named_for_now_only() {
    let answer = redirect("https://files.example/a?signature=b").unwrap();
    assert_eq!(answer.status(), 307);
    assert_eq!(answer.headers()[header::LOCATION], "https://files.example/a?signature=b");
    assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
    assert!(redirect("https://files.example/\r\nX: y").is_err());
}

#[tokio::test]
async fn odd_urls_find_nothing() {
    for server in servers().await {
        find_nothing(&server).await;
    }
}

async fn find_nothing(server: &Server) {
    let (digest, path) = server.put(b"0123456789").await;
    let (hex, upper) = (digest.to_string(), digest.to_string().to_uppercase());
    let (two, rest) = hex.split_at(2);
    for bad in [
        format!("/files/{}/x", Digest::ZERO),
        format!("/files/{upper}/x"),
        format!("/files/{hex}0/x"),
        format!("/files/{rest}/x"),
        format!("/files/{two}/{rest}"),
        format!("/files/{two}%2F{rest}/x"),
        format!("/files/{hex}"),
        format!("/files/{hex}/x/y"),
        "/files/../otaru.db/x".into(),
        "/files/..%2F..%2Fetc%2Fpasswd/x".into(),
        "/files/%2e%2e/x".into(),
        "/files/incoming/x".into(),
        format!("/files/{}/x", "é".repeat(32).replace('é', "%C3%A9")),
    ] {
        assert_eq!(server.ask(Method::GET, &bad, &[]).await.status, 404, "{bad}");
    }
    // Bytes that are no text in a path are the client's fault; a file is not to be had by them.
    let broken = server.ask(Method::GET, &format!("/files/{hex}/%FF"), &[]).await;
    assert!(broken.status == 400 || broken.status == 404, "{}", broken.status);
    // The name is for people.
    let other_name = format!("/files/{hex}/..%2F..%2Fetc%2Fpasswd");
    assert_eq!(server.ask(Method::GET, &other_name, &[]).await.body, &b"0123456789"[..]);
    assert_eq!(server.ask(Method::POST, &path, &[]).await.status, 405);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_get_what_they_asked_for() {
    // Room for two of the eight files, so that memory and disk take turns.
    let server = std::sync::Arc::new(server(256 << 10));
    let mut files = Vec::new();
    for n in 0..8_u8 {
        let bytes: Vec<u8> = (0..100_000_u32).map(|i| (i as u8).wrapping_mul(n | 1)).collect();
        files.push((server.put(&bytes).await.1, Bytes::from(bytes)));
    }
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..64_usize {
        let (server, (path, bytes)) = (std::sync::Arc::clone(&server), files[client % 8].clone());
        clients.spawn(async move {
            for at in 0..20 {
                let from = (client * 997 + at * 4_999) % bytes.len();
                let range = format!("bytes={from}-{}", from + 9_999);
                let part = server.ask(Method::GET, &path, &[(header::RANGE, &range)]).await;
                assert_eq!(part.body, bytes[from..bytes.len().min(from + 10_000)]);
            }
        });
    }
    clients.join_all().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_range_is_that_slice(from in 0_usize..5_000, len in 1_usize..5_000, cached: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let server = server(if cached { 1 << 20 } else { 0 });
            let bytes: Vec<u8> = (0..5_000_u32).map(|i| (i ^ (i >> 8)) as u8).collect();
            let (_, path) = server.put(&bytes).await;
            let range = format!("bytes={from}-{}", from + len - 1);
            let part = server.ask(Method::GET, &path, &[(header::RANGE, &range)]).await;
            assert_eq!((part.status, &part.body[..]), (206, &bytes[from..bytes.len().min(from + len)]));
        });
    }
}
