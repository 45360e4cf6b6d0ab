//! Server of TLS 1.2 that asks for a new handshake in the middle of a session, which rustls never does: the record is made here.

use std::io::Read as _;
use std::sync::Arc;

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS12;
use rustls::{ConnectionTrafficSecrets, ServerConnection};

use super::certificates::{Chain, provider};
use super::peer::{App, Peer, Then};

const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// HelloRequest, which has no content (RFC 5246, 7.4.1.1).
const HELLO_REQUEST: [u8; 4] = [0; 4];
/// Bytes of an answer in one record.
const PIECE: usize = 1024;

/// Server that asks for a new handshake before it answers.
pub(super) struct Renegotiating {
    /// None once it has asked.
    connection: Option<ServerConnection>,
    app: App,
    waiting: Vec<u8>,
    told: usize,
}

impl Renegotiating {
    pub(super) fn new(chain: &Chain, app: App) -> Self {
        let cipher_suites = vec![TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256];
        let provider = CryptoProvider { cipher_suites, ..provider() };
        let mut config = chain.server_with(&[&TLS12], WebPkiClientVerifier::no_client_auth(), provider);
        config.enable_secret_extraction = true;
        let connection = ServerConnection::new(Arc::new(config)).unwrap();
        Self { connection: Some(connection), app, waiting: Vec::new(), told: 0 }
    }

    /// Asks for a new handshake, and answers.
    fn ask(&mut self, answer: &[u8]) -> Vec<u8> {
        let Some(connection) = self.connection.take() else { return Vec::new() };
        let (number, secrets) = connection.dangerous_extract_secrets().unwrap().tx;
        let mut sealer = Sealer::new(number, &secrets);
        let mut said = sealer.seal(HANDSHAKE, &HELLO_REQUEST);
        for piece in answer.chunks(PIECE) {
            said.extend(sealer.seal(APPLICATION_DATA, piece));
        }
        said
    }
}

impl Peer for Renegotiating {
    fn hear(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut said = Vec::new();
        let Some(connection) = &mut self.connection else { return said };
        while !bytes.is_empty() {
            connection.read_tls(&mut bytes).unwrap();
            if connection.process_new_packets().is_err() {
                return said;
            }
            let before = self.waiting.len();
            // Nothing to read is no news.
            let _ = connection.reader().read_to_end(&mut self.waiting);
            self.told += self.waiting.len() - before;
        }
        while connection.wants_write() {
            connection.write_tls(&mut said).unwrap();
        }
        let answer = if self.waiting.is_empty() { None } else { (self.app)(&self.waiting) };
        if let Some(answer) = answer {
            said.extend(self.ask(&answer));
        }
        said
    }

    fn then(&self) -> Then {
        Then::Listen
    }

    fn told(&self) -> usize {
        self.told
    }
}

/// Encryption of records with AES-128-GCM, as in TLS 1.2 (RFC 5288).
struct Sealer {
    key: LessSafeKey,
    /// First bytes of each nonce.
    salt: [u8; 4],
    number: u64,
}

impl Sealer {
    fn new(number: u64, secrets: &ConnectionTrafficSecrets) -> Self {
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else { panic!("another cipher") };
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key.as_ref()).unwrap());
        let salt = iv.as_ref()[..4].try_into().unwrap();
        Self { key, salt, number }
    }

    /// Makes the next record.
    fn seal(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let number = self.number.to_be_bytes();
        self.number += 1;
        let len = u16::try_from(content.len()).unwrap();
        let head = [&number[..], &[kind, 3, 3], &len.to_be_bytes()].concat();
        // The other half of the nonce goes with the record; rustls has used others for its own.
        let explicit: [u8; 8] = number.map(|byte| !byte);
        let nonce = Nonce::try_assume_unique_for_key(&[&self.salt[..], &explicit].concat()).unwrap();
        let mut sealed = content.to_vec();
        self.key.seal_in_place_append_tag(nonce, Aad::from(head), &mut sealed).unwrap();
        let len = u16::try_from(explicit.len() + sealed.len()).unwrap();
        [&[kind, 3, 3][..], &len.to_be_bytes(), &explicit, &sealed].concat()
    }
}
