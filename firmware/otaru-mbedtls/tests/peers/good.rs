//! Servers that are trusted, beside those of the table: steps, memory, kinds of keys.

use std::time::Duration;

use otaru_device::Tls as _;
use otaru_device::format::status::{CaIds, Dates, TlsReport};
use otaru_mbedtls::{Identity, Trust};
use otaru_setup::trust_store::{self, TrustStore};
use rcgen::KeyPair;
use rustls::ServerConfig;
use rustls::version::{TLS12, TLS13};

use crate::device::{Device, NOW, Time};
use crate::memory;
use crate::server::{Meeting, PIPE, download, meet, meet_over};
use otaru_testing::tls_peers::{Authority, certificates_pem, key};

/// Bytes that come in at once where the network keeps up: a server's whole part of a handshake, as in a download's window.
const WINDOW: usize = 16 * 1024;
/// Handshakes, of whose longest steps the shortest is told.
const MEETINGS: usize = 20;

#[track_caller]
fn assert_good(meeting: &Meeting) {
    assert_eq!(meeting.device, Ok(()), "{:?}", meeting.server);
    assert_eq!(meeting.server.as_deref(), Ok(&b"user and password"[..]));
}

/// Returns the longest step of a handshake with a server, at the least of several, all of which must be good.
async fn longest_step(pipe: usize, device: &Device, server: impl Fn() -> ServerConfig) -> Duration {
    let mut longest = Duration::MAX;
    for _ in 0..MEETINGS {
        let meeting = meet_over(pipe, device, "files.lan", server()).await;
        assert_good(&meeting);
        // Other programs make a step longer, and nothing makes it shorter.
        longest = longest.min(meeting.steps.longest);
    }
    longest
}

#[tokio::test]
async fn both_versions_are_spoken_with_a_certificate_and_without() {
    let authority = Authority::new("ours");
    let [chain, own] = ["files.lan", "lamp"].map(|name| authority.chain(name, |_| {}));
    for (shows, identity) in [("nothing", None), ("a certificate", Some(&own))] {
        let device = Device::new(&[&authority.der()], identity, Time::Known(NOW));
        for (version, pipe) in [(&TLS12, PIPE), (&TLS12, WINDOW), (&TLS13, PIPE), (&TLS13, WINDOW)] {
            let server = || chain.server(&[version], identity.map(|_| &authority));
            let took = longest_step(pipe, &device, server).await;
            println!(
                "{:?}, {pipe} bytes at once, {shows} to show: the longest step takes {took:?}",
                version.version
            );
        }
    }
}

#[cfg(feature = "dated")]
#[tokio::test]
async fn ec_arithmetic_of_1_2_is_done_in_slices() {
    let authority = Authority::new("ours");
    let chain = authority.chain("files.lan", |_| {});
    let device = Device::trusting(&authority);
    let sliced = meet(&device, "files.lan", chain.server(&[&TLS12], None)).await;
    let whole = meet(&device, "files.lan", chain.server(&[&TLS13], None)).await;
    // Without slices each step ends where the network has to be waited for, as in 1.3.
    assert!(sliced.steps.count > whole.steps.count + 10, "{:?} {:?}", sliced.steps, whole.steps);
}

#[tokio::test]
async fn one_of_several_authorities_will_do() {
    let authorities = ["a", "b", "c", "d"].map(Authority::new);
    let ders = authorities.each_ref().map(Authority::der);
    let device = Device::new(&ders.each_ref().map(AsRef::as_ref), None, Time::Known(NOW));
    for authority in &authorities {
        let chain = authority.chain("files.lan", |_| {});
        assert_good(&meet(&device, "files.lan", chain.server(&[&TLS12, &TLS13], None)).await);
    }
}

#[test]
fn reports_name_the_authorities_and_say_how_dates_are_checked() {
    let authorities = ["a", "b"].map(Authority::new);
    let ders = authorities.each_ref().map(Authority::der);
    let cas = ders.each_ref().map(|der| der.as_ref());
    let named = CaIds::of(cas);
    for (time, dated) in [(Time::Known(NOW), Dates::Checked), (Time::Past(NOW), Dates::ClockUnknown)] {
        let device = Device::new(&cas, None, time);
        let dates = if otaru_mbedtls::CHECKS_DATES { dated } else { Dates::Unchecked };
        assert_eq!(device.tls.report(), TlsReport { trusts: named.as_str(), dates });
    }
}

