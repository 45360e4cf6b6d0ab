//! PUBACK, PUBREC, PUBREL and PUBCOMP: the steps of a message's delivery, from a client.

use super::fault::Fault;
use super::properties as property;
use super::reader::Reader;
use super::told::Told;
use crate::version::Version;

/// Kind of a packet that is a packet identifier and a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum AckKind {
    Puback = 0x40,
    Pubrec = 0x50,
    Pubrel = 0x62,
    Pubcomp = 0x70,
}

/// A step in the delivery of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) kind: AckKind,
    pub(crate) id: u16,
    /// Whether its reason code refuses.
    pub(crate) refuses: bool,
}

const REASONS: &[u8] = &[property::REASON_STRING, property::USER_PROPERTY];

impl Ack {
    pub(super) fn parse(version: Version, kind: AckKind, body: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader(body);
        let id = reader.packet_id()?;
        let mut told = Told::default();
        if version == Version::V5 {
            told = Told::read(&mut reader, REASONS)?;
        }
        if !kind.may_say(told.code) {
            return Err(Fault::Malformed);
        }
        reader.end()?;
        Ok(Self { kind, id, refuses: told.refuses() })
    }
}

impl AckKind {
    fn may_say(self, code: u8) -> bool {
        match self {
            Self::Puback | Self::Pubrec => {
                matches!(code, 0 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99)
            }
            Self::Pubrel | Self::Pubcomp => matches!(code, 0 | 0x92),
        }
    }
}
