//! Servers that do not speak as they should, beside those of the table: any bytes, memory that is short anywhere, handshakes that are
//! dropped anywhere.

use std::time::Duration;

use otaru_device::TlsError;
use otaru_mbedtls::{Identity, MOST_CAS, Trust, TrustError, check};
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use crate::device::Device;
use crate::memory;
use crate::server::{meet, meet_strange};
use otaru_testing::tls_peers::{Authority, Chain};

/// Asserts that a device refuses a chain for this reason, in both versions, before it has said anything.
async fn assert_refused(device: &Device, chain: &Chain, reason: TlsError) {
    for version in [&TLS12, &TLS13] {
        let before = memory::used();
        let meeting = meet(device, "files.lan", chain.server(&[version], None)).await;
        assert_eq!(meeting.device, Err(reason), "{:?}: {:?}", version.version, meeting.server);
        assert_eq!(meeting.server.unwrap_or_default(), b"", "the login was sent");
        assert_eq!(memory::used(), before, "memory is lost");
    }
}

#[tokio::test]
async fn a_close_in_any_place_of_the_handshake_is_one() {
    let authority = Authority::new("ours");
    let device = Device::trusting(&authority);
    let before = memory::used();
    for bytes in [0, 1, 5, 100] {
        let closed = meet_strange(&device, async |mut stream: DuplexStream| {
            let mut heard = vec![0; bytes];
            stream.read_exact(&mut heard).await.unwrap();
        });
        assert_eq!(closed.await, Err(TlsError::CLOSED), "after {bytes} bytes");
        assert_eq!(memory::used(), before);
    }
    // In the middle of the server's first record.
    let closed = meet_strange(&device, async |mut stream: DuplexStream| {
        stream.write_all(&[22, 3, 3, 0, 80, 2, 0]).await.unwrap();
    });
    assert_eq!(closed.await, Err(TlsError::CLOSED));
}

#[tokio::test]
async fn who_speaks_something_else_is_told_from_who_breaks_tls() {
    let authority = Authority::new("ours");
    let device = Device::trusting(&authority);
    let rows: [(&[u8], TlsError); 8] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", TlsError::NOT_TLS),
        (b"\x20\x03\x00\x87\x00", TlsError::NOT_TLS),
        (b"SSH-2.0-OpenSSH_9.2\r\n", TlsError::NOT_TLS),
        (&[22, 3, 3, 0, 4, 2, 0, 0, 0], TlsError::PROTOCOL),
        (&[23, 3, 3, 0, 4, 2, 0, 0, 0], TlsError::PROTOCOL),
        (&[21, 3, 3, 0, 2, 2, 40], TlsError::NOTHING_IN_COMMON),
        (&[21, 3, 1, 0, 2, 2, 70], TlsError::NOTHING_IN_COMMON),
        (&[21, 3, 3, 0, 2, 2, 80], TlsError::CLOSED),
    ];
    for (bytes, reason) in rows {
        let before = memory::used();
        let met = meet_strange(&device, async |mut stream: DuplexStream| {
            stream.write_all(bytes).await.unwrap();
            let mut heard = Vec::new();
            let _ = stream.read_to_end(&mut heard).await;
        });
        assert_eq!(met.await, Err(reason), "{bytes:?}");
        assert_eq!(memory::used(), before);
    }
}

#[tokio::test]
async fn any_bytes_end_in_an_error() {
    let authority = Authority::new("ours");
    let device = Device::trusting(&authority);
    let before = memory::used();
    let mut seed = 1_u32;
    for _ in 0..200 {
        let mut bytes = vec![22, 3, 3, 0, 200];
        bytes.extend((0..200).map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        }));
        // A ServerHello by its head.
        bytes[5..9].copy_from_slice(&[2, 0, 0, 196]);
        let met = meet_strange(&device, async |mut stream: DuplexStream| {
            let _ = stream.write_all(&bytes).await;
        });
        assert!(met.await.is_err());
        assert_eq!(memory::used(), before);
    }
}