#[tokio::test]
async fn without_the_time_only_the_beginning_of_a_certificate_is_not_checked() {
    let authority = Authority::new("ours");
    let chain = authority.chain("files.lan", |params| params.not_before = rcgen::date_time_ymd(2026, 1, 1));
    for past in [0, NOW - 400 * 86_400, NOW] {
        let device = Device::new(&[&authority.der()], None, Time::Past(past));
        assert_good(&meet(&device, "files.lan", chain.server(&[&TLS12, &TLS13], None)).await);
    }
}

#[tokio::test]
async fn records_of_4_kib_come_in() {
    let authority = Authority::new("ours");
    let chain = authority.chain("files.lan", |_| {});
    let device = Device::trusting(&authority);
    for version in [&TLS12, &TLS13] {
        assert_eq!(download(&device, chain.server(&[version], None), 100_000).await, Ok(100_000));
    }
}

/// Bytes of heap that a session may take in its handshake, with what is trusted, and afterwards. With 8 KiB for everybody else, the first
/// is what the firmware wants to be free.
const MOST: [usize; 2] = if cfg!(feature = "prebuilt") {
    [60 * 1024, 44 * 1024]
} else if cfg!(feature = "any-server") {
    [36 * 1024, 32 * 1024]
} else {
    [16 * 1024, 16 * 1024]
};

#[tokio::test]
async fn a_session_keeps_to_its_memory_and_gives_it_back() {
    use embedded_io_adapters::tokio_1::FromTokio;
    use otaru_device::Tls as _;
    let authority = Authority::new("ours");
    let chain = authority.chain("files.lan", |_| {});
    let device = Device::trusting(&authority);
    for version in [&TLS12, &TLS13] {
        let before = memory::used();
        memory::most();
        let (ours, theirs) = tokio::io::duplex(600);
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(chain.server(&[version], None)));
        let (session, _server) =
            tokio::join!(device.tls.open(FromTokio::new(ours), "files.lan"), acceptor.accept(theirs));
        let session = session.unwrap();
        let taken = [memory::most(), memory::used()].map(|bytes| bytes - before);
        println!("{:?}: {} bytes in the handshake, {} after it", version.version, taken[0], taken[1]);
        assert!(taken[0] <= MOST[0] && taken[1] <= MOST[1], "{taken:?}");
        drop(session);
        assert_eq!(memory::used(), before);
    }
}

#[cfg(not(feature = "own-server"))]
#[tokio::test]
async fn rsa_and_p_384_are_known() {
    let rsa = || {
        let pem = include_str!("../rsa-2048.pem");
        KeyPair::from_pem_and_sign_algo(pem, &rcgen::PKCS_RSA_SHA256).unwrap()
    };
    let p_384 = || KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    for (ca, of) in [(rsa(), rsa()), (rsa(), key()), (p_384(), p_384()), (p_384(), rsa())] {
        let authority = Authority::with_key("theirs", ca);
        let chain = authority.chain_with("files.lan", of, |_| {});
        let device = Device::trusting(&authority);
        for version in [&TLS12, &TLS13] {
            memory::most();
            let took = longest_step(WINDOW, &device, || chain.server(&[version], None)).await;
            let most = memory::most();
            println!("{:?}: the longest step takes {took:?}, {most} bytes of heap", version.version);
            assert!(most <= MOST[0], "{most}");
        }
    }
}

