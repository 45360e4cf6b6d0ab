use std::vec::Vec;

use super::*;
use otaru_format::mqtt::Version::{V5, V311};

const ID: NonZeroU16 = NonZeroU16::new(0x0102).unwrap();

fn read(bytes: &[u8]) -> Result<Packet<'_>, Broken> {
    let header = Header::read(bytes)?.ok_or(Broken)?;
    assert_eq!(header.packet_len(), bytes.len());
    Packet::read(Version::V5, header, bytes)
}

fn read_311(bytes: &[u8]) -> Result<Packet<'_>, Broken> {
    Packet::read(Version::V311, Header::read(bytes)?.ok_or(Broken)?, bytes)
}

#[test]
fn what_is_written_is_what_the_standard_says() {
    let mut buf = [0; 128];
    let connect = Connect {
        client: "d",
        login: Some(("u", "pw")),
        will: ("t/online", "offline"),
        keep_alive: 30,
        session_expiry: 0x0001_5180,
    };
    let expected: Vec<u8> = [
        &b"\x10\x33\0\x04MQTT\x05\xEC\0\x1E\x0A\x11\0\x01\x51\x80\x27\0\0\x04\xC0"[..],
        b"\0\x01d\0\0\x08t/online\0\x07offline\0\x01u\0\x02pw",
    ]
    .concat();
    assert_eq!(connect.write(V5, &mut buf).unwrap(), expected);
    assert_eq!(subscribe(V5, "a/b", ID, true, &mut buf).unwrap(), b"\x82\x09\x01\x02\0\0\x03a/b\x01");
    assert_eq!(subscribe(V5, "a/b", ID, false, &mut buf).unwrap(), b"\xA2\x08\x01\x02\0\0\x03a/b");
    assert_eq!(publish(V5, "a", None, false, 2, &mut buf).unwrap(), b"\x30\x06\0\x01a\0");
    assert_eq!(publish(V5, "a", Some(ID), true, 200, &mut buf).unwrap(), b"\x33\xCE\x01\0\x01a\x01\x02\0");
    assert_eq!(acknowledge(ID), [0x40, 2, 1, 2]);
}

#[test]
fn what_is_written_in_3_1_1_has_no_properties_and_a_clean_session() {
    let mut buf = [0; 128];
    let will = ("t/online", "offline");
    let connect = Connect { client: "d", login: Some(("u", "pw")), will, keep_alive: 30, session_expiry: 1 };
    let expected = b"\x10\x27\0\x04MQTT\x04\xEE\0\x1E\0\x01d\0\x08t/online\0\x07offline\0\x01u\0\x02pw";
    assert_eq!(connect.write(V311, &mut buf).unwrap(), expected);
    assert_eq!(subscribe(V311, "a/b", ID, true, &mut buf).unwrap(), b"\x82\x08\x01\x02\0\x03a/b\x01");
    assert_eq!(subscribe(V311, "a/b", ID, false, &mut buf).unwrap(), b"\xA2\x07\x01\x02\0\x03a/b");
    assert_eq!(publish(V311, "a", None, false, 2, &mut buf).unwrap(), b"\x30\x05\0\x01a");
    assert_eq!(publish(V311, "a", Some(ID), true, 2, &mut buf).unwrap(), b"\x33\x07\0\x01a\x01\x02");
}

#[test]
fn an_answer_is_read_by_its_length() {
    let reason = |level, bytes: &[u8]| match Packet::read(level, Header::read(bytes).unwrap().unwrap(), bytes)
    {
        Ok(Packet::Connected { reason }) => Some(reason),
        _ => None,
    };
    for (code, read) in [(1, 0x84), (2, 0x85), (3, 0x88), (4, 0x86), (5, 0x87), (6, 0x86), (0x84, 0x84)] {
        for level in [V5, V311] {
            assert_eq!(reason(level, &[0x20, 2, 0, code]), Some(read), "{level:?} {code}");
        }
    }
    assert_eq!(reason(V311, b"\x20\x02\0\0"), Some(0));
    assert_eq!(reason(V5, b"\x20\x02\0\0"), Some(UNSUPPORTED), "taken, but not as version 5");
    // The form of version 5, whatever was asked for.
    for level in [V5, V311] {
        assert_eq!(reason(level, b"\x20\x03\0\x84\0"), Some(UNSUPPORTED));
        assert_eq!(reason(level, b"\x20\x03\x01\0\0"), Some(0));
    }
    assert_eq!(reason(V5, b"\x20\x01\0"), None);
}

#[test]
fn what_a_broker_of_3_1_1_sends_is_understood() {
    let message = |id, again, retained| Packet::Message { topic: "a", payload: b"\0x", id, again, retained };
    assert_eq!(read_311(b"\x30\x05\0\x01a\0x"), Ok(message(None, false, false)));
    assert_eq!(read_311(b"\x3B\x07\0\x01a\x01\x02\0x"), Ok(message(Some(ID), true, true)));
    assert_eq!(read_311(b"\x40\x02\x01\x02"), Ok(Packet::Acknowledged { id: 0x0102, reason: 0 }));
    assert_eq!(read_311(b"\x90\x03\x01\x02\x01"), Ok(Packet::Subscribed { id: 0x0102, reason: 1 }));
    assert_eq!(read_311(b"\x90\x03\x01\x02\x80"), Ok(Packet::Subscribed { id: 0x0102, reason: 0x87 }));
    assert_eq!(read_311(b"\xB0\x02\x01\x02"), Ok(Packet::Unsubscribed));
    assert_eq!(read_311(b"\xD0\0"), Ok(Packet::Pong));
}

