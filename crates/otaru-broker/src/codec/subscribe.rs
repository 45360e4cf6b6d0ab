//! SUBSCRIBE and UNSUBSCRIBE. The filters are walked, not collected; the whole packet is checked before.

use super::fault::Fault;
use super::properties as property;
use super::reader::Reader;
use super::topic;
use crate::version::{Qos, Version};

/// Handling of retained messages at a SUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetainHandling {
    Send,
    SendIfNew,
    Skip,
}

/// Options of one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) qos: Qos,
    /// Not what this client publishes itself.
    pub(crate) no_local: bool,
    /// The retain flag as the publisher set it.
    pub(crate) retain_as_published: bool,
    pub(crate) retain_handling: RetainHandling,
}

impl Options {
    fn parse(version: Version, byte: u8) -> Result<Self, Fault> {
        let reserved = if version == Version::V5 { 0xC0 } else { 0xFC };
        if byte & reserved != 0 {
            return Err(Fault::Malformed);
        }
        let retain_handling = match byte >> 4 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::Skip,
            _ => return Err(Fault::Protocol),
        };
        Ok(Self {
            qos: Qos::of(byte & 3).ok_or(Fault::Malformed)?,
            no_local: byte & 4 != 0,
            retain_as_published: byte & 8 != 0,
            retain_handling,
        })
    }
}

/// A SUBSCRIBE that is well formed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subscribe<'a> {
    pub(crate) id: u16,
    /// Subscription identifier; 0 for none.
    pub(crate) identifier: u32,
    version: Version,
    filters: Reader<'a>,
}

impl<'a> Subscribe<'a> {
    pub(crate) fn parse(version: Version, body: &'a [u8]) -> Result<Self, Fault> {
        let mut reader = Reader(body);
        let (id, mut identifier) = (reader.packet_id()?, 0);
        if version == Version::V5 {
            property::each(&mut reader, &[property::SUBSCRIPTION_ID, property::USER_PROPERTY], |found| {
                if found.id == property::SUBSCRIPTION_ID {
                    identifier = found.value.positive()?;
                }
                Ok(())
            })?;
        }
        let subscribe = Self { id, identifier, version, filters: reader };
        subscribe.check()?;
        Ok(subscribe)
    }

    fn check(&self) -> Result<(), Fault> {
        let mut reader = self.filters;
        if reader.is_empty() {
            return Err(Fault::Protocol);
        }
        while !reader.is_empty() {
            let (filter, options) = self.next(&mut reader)?;
            if options.no_local && topic::is_shared(filter) {
                return Err(Fault::Protocol);
            }
        }
        Ok(())
    }

    fn next(&self, reader: &mut Reader<'a>) -> Result<(&'a str, Options), Fault> {
        let filter = reader.string()?;
        Ok((filter, Options::parse(self.version, reader.u8()?)?))
    }

    /// Walks through the filters, in their order.
    pub(crate) fn filters(&self) -> impl Iterator<Item = (&'a str, Options)> {
        let (subscribe, mut reader) = (*self, self.filters);
        std::iter::from_fn(move || subscribe.next(&mut reader).ok())
    }
}

/// An UNSUBSCRIBE that is well formed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unsubscribe<'a> {
    pub(crate) id: u16,
    filters: Reader<'a>,
}

impl<'a> Unsubscribe<'a> {
    pub(crate) fn parse(version: Version, body: &'a [u8]) -> Result<Self, Fault> {
        let mut reader = Reader(body);
        let id = reader.packet_id()?;
        if version == Version::V5 {
            property::each(&mut reader, &[property::USER_PROPERTY], |_| Ok(()))?;
        }
        let filters = reader;
        if reader.is_empty() {
            return Err(Fault::Protocol);
        }
        while !reader.is_empty() {
            reader.string()?;
        }
        Ok(Self { id, filters })
    }

    /// Walks through the filters, in their order.
    pub(crate) fn filters(&self) -> impl Iterator<Item = &'a str> {
        let mut reader = self.filters;
        std::iter::from_fn(move || reader.string().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_come_with_their_options() {
        let body = b"\0\x07\x02\x0b\x05\0\x01a\x00\0\x03b/#\x2e";
        let subscribe = Subscribe::parse(Version::V5, body).unwrap();
        let filters: Vec<_> = subscribe.filters().collect();
        assert_eq!((subscribe.id, subscribe.identifier, filters.len()), (7, 5, 2));
        let (filter, options) = filters[1];
        assert_eq!((filter, options.qos), ("b/#", Qos::Two));
        assert!(options.no_local && options.retain_as_published);
        assert_eq!(options.retain_handling, RetainHandling::Skip);
        let unsubscribe = Unsubscribe::parse(Version::V311, b"\0\x07\0\x01a\0\x01b").unwrap();
        assert_eq!(unsubscribe.filters().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn faults_of_a_subscribe() {
        for (version, body, fault) in [
            (Version::V5, &b"\0\x07\0"[..], Fault::Protocol),
            (Version::V5, b"\0\0\0\0\x01a\0", Fault::Protocol),
            (Version::V5, b"\0\x07\x02\x0b\0\0\x01a\0", Fault::Protocol),
            (Version::V5, b"\0\x07\x04\x0b\x01\x0b\x02\0\x01a\0", Fault::Protocol),
            (Version::V5, b"\0\x07\0\0\x01a\x03", Fault::Malformed),
            (Version::V5, b"\0\x07\0\0\x01a\x30", Fault::Protocol),
            (Version::V5, b"\0\x07\0\0\x01a\x40", Fault::Malformed),
            (Version::V311, b"\0\x07\0\x01a\x04", Fault::Malformed),
            (Version::V311, b"\0\x07\0\x01a", Fault::Malformed),
            (Version::V5, b"\0\x07\0\0\x0a$share/g/a\x04", Fault::Protocol),
        ] {
            assert_eq!(Subscribe::parse(version, body).map(|_| ()), Err(fault), "{body:?}");
        }
        assert_eq!(Unsubscribe::parse(Version::V311, b"\0\x07").map(|_| ()), Err(Fault::Protocol));
    }
}
