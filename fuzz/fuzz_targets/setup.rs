//! Readers of what anybody near a device may send while it is set up: requests of the page with form and certificates, DHCP and DNS. And
//! SNTP's answers, and settings and CAs as flash keeps them. Settings of a form come back from flash as they were; a trust store has no
//! more than it may. The first byte chooses the reader.
#![no_main]

use critical_section as _;
use libfuzzer_sys::fuzz_target;
use otaru_setup::form::{self, Request, certificates};
use otaru_setup::pem::MOST_CAS;
use otaru_setup::trust_store::{self, TrustStore};
use otaru_setup::{dhcp, dns, record, sntp};

fuzz_target!(|input: &[u8]| {
    let Some((reader, bytes)) = input.split_first() else { return };
    match reader % 6 {
        0 => page(bytes),
        1 => assert!(dhcp::answer(bytes).is_none_or(|answer| answer[0] == 2)),
        2 => names(bytes),
        3 => time(bytes),
        4 => settings(bytes),
        _ => stored(bytes),
    }
});

/// A browser's request, as it arrives: what is decided of its beginning holds for more of it.
fn page(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(form::REQUEST)];
    let whole = form::request(bytes);
    let half = form::request(&bytes[..bytes.len() / 2]);
    assert!(half == Request::Incomplete || half == whole);
    let Request::Form(form) = whole else { return };
    if let Ok(settings) = form::settings(form) {
        assert!(settings.check().is_ok());
        assert_eq!(record::decode(&record::encode(&settings)), Some(settings));
    }
    let length = form.len();
    let mut request = bytes.to_vec();
    let form = certificates::form(&mut request);
    assert_eq!(form.len(), length);
    let Ok(change) = certificates::change(form) else { return };
    let mut buffer = [0; trust_store::LEN];
    let mut store = TrustStore::empty(&mut buffer);
    if store.change(&change).is_ok() {
        assert_eq!(store.identity(), change.identity);
        for ca in &change.cas {
            assert!(store.cas().any(|kept| kept == *ca));
        }
    }
}

fn names(bytes: &[u8]) {
    let mut answer = [0; dns::LEN];
    if let Some(len) = dns::answer(bytes, &mut answer) {
        assert!(len <= answer.len() && answer[..2] == bytes[..2]);
    }
}

/// An answer to the question whose nonce stands in front of it, with the moment that is past.
fn time(bytes: &[u8]) {
    let Some((nonce, rest)) = bytes.split_first_chunk() else { return };
    let Some((past, answer)) = rest.split_first_chunk() else { return };
    let (nonce, past) = (u64::from_be_bytes(*nonce), u64::from_be_bytes(*past));
    if sntp::answer(answer, nonce, past).is_ok() {
        assert_eq!(answer[24..32], nonce.to_be_bytes());
    }
}

fn settings(bytes: &[u8]) {
    if let Some(settings) = record::decode(bytes) {
        assert!(settings.check().is_ok());
        assert_eq!(record::decode(&record::encode(&settings)), Some(settings));
    }
}

fn stored(bytes: &[u8]) {
    let mut buffer = [0; trust_store::LEN];
    let len = bytes.len().min(buffer.len());
    buffer[..len].copy_from_slice(&bytes[..len]);
    if let Some(store) = TrustStore::read(&mut buffer, len) {
        assert!(store.cas().count() <= MOST_CAS);
        assert_eq!(store.bytes(), &bytes[..len]);
    }
}