#[test]
fn a_packet_that_is_too_long_is_read_as_far_as_there_is_room() {
    let mut bytes = std::vec![b'x'; 5000];
    bytes[..8].copy_from_slice(b"\x32\x85\x27\0\x01a\x01\x02");
    let header = Header::read(&bytes).unwrap().unwrap();
    assert_eq!((header.packet_len(), header.rest()), (PACKET, 5000 - PACKET));
    let packet = Packet::read(V311, header, &bytes[..PACKET]).unwrap();
    assert!(matches!(packet, Packet::Message { payload, id: Some(ID), .. } if payload.len() > MAX_COMMAND));
}

#[test]
fn what_does_not_fit_is_not_written() {
    let mut buf = [0; 128];
    for level in [V5, V311] {
        let whole = subscribe(level, "a/b", ID, true, &mut buf).unwrap().len();
        for room in 0..whole + FIXED - 2 {
            assert_eq!(subscribe(level, "a/b", ID, true, &mut buf[..room]), None, "{room}");
        }
        assert!(subscribe(level, "a/b", ID, true, &mut buf[..whole + FIXED - 2]).is_some());
    }
}

#[test]
fn what_a_broker_sends_is_understood() {
    let message = |id, again, retained| Packet::Message { topic: "a", payload: b"x", id, again, retained };
    assert_eq!(read(b"\x20\x03\x01\0\0"), Ok(Packet::Connected { reason: 0 }));
    assert_eq!(
        read(b"\x20\x02\0\x01"),
        Ok(Packet::Connected { reason: UNSUPPORTED }),
        "a broker that speaks 3.1.1 only"
    );
    assert_eq!(read(b"\x30\x05\0\x01a\0x"), Ok(message(None, false, false)));
    assert_eq!(read(b"\x31\x05\0\x01a\0x"), Ok(message(None, false, true)));
    assert_eq!(read(b"\x3A\x09\0\x01a\x01\x02\x02\x01\x01x"), Ok(message(Some(ID), true, false)));
    assert_eq!(read(b"\x3B\x09\0\x01a\x01\x02\x02\x01\x01x"), Ok(message(Some(ID), true, true)));
    assert_eq!(read(b"\x40\x02\x01\x02"), Ok(Packet::Acknowledged { id: 0x0102, reason: 0 }));
    assert_eq!(read(b"\x40\x04\x01\x02\x87\0"), Ok(Packet::Acknowledged { id: 0x0102, reason: 0x87 }));
    assert_eq!(read(b"\x90\x04\0\x01\0\x01"), Ok(Packet::Subscribed { id: 1, reason: 1 }));
    assert_eq!(read(b"\xD0\0"), Ok(Packet::Pong));
    assert_eq!(read(b"\xE0\0"), Ok(Packet::Closed { reason: 0 }));
    assert_eq!(read(b"\xE0\x02\x8E\0"), Ok(Packet::Closed { reason: 0x8E }));
}

#[test]
fn what_a_broker_must_not_send_is_refused() {
    for bytes in [
        &b"\x30\x04\0\0\0x"[..],     // Without a topic: an alias, which was not allowed.
        b"\x34\x07\0\x01a\0\x01\0x", // QoS 2.
        b"\x32\x07\0\x01a\0\0\0x",   // Packet identifier 0.
        b"\x30\x05\0\x09a\0x",       // A topic longer than its packet.
        b"\x30\x05\0\x01\xFF\0x",    // No UTF-8.
        b"\x30\x05\0\x01a\x05x",     // Properties longer than their packet.
        b"\x40\x01\0",
        b"\x90\x03\0\x01\0",
        b"\xF0\0",
        b"\0\0",
    ] {
        assert_eq!(read(bytes), Err(Broken), "{bytes:x?}");
    }
    assert_eq!(Header::read(b"\x30\xFF\xFF\xFF\xFF"), Err(Broken), "a length without an end");
    assert_eq!(Header::read(b"\x30\xFF"), Ok(None));
}

#[test]
fn any_bytes_are_taken() {
    let mut state: u32 = 1;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut read_whole = 0;
    for _ in 0..100_000 {
        let mut bytes = [0; 24];
        bytes.fill_with(&mut random);
        bytes[1] &= 0x0F;
        if let Ok(Some(header)) = Header::read(&bytes) {
            for level in [V5, V311] {
                read_whole += usize::from(Packet::read(level, header, &bytes).is_ok());
                let _ = Packet::read(level, header, &bytes[..2]);
            }
        }
    }
    assert!(read_whole > 100, "{read_whole}");
}
