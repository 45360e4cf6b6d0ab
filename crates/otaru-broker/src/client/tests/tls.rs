//! The client over TLS: whom it trusts decides before a login leaves.

use std::sync::Arc;

use otaru_tls::{Reason, Trust};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

use super::*;
use crate::client::BrokerError;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate of that authority, and its key.
fn issued(authority: &Authority, name: &str) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    (CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, authority).unwrap(), key)
}

/// A broker that lets one connection in over TLS; `clients` sign the certificates it wants to see.
async fn broker(authority: &Authority, name: &str, clients: Option<&Authority>) -> BrokerUrl {
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(clients.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let (certificate, key) = issued(authority, name);
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut url = BrokerUrl::new("127.0.0.1", listener.local_addr().unwrap().port());
    url.tls = true;
    url.trust = Trust::of_pem(authority.pem().as_bytes()).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = TlsAcceptor::from(Arc::new(config.clone())).accept(stream).await else {
                continue;
            };
            let mut buf = [0; 256];
            assert_eq!(stream.read(&mut buf).await.map(|_| buf[0]).unwrap_or(0x10), 0x10);
            let _ = stream.write_all(ACCEPTED_5).await;
            let _ = stream.flush().await;
            // Until the client goes.
            while matches!(stream.read(&mut buf).await, Ok(len) if len > 0) {}
        }
    });
    url
}

async fn refused(url: &BrokerUrl) -> Reason {
    match Mqtt::connect(url, "t").await.err() {
        Some(BrokerError::Tls(broker, reason)) => {
            assert_eq!(broker, url.to_string());
            reason
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_broker_of_a_ca_that_is_trusted_is_spoken_to() {
    let authority = authority();
    let url = broker(&authority, "127.0.0.1", None).await;
    assert!(url.to_string().starts_with("mqtts://127.0.0.1:"));
    let (mqtt, _) = (Mqtt::connect(&url, "t").await.unwrap(), ());
    drop(mqtt);
}

#[tokio::test]
async fn others_are_told_by_their_fault() {
    let (ours, theirs) = (authority(), authority());
    let mut url = broker(&theirs, "127.0.0.1", None).await;
    url.trust = Trust::of_pem(ours.pem().as_bytes()).unwrap();
    assert_eq!(refused(&url).await, Reason::UnknownCa);
    assert_eq!(refused(&broker(&ours, "elsewhere", None).await).await, Reason::WrongHost);
    let fake = Fake::start().await;
    let mut plain = fake.url(MqttVersion::Auto);
    plain.tls = true;
    plain.trust = Trust::of_pem(ours.pem().as_bytes()).unwrap();
    let peer = tokio::spawn(async move {
        let (mut stream, _) = fake.0.accept().await.unwrap();
        stream.write_all(b"\x20\x02\x00\x01 this is MQTT in clear").await.unwrap();
        stream.read_to_end(&mut Vec::new()).await
    });
    assert_eq!(refused(&plain).await, Reason::NotTls);
    peer.abort();
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_a_broker_that_asks() {
    let (ours, clients) = (authority(), authority());
    let mut url = broker(&ours, "127.0.0.1", Some(&clients)).await;
    assert_eq!(refused(&url).await, Reason::ClientRefused);
    let (certificate, key) = issued(&clients, "me");
    let (certificate, key) = (certificate.pem(), key.serialize_pem());
    url.trust = url.trust.with_identity(certificate.as_bytes(), key.as_bytes()).unwrap();
    assert!(Mqtt::connect(&url, "t").await.is_ok());
}
