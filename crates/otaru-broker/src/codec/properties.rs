//! Properties of MQTT 5: each of the type the standard gives it, only where it belongs, and once.

use super::fault::Fault;
use super::reader::Reader;

pub(crate) const PAYLOAD_FORMAT: u8 = 1;
pub(crate) const MESSAGE_EXPIRY: u8 = 2;
pub(crate) const CONTENT_TYPE: u8 = 3;
pub(crate) const RESPONSE_TOPIC: u8 = 8;
pub(crate) const CORRELATION_DATA: u8 = 9;
pub(crate) const SUBSCRIPTION_ID: u8 = 11;
pub(crate) const SESSION_EXPIRY: u8 = 17;
pub(crate) const ASSIGNED_CLIENT_ID: u8 = 18;
pub(crate) const SERVER_KEEP_ALIVE: u8 = 19;
pub(crate) const AUTHENTICATION_METHOD: u8 = 21;
pub(crate) const AUTHENTICATION_DATA: u8 = 22;
pub(crate) const REQUEST_PROBLEM_INFORMATION: u8 = 23;
pub(crate) const WILL_DELAY: u8 = 24;
pub(crate) const REQUEST_RESPONSE_INFORMATION: u8 = 25;
pub(crate) const RESPONSE_INFORMATION: u8 = 26;
pub(crate) const SERVER_REFERENCE: u8 = 28;
pub(crate) const REASON_STRING: u8 = 31;
pub(crate) const RECEIVE_MAXIMUM: u8 = 33;
pub(crate) const TOPIC_ALIAS_MAXIMUM: u8 = 34;
pub(crate) const TOPIC_ALIAS: u8 = 35;
pub(crate) const MAXIMUM_QOS: u8 = 36;
pub(crate) const RETAIN_AVAILABLE: u8 = 37;
pub(crate) const USER_PROPERTY: u8 = 38;
pub(crate) const MAXIMUM_PACKET_SIZE: u8 = 39;
pub(crate) const WILDCARDS_AVAILABLE: u8 = 40;
pub(crate) const SUBSCRIPTION_IDS_AVAILABLE: u8 = 41;
pub(crate) const SHARED_SUBSCRIPTIONS_AVAILABLE: u8 = 42;

/// Value of a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u32),
    Text(&'a str),
    Binary(&'a [u8]),
    Pair,
}

impl Value<'_> {
    /// Returns a number; properties that [`each`] gives have the type of their identifier.
    pub(crate) fn number(self) -> u32 {
        if let Self::Number(number) = self { number } else { 0 }
    }

    /// Returns a number that must not be 0.
    pub(crate) fn positive(self) -> Result<u32, Fault> {
        match self.number() {
            0 => Err(Fault::Protocol),
            number => Ok(number),
        }
    }

    /// Returns a byte that says yes or no.
    pub(crate) fn flag(self) -> Result<bool, Fault> {
        match self.number() {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Fault::Protocol),
        }
    }
}

/// One property of a packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Property<'a> {
    pub(crate) id: u8,
    pub(crate) value: Value<'a>,
    /// Bytes of the property with its identifier, as they came.
    pub(crate) raw: &'a [u8],
}

/// Reads a packet's properties and hands each over. `allowed` are the identifiers that this packet may have.
pub(crate) fn each<'a>(
    reader: &mut Reader<'a>,
    allowed: &[u8],
    mut take: impl FnMut(Property<'a>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let length = reader.varint()?;
    let mut rest = Reader(reader.take(length as usize)?);
    let mut seen = 0_u64;
    while !rest.is_empty() {
        let before = rest;
        let id = rest.u8()?;
        if !allowed.contains(&id) {
            return Err(Fault::Malformed);
        }
        let value = value(id, &mut rest)?;
        if id != USER_PROPERTY && seen & (1 << id) != 0 {
            return Err(Fault::Protocol);
        }
        seen |= 1 << id;
        let raw = before.0.get(..before.len() - rest.len()).unwrap_or_default();
        take(Property { id, value, raw })?;
    }
    Ok(())
}

fn value<'a>(id: u8, reader: &mut Reader<'a>) -> Result<Value<'a>, Fault> {
    Ok(match id {
        PAYLOAD_FORMAT
        | REQUEST_PROBLEM_INFORMATION
        | REQUEST_RESPONSE_INFORMATION
        | MAXIMUM_QOS
        | RETAIN_AVAILABLE
        | WILDCARDS_AVAILABLE
        | SUBSCRIPTION_IDS_AVAILABLE
        | SHARED_SUBSCRIPTIONS_AVAILABLE => Value::Number(reader.u8()?.into()),
        SERVER_KEEP_ALIVE | RECEIVE_MAXIMUM | TOPIC_ALIAS_MAXIMUM | TOPIC_ALIAS => {
            Value::Number(reader.u16()?.into())
        }
        MESSAGE_EXPIRY | SESSION_EXPIRY | WILL_DELAY | MAXIMUM_PACKET_SIZE => Value::Number(reader.u32()?),
        SUBSCRIPTION_ID => Value::Number(reader.varint()?),
        CONTENT_TYPE
        | RESPONSE_TOPIC
        | ASSIGNED_CLIENT_ID
        | AUTHENTICATION_METHOD
        | RESPONSE_INFORMATION
        | SERVER_REFERENCE
        | REASON_STRING => Value::Text(reader.string()?),
        CORRELATION_DATA | AUTHENTICATION_DATA => Value::Binary(reader.binary()?),
        USER_PROPERTY => {
            reader.string()?;
            reader.string()?;
            Value::Pair
        }
        _ => return Err(Fault::Malformed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], allowed: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut seen = Vec::new();
        each(&mut Reader(bytes), allowed, |property| {
            seen.extend(property.raw);
            Ok(())
        })?;
        Ok(seen)
    }

    #[test]
    fn properties_come_as_they_are() {
        let bytes = b"\x0e\x26\0\x01k\0\x01v\x26\0\x01k\0\x01w";
        assert_eq!(read(bytes, &[USER_PROPERTY]), Ok(bytes[1..].to_vec()));
        assert_eq!(read(b"\0", &[]), Ok(vec![]));
    }

    #[test]
    fn wrong_places_and_repetitions_are_refused() {
        assert_eq!(read(b"\x02\x01\0", &[CONTENT_TYPE]), Err(Fault::Malformed), "not of this packet");
        assert_eq!(read(b"\x04\x01\0\x01\0", &[PAYLOAD_FORMAT]), Err(Fault::Protocol), "twice");
        assert_eq!(read(b"\x02\x02\0", &[MESSAGE_EXPIRY]), Err(Fault::Malformed), "cut short");
        assert_eq!(read(b"\x09\x01", &[PAYLOAD_FORMAT]), Err(Fault::Malformed), "longer than the packet");
        assert_eq!(read(b"\x01\xff", &[255]), Err(Fault::Malformed), "no such property");
    }
}
