//! Packets that only a client sends, as bytes at the end of a buffer; a message's head is in `publish.rs`.

use super::encode::{put_packet, put_string};
use super::fault::Fault;
use super::properties as property;
use super::topic;
use crate::version::Version;

/// PINGREQ, the same in both versions (MQTT 5, section 3.12).
pub(crate) const PINGREQ: [u8; 2] = [0xC0, 0];
/// DISCONNECT without a reason, the same in both versions (MQTT 5, section 3.14).
pub(crate) const DISCONNECT: [u8; 2] = [0xE0, 0];

/// PUBACK of success, the same in both versions (MQTT 5, section 3.4.2.1).
pub(crate) fn puback(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [0x40, 2, high, low]
}

/// CONNECT of a session that begins clean and ends with its connection, without a will.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CleanConnect<'a> {
    pub(crate) version: Version,
    pub(crate) client: &'a str,
    /// User name and password.
    pub(crate) login: Option<(&'a str, &'a [u8])>,
    /// Seconds; 0 for none.
    pub(crate) keep_alive: u16,
    /// Bytes of the largest packet that the client takes; 3.1.1 cannot say so.
    pub(crate) maximum_packet_size: u32,
}

/// Connect flags: a clean start, a password, a user name.
const CLEAN: u8 = 0b10;
const WITH_LOGIN: u8 = 0b1100_0000;

impl CleanConnect<'_> {
    /// Writes the packet, unless a text of it is none that MQTT can carry.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<(), Fault> {
        let mut body = Vec::with_capacity(64);
        put_string(&mut body, "MQTT");
        body.push(if self.version == Version::V5 { 5 } else { 4 });
        body.push(if self.login.is_some() { CLEAN | WITH_LOGIN } else { CLEAN });
        body.extend(self.keep_alive.to_be_bytes());
        if self.version == Version::V5 {
            body.extend([5, property::MAXIMUM_PACKET_SIZE]);
            body.extend(self.maximum_packet_size.to_be_bytes());
        }
        string(&mut body, self.client)?;
        if let Some((username, password)) = self.login {
            string(&mut body, username)?;
            binary(&mut body, password)?;
        }
        put_packet(out, 0x10, &body);
        Ok(())
    }
}

fn string(out: &mut Vec<u8>, text: &str) -> Result<(), Fault> {
    if text.contains('\0') { Err(Fault::Malformed) } else { binary(out, text.as_bytes()) }
}

fn binary(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Fault> {
    let length = u16::try_from(bytes.len()).map_err(|_| Fault::Malformed)?;
    out.extend(length.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

/// Writes a SUBSCRIBE to one filter at QoS 1, unless the text is no filter.
pub(crate) fn subscribe(out: &mut Vec<u8>, version: Version, id: u16, filter: &str) -> Result<(), Fault> {
    if !topic::is_filter(filter) {
        return Err(Fault::Malformed);
    }
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    string(&mut body, filter)?;
    body.push(1);
    put_packet(out, 0x82, &body);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::connect::Connect;
    use crate::codec::frame::{Cut, Frame, cut};
    use crate::codec::packet::Packet;
    use crate::version::Qos;

    const BOTH: [Version; 2] = [Version::V5, Version::V311];

    fn frame(bytes: &[u8]) -> Frame<'_> {
        match cut(bytes, usize::MAX) {
            Ok(Cut::Whole(frame)) if frame.length == bytes.len() => frame,
            other => panic!("{other:?}"),
        }
    }

    fn connect(version: Version, login: Option<(&'static str, &'static [u8])>) -> CleanConnect<'static> {
        CleanConnect { version, client: "c", login, keep_alive: 20, maximum_packet_size: 9000 }
    }

    #[test]
    fn a_broker_reads_what_a_client_writes() {
        for version in BOTH {
            for login in [None, Some(("ann", &b"se\0cret"[..])), Some(("", b""))] {
                let mut out = Vec::new();
                connect(version, login).write(&mut out).unwrap();
                let read = Connect::parse(&frame(&out)).unwrap();
                assert_eq!(
                    (read.version, read.client, read.clean, read.keep_alive),
                    (version, "c", true, 20)
                );
                assert_eq!(read.username.zip(read.password), login);
                assert_eq!((read.session_expiry, read.will), (0, None));
                assert_eq!(read.maximum_packet_size, (version == Version::V5).then_some(9000));
            }
            let mut out = Vec::new();
            subscribe(&mut out, version, 258, "a/+").unwrap();
            let Ok(Packet::Subscribe(read)) = Packet::parse(version, &frame(&out)) else {
                panic!("{out:x?}")
            };
            let filters: Vec<_> = read.filters().map(|(filter, options)| (filter, options.qos)).collect();
            assert_eq!((read.id, filters), (258, vec![("a/+", Qos::One)]));
            assert!(matches!(Packet::parse(version, &frame(&PINGREQ)), Ok(Packet::Ping)));
            assert!(matches!(Packet::parse(version, &frame(&DISCONNECT)), Ok(Packet::Disconnect(_))));
            assert!(
                matches!(Packet::parse(version, &frame(&puback(9))), Ok(Packet::Ack(ack)) if ack.id == 9)
            );
        }
    }

    #[test]
    fn what_cannot_be_carried_is_not_written() {
        let long: &'static str = "a".repeat(65_536).leak();
        for version in BOTH {
            let mut out = Vec::new();
            for login in [(long, &b""[..]), ("a\0", b""), ("a", long.as_bytes())] {
                assert_eq!(connect(version, Some(login)).write(&mut out), Err(Fault::Malformed));
            }
            for filter in [long, "", "a/#/b", "a\0"] {
                assert_eq!(subscribe(&mut out, version, 1, filter), Err(Fault::Malformed));
            }
            assert!(out.is_empty());
            connect(version, Some(("a", &long.as_bytes()[1..]))).write(&mut out).unwrap();
            assert_eq!(Connect::parse(&frame(&out)).unwrap().password.map(<[u8]>::len), Some(65_535));
        }
    }
}