/// From the form that a browser sends, up to the handshake.
#[tokio::test]
async fn what_a_person_pastes_counts_beside_what_is_built_in() {
    let built_in = Authority::new("built in");
    let set = ["a", "b", "c", "d"].map(Authority::new);
    let [first, ..] = &set;
    let own = first.chain("lamp", |_| {});
    let texts = [
        ("ca", certificates_pem(&set.each_ref().map(Authority::der))),
        ("cert", certificates_pem(&own.certificates[..1])),
        ("key", own.key.serialize_pem()),
    ];
    let encoded = |text: String| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let mut form = texts.map(|(name, text)| format!("{name}={}", encoded(text))).join("&").into_bytes();
    let change = otaru_setup::form::certificates::change(&mut form).unwrap();
    let mut buffer = [0; trust_store::LEN];
    let mut store = TrustStore::empty(&mut buffer);
    store.change(&change).unwrap();
    let (certificate, key) = store.identity().unwrap();
    assert_eq!((certificate, key), (own.certificates[0].as_ref(), &own.key.serialize_der()[..]));
    let der = built_in.der();
    let cas: Vec<&[u8]> = store.cas().chain([der.as_ref()]).collect();

    let device = Device::new(&cas, Some(&own), Time::Known(NOW));
    assert_eq!(otaru_mbedtls::check(&change.cas, Some(Identity { certificate, key })), Ok(()));
    let before = memory::used();
    let trust = Trust::new(&cas[..4], Some(Identity { certificate, key })).unwrap();
    println!("four CAs with EC keys and a pair: {} bytes of heap", memory::used() - before);
    drop(trust);
    for authority in set.iter().chain([&built_in]) {
        let chain = authority.chain("files.lan", |_| {});
        assert_good(&meet(&device, "files.lan", chain.server(&[&TLS13], Some(first))).await);
    }
}

/// Bytes of heap that the public roots may take for as long as the device runs.
#[cfg(not(feature = "own-server"))]
const PUBLIC: usize = 20 * 1024;

#[cfg(not(feature = "own-server"))]
#[tokio::test]
async fn the_public_roots_are_trusted_beside_as_many_cas_as_there_may_be() {
    let roots = otaru_setup::public::certificates().unwrap();
    // As many that a person has set as are built in.
    let ours: Vec<Authority> = ["a", "b", "c", "d", "e", "f", "g", "h"].map(Authority::new).into();
    let own = ours.iter().map(|ca| ca.der().as_ref().to_vec());
    let ders: Vec<Vec<u8>> = own.chain(roots.clone()).collect();
    let all: Vec<&[u8]> = ders.iter().map(Vec::as_slice).collect();
    assert_eq!((ours.len(), all.len()), (2 * otaru_setup::trust::MOST_CAS, otaru_mbedtls::MOST_CAS));
    let device = Device::new(&all, None, Time::Known(NOW));
    for authority in &ours {
        let chain = authority.chain("files.lan", |_| {});
        assert_good(&meet(&device, "files.lan", chain.server(&[&TLS13], None)).await);
    }
    let before = memory::used();
    let public: Vec<&[u8]> = roots.iter().map(Vec::as_slice).collect();
    let trust = Trust::new(&public, None).unwrap();
    let taken = memory::used() - before;
    println!("public roots: {taken} bytes of heap");
    assert!(taken <= PUBLIC, "{taken}");
    drop(trust);
}

#[cfg(feature = "own-server")]
#[test]
fn the_small_preset_cannot_read_public_roots() {
    let authority = Authority::new("ours");
    // The library is used by one test at a time.
    let _one = Device::trusting(&authority);
    let [first, ..] = &otaru_setup::public::certificates().unwrap()[..] else { panic!("no roots") };
    assert_eq!(Trust::new(&[first], None).unwrap_err(), otaru_mbedtls::TrustError::Ca(1));
}

#[cfg(feature = "own-server")]
#[tokio::test]
async fn a_server_with_an_rsa_key_has_nothing_in_common_with_the_small_preset() {
    let pem = include_str!("../rsa-2048.pem");
    let rsa = KeyPair::from_pem_and_sign_algo(pem, &rcgen::PKCS_RSA_SHA256).unwrap();
    let authority = Authority::with_key("ours", key());
    let chain = authority.chain_with("files.lan", rsa, |_| {});
    let device = Device::trusting(&authority);
    for version in [&TLS12, &TLS13] {
        let meeting = meet(&device, "files.lan", chain.server(&[version], None)).await;
        assert_eq!(meeting.device, Err(otaru_device::TlsError::NOTHING_IN_COMMON));
    }
}
