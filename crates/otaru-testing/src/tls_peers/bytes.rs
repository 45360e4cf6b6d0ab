//! Records and messages by hand, for what no library says, and changes to those of others.

/// Alert of the level `fatal` in clear (RFC 8446, 6).
pub(super) fn alert(number: u8) -> Vec<u8> {
    vec![21, 3, 3, 0, 2, 2, number]
}

/// Alert of the level `warning` in clear.
pub(super) fn warning(number: u8) -> Vec<u8> {
    vec![21, 3, 3, 0, 2, 1, number]
}

/// Record with a ServerHello of this version and cipher, as servers before 1.3 say it.
pub(super) fn server_hello(version: [u8; 2], cipher: [u8; 2]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend([0x5A; 32]);
    // No session, that cipher, no compression, no extensions.
    body.extend([0, cipher[0], cipher[1], 0, 0, 0]);
    let mut message = vec![2, 0, 0, u8::try_from(body.len()).unwrap()];
    message.extend(body);
    let mut record = vec![22, 3, version[1], 0, u8::try_from(message.len()).unwrap()];
    record.extend(message);
    record
}

/// Place of the random bytes in the record of a hello: behind the heads of record and message, and the version.
const RANDOM: usize = 5 + 4 + 2;

/// Extension that lists versions (RFC 8446, 4.2.1).
const SUPPORTED_VERSIONS: [u8; 2] = [0, 43];

/// Takes the list of versions out of a ClientHello, so that 1.2 seems to be the newest: it gets a number that nobody knows.
pub(super) fn hide_versions(hello: &mut [u8]) {
    let mut at = RANDOM + 32;
    // The session, the ciphers, the kinds of compression.
    at += 1 + usize::from(hello[at]);
    at += 2 + usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
    at += 1 + usize::from(hello[at]);
    let end = at + 2 + usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
    at += 2;
    while at < end {
        if hello[at..at + 2] == SUPPORTED_VERSIONS {
            hello[at..at + 2].copy_from_slice(&[0xFA, 0x57]);
            return;
        }
        at += 4 + usize::from(u16::from_be_bytes([hello[at + 2], hello[at + 3]]));
    }
    panic!("a device that speaks 1.3 lists its versions");
}

/// Overwrites the end of a ServerHello's random bytes, in which a server says that it speaks 1.3 (RFC 8446, 4.1.3).
pub(super) fn hide_sentinel(flight: usize, said: &mut [u8]) {
    if flight == 0 {
        let sentinel = &mut said[RANDOM + 24..RANDOM + 32];
        assert_eq!(sentinel, b"DOWNGRD\x01");
        sentinel.fill(0x5A);
    }
}

/// Flips a bit of the last record of a flight.
pub(super) fn flip_last(said: &mut [u8]) {
    if let Some(last) = said.last_mut() {
        *last ^= 1;
    }
}
