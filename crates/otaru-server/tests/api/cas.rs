//! CAs that devices trust: what the server says of them, and its warning before one ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use otaru_rollout::Time;
use otaru_server::clock::Clock;
use otaru_server::config::{CertificateSource, PlainListeners, TlsConfig};
use otaru_server::statement_params as params;
use serde_json::{Value, json};

use crate::bench::Bench;

const DAY: u64 = 24 * 3_600 * 1_000;
const START: u64 = 1_800_000_000_000;

/// A server with an authority of its own, at a time that can be set.
async fn own() -> (Bench, Arc<AtomicU64>) {
    let now = Arc::new(AtomicU64::new(START));
    let clock = Arc::clone(&now);
    let free = "127.0.0.1:0".parse().unwrap();
    let tls = TlsConfig {
        certificate: CertificateSource::Own,
        https: free,
        mqtts: free,
        plain: PlainListeners::default(),
        hsts: false,
        device_ca: None,
    };
    let clock = Clock::new(move || Time(clock.load(Ordering::Relaxed)));
    (Bench::start_at(|config| config.tls = Some(tls), clock).await, now)
}

/// Registers a device that reported these CAs.
async fn trusts(bench: &Bench, id: &'static str, report: Value) {
    bench.devices(vec![(id.into(), "1.0.0", "idle", Vec::new())]).await;
    let write = bench.server.app().db.write(move |tx| {
        let sql = "UPDATE devices SET report = ?, trusts = ? WHERE id = ?";
        tx.execute(sql, params![report.to_string(), report["tls"]["trusts"].as_str(), id])?;
        Ok::<_, otaru_server::db::DbError>(())
    });
    write.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_ends_is_told_with_the_devices_that_trust_no_other() {
    let (bench, now) = own().await;
    let ca = bench.server.app().cas.all().last().unwrap().clone();
    let name = ca.name.clone().unwrap();
    assert!(name.starts_with("Otaru's own authority"), "{name}");
    let both = format!("{} 0123456789abcdef", ca.id);
    trusts(&bench, "old", json!({"tls": {"trusts": ca.id, "dates": "checked"}})).await;
    trusts(&bench, "moved", json!({"tls": {"trusts": both, "dates": "unchecked"}})).await;
    trusts(&bench, "silent", json!({})).await;

    let moved = bench.get("/devices/moved").await.is(200).json();
    assert_eq!((&moved["trusts"][0]["id"], &moved["trusts"][0]["name"]), (&json!(ca.id), &json!(name)));
    assert_eq!(moved["trusts"][1], json!({"id": "0123456789abcdef", "name": null, "ends_at": null}));
    assert_eq!(bench.get("/devices/silent").await.is(200).json()["trusts"], json!([]));
    let path = format!("/devices?only_trusts={}", ca.id);
    let only = bench.get(&path).await.is(200).json();
    assert_eq!((&only["total"], &only["items"][0]["id"]), (&json!(1), &json!("old")));
    let whole = format!("{}{}", ca.id.to_uppercase(), "AB".repeat(24));
    let with_colons = whole.as_bytes().chunks(2).map(|two| std::str::from_utf8(two).unwrap());
    let path = format!("/devices?only_trusts={}", with_colons.collect::<Vec<_>>().join(":"));
    assert_eq!(bench.get(&path).await.is(200).json(), only, "a fingerprint as it is printed at the start");
    for nonsense in [&ca.id[1..], &format!("{}0", ca.id), "zzzzzzzzzzzzzzzz", "Otaru"] {
        let problem = bench.get(&format!("/devices?only_trusts={nonsense}")).await.is(422).json();
        assert!(problem["detail"].as_str().unwrap().contains("otaru devices show"), "{problem}");
    }

    assert_eq!(bench.get("/fleet").await.is(200).json()["ending_cas"], json!([]), "not for ten years");
    now.store(ca.ends.0 - 91 * DAY, Ordering::Relaxed);
    assert_eq!(bench.get("/fleet").await.is(200).json()["ending_cas"], json!([]));
    for (at, word) in [(ca.ends.0 - 89 * DAY, "ends on"), (ca.ends.0 + DAY, "ended on")] {
        now.store(at, Ordering::Relaxed);
        let ending = bench.get("/fleet").await.is(200).json()["ending_cas"][0].clone();
        assert_eq!((&ending["id"], &ending["devices"]), (&json!(ca.id), &json!(1)));
        let detail = ending["detail"].as_str().unwrap();
        let list = format!("otaru devices --only-trusts {}", ca.id);
        assert!(detail.contains(word) && detail.contains("1 device trusts no other"), "{detail}");
        assert!(detail.contains(&list), "{detail}");
    }
}
