//! The first admin token: made when everything listens, and made again by the next start if nobody was shown it.

use std::net::TcpListener;

use axum::http::Method;
use otaru_server::config::{Config, MqttConfig};
use otaru_server::server::{Server, StartError};
use otaru_testing::postgres::Database;

use crate::bench::{Bench, postgres};

/// A server's configuration with everything in this folder, and a first start with it.
async fn started_in(dir: &std::path::Path) -> (Config, Bench) {
    let mut kept = None;
    let bench = Bench::start_with(|config| {
        config.data = dir.join("data");
        kept = Some(config.clone());
    })
    .await;
    (kept.unwrap(), bench)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_listen_makes_no_token() {
    let dir = tempfile::tempdir().unwrap();
    let (mut config, bench) = started_in(&dir.path().join("other")).await;
    bench.server.stop().await;
    config.data = dir.path().join("data");
    let database = Database::at(&config.data);
    config.database = database.url().map(postgres);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = config.http;
    for what in ["HTTP", "MQTT", "metrics"] {
        let address = taken.local_addr().unwrap();
        config.http = if what == "HTTP" { address } else { free };
        config.mqtt = MqttConfig::embedded(if what == "MQTT" { address } else { free });
        config.metrics = (what == "metrics").then_some(address);
        let failed = Server::start(config.clone()).await.map(drop).unwrap_err();
        assert!(matches!(failed, StartError::Listen { what: is, .. } if is == what), "{failed}");
    }
    config.metrics = None;
    let server = Server::start(config).await.unwrap();
    assert!(
        server.first_token().is_some() && !server.is_token_made_again(),
        "it is made by the start that works"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_never_shown_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (config, bench) = started_in(dir.path()).await;
    let unseen = bench.admin.clone();
    bench.server.stop().await;

    let again = Bench::start_with(|changed| {
        changed.data.clone_from(&config.data);
        changed.database.clone_from(&config.database);
    });
    let again = again.await;
    assert!(again.server.is_token_made_again());
    assert_ne!(again.admin, unseen);
    let told = again.ask(Some(&unseen), Method::GET, "/me", None).await.is(401).text;
    assert!(told.contains("revoked"), "{told}");
    let audit = again.get("/audit?action=token").await.json();
    assert_eq!(audit["items"][1]["detail"]["never_shown"], true, "{audit}");
    again.server.token_was_shown().await.unwrap();
    again.server.stop().await;

    let third = Server::start(config).await.unwrap();
    assert_eq!(third.first_token(), None, "what was shown is kept by whoever saw it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_used_was_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (config, bench) = started_in(dir.path()).await;
    bench.get("/me").await.is(200);
    // The use is noted beside the answer.
    let noted = async || {
        let used = bench.get("/tokens").await.json()["items"][0]["used_at"].clone();
        !used.is_null()
    };
    while !noted().await {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    bench.server.stop().await;
    let second = Server::start(config).await.unwrap();
    assert_eq!(second.first_token(), None);
}
