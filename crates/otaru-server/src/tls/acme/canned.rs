//! A directory of canned answers, for tests.

use std::pin::Pin;

use axum::http::{Request, Response};
use bytes::Bytes;
use http_body_util::Full;
use instant_acme::{Account, BodyWrapper, BytesResponse, Error, HttpClient, NewAccount};

/// A directory with these answers, by path.
pub(super) struct Canned(Vec<(&'static str, String)>);

impl Canned {
    /// Returns an account at it.
    pub(super) async fn account(answers: Vec<(&'static str, String)>) -> Account {
        let builder = Account::builder_with_http(Box::new(Self(answers)));
        let new = NewAccount { contact: &[], terms_of_service_agreed: true, only_return_existing: false };
        builder.create(&new, "https://ca/dir".to_owned(), None).await.unwrap().0
    }
}

impl HttpClient for Canned {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let path = request.uri().path();
        let directory = r#"{"newNonce":"https://ca/nonce","newAccount":"https://ca/account","newOrder":"https://ca/order",
            "renewalInfo":"https://ca/when"}"#;
        let body = match path {
            "/dir" => directory.to_owned(),
            "/account" => r#"{"status":"valid"}"#.to_owned(),
            path => {
                let found = self.0.iter().find(|(known, _)| path.starts_with(known));
                found.map(|(_, answer)| answer.clone()).unwrap_or_default()
            }
        };
        let answer = Response::builder()
            .header("Replay-Nonce", "nonce")
            .header("Location", format!("https://ca{path}/1"))
            .header("Retry-After", "7200")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        Box::pin(std::future::ready(Ok(answer.into())))
    }
}