#[tokio::test]
async fn a_handshake_that_stalls_may_be_dropped_anywhere() {
    use embedded_io_adapters::tokio_1::FromTokio;
    use otaru_device::Tls as _;
    let authority = Authority::new("ours");
    let chain = authority.chain("files.lan", |_| {});
    let device = Device::trusting(&authority);
    let before = memory::used();
    for version in [&TLS12, &TLS13] {
        for bytes in [0, 1, 80, 300, 400] {
            // What the server says goes no further than this.
            let (ours, mut network) = tokio::io::duplex(64);
            let (mut far, theirs) = tokio::io::duplex(4096);
            let acceptor =
                tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(chain.server(&[version], None)));
            let stalled = async {
                let (mut to_device, mut piece) = (0, [0; 1]);
                loop {
                    let mut hello = [0; 600];
                    tokio::select! {
                        count = network.read(&mut hello) => far.write_all(&hello[..count.unwrap()]).await.unwrap(),
                        _ = far.read_exact(&mut piece), if to_device < bytes => {
                            to_device += 1;
                            network.write_all(&piece).await.unwrap();
                        }
                    }
                }
            };
            tokio::select! {
                biased;
                opened = device.tls.open(FromTokio::new(ours), "files.lan") => panic!("{:?}", opened.err()),
                () = async { tokio::join!(stalled, acceptor.accept(theirs)); } => {}
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
            assert_eq!(memory::used(), before, "{:?}, {bytes} bytes", version.version);
        }
    }
}

#[tokio::test]
async fn a_chain_that_is_too_long_is_told() {
    let authority = Authority::new("ours");
    let chain = authority.chain("files.lan", |params| {
        params.custom_extensions =
            vec![rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![4; 17_000])];
    });
    let device = Device::trusting(&authority);
    assert_refused(&device, &chain, TlsError::RECORD_TOO_LARGE).await;
}

/// In the middle of a verification Mbed TLS takes memory that is short for a signature that is wrong: that is why sessions begin with a
/// reserve.
#[tokio::test]
async fn memory_may_be_short_at_any_place() {
    let authority = Authority::new("ours");
    let chain = authority.chain("files.lan", |_| {});
    let device = Device::trusting(&authority);
    let before = memory::used();
    for version in [&TLS12, &TLS13] {
        let (mut room, mut told) = (0, 0);
        loop {
            memory::limit(before + room);
            let meeting = meet(&device, "files.lan", chain.server(&[version], None)).await;
            memory::limit(usize::MAX);
            assert_eq!(memory::used(), before);
            match meeting.device {
                Ok(()) => break,
                Err(TlsError::OUT_OF_MEMORY) => told += 1,
                Err(error) => {
                    println!("{room} bytes, {:?}: {error}", version.version);
                    assert_eq!(meeting.server.unwrap_or_default(), b"", "the login was sent");
                }
            }
            room += 256;
        }
        println!("{:?}: {room} bytes do", version.version);
        assert!(told > 20, "{told}");
    }
}

#[tokio::test]
async fn without_the_reserve_no_session_begins() {
    let authority = Authority::new("ours");
    let chain = authority.chain("files.lan", |_| {});
    let mut device = Device::trusting(&authority);
    device.tls = device.tls.with_reserve(20_000, || 19_999);
    let meeting = meet(&device, "files.lan", chain.server(&[&TLS13], None)).await;
    assert_eq!(meeting.device, Err(TlsError::OUT_OF_MEMORY));
    device.tls = device.tls.with_reserve(20_000, || 20_000);
    let meeting = meet(&device, "files.lan", chain.server(&[&TLS13], None)).await;
    assert_eq!(meeting.device, Ok(()));
}

#[test]
fn trust_that_cannot_be_used_is_told() {
    let authority = Authority::new("ours");
    let der = authority.der();
    let error = |cas: &[&[u8]]| Trust::new(cas, None).unwrap_err();
    // The library is used by one test at a time.
    let _one = Device::trusting(&authority);
    assert_eq!(error(&[]), TrustError::Empty);
    assert_eq!(error(&vec![der.as_ref(); MOST_CAS + 1]), TrustError::TooMany);
    assert_eq!(error(&[&der, b"-----BEGIN CERTIFICATE-----"]), TrustError::Ca(2));
    assert_eq!(error(&[&der, &der, &der[..der.len() - 1]]), TrustError::Ca(3));
    assert!(Trust::new(&[&der], None).is_ok());
    // Before they are kept, with the same words.
    let own = Some(Identity { certificate: &der, key: &der });
    assert_eq!(check(&[], None), Ok(()));
    assert_eq!(check(&[&der, &der[1..]], None), Err(TrustError::Ca(2)));
    assert_eq!(check(&[&der], own), Err(TrustError::Key));
    let swapped = Identity { certificate: b"0", key: &der };
    assert_eq!(check(&[], Some(swapped)), Err(TrustError::Certificate));
}
