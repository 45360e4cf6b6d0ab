//! Reason of an answer or a goodbye in MQTT 5: a code, and the sentence that may come with it.

use super::fault::Fault;
use super::properties::{self as property, Value};
use super::reader::Reader;

/// Reason that a peer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Told<'a> {
    /// Reason code; 0 where it is left out.
    pub(crate) code: u8,
    /// Reason string.
    pub(crate) sentence: Option<&'a str>,
}

impl<'a> Told<'a> {
    /// Reads the rest of a packet that may leave out its properties, or its code as well.
    pub(super) fn read(reader: &mut Reader<'a>, allowed: &[u8]) -> Result<Self, Fault> {
        let mut told = Self::default();
        if !reader.is_empty() {
            told.code = reader.u8()?;
        }
        if !reader.is_empty() {
            told.sentence = sentence(reader, allowed)?;
        }
        Ok(told)
    }

    /// Tells whether this refuses or ends something.
    pub(crate) fn refuses(&self) -> bool {
        self.code >= 0x80
    }
}

/// Reads properties for the reason string among them.
pub(super) fn sentence<'a>(reader: &mut Reader<'a>, allowed: &[u8]) -> Result<Option<&'a str>, Fault> {
    let mut sentence = None;
    property::each(reader, allowed, |found| {
        if let (property::REASON_STRING, Value::Text(text)) = (found.id, found.value) {
            sentence = Some(text);
        }
        Ok(())
    })?;
    Ok(sentence)
}
