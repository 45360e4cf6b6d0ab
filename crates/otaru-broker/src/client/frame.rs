//! Bytes to frames: a packet's first byte and its body. Sans-I/O.
//!
//! Nothing is kept of a packet that is longer than [`LONGEST_BODY`]. A message of that length is passed over, byte by byte as it comes,
//! down to the packet identifier, with which it is acknowledged; any other packet of that length is an error.

/// Bytes of the longest packet's body that is kept; a broker of MQTT 5 is told. Half of it is for the payload, half for the topic and for
/// properties that others added.
pub(super) const LONGEST_BODY: usize = 2 * super::message::LONGEST_MESSAGE;
/// Upper half of a PUBLISH's first byte.
pub(super) const PUBLISH: u8 = 3;

/// Piece of the stream: a packet, or one that is passed over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A packet.
    Packet {
        /// Type and flags.
        first: u8,
        /// Everything behind the length.
        body: Vec<u8>,
    },
    /// A message that was too long.
    Skipped {
        /// Identifier to acknowledge it with, where it has one.
        id: Option<u16>,
    },
}

/// The bytes are no frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameError {
    /// The length of a packet has more than four bytes.
    Length,
    /// A packet that is no message is too long.
    TooLong,
    /// A message that is too long has no place for its topic or identifier.
    Message,
}

impl FrameError {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Length => "a packet's length makes no sense",
            Self::TooLong => "a packet is too long",
            Self::Message => "a message makes no sense",
        }
    }
}

/// Cuts bytes into frames.
#[derive(Default)]
pub(super) struct Frames {
    state: State,
}

enum State {
    Header { first: Option<u8>, len: usize, shift: u32 },
    Body { first: u8, body: Vec<u8>, left: usize },
    Skip(Skip),
}

impl Default for State {
    fn default() -> Self {
        Self::Header { first: None, len: 0, shift: 0 }
    }
}

impl Frames {
    /// Takes from the front of `bytes` as much as there is up to the end of a frame.
    pub(super) fn take(&mut self, bytes: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        while !bytes.is_empty() {
            let frame = match &mut self.state {
                State::Header { .. } => self.header(bytes)?,
                State::Body { first, body, left } => {
                    let (part, rest) = bytes.split_at((*left).min(bytes.len()));
                    body.extend_from_slice(part);
                    *left -= part.len();
                    *bytes = rest;
                    (*left == 0).then(|| Frame::Packet { first: *first, body: std::mem::take(body) })
                }
                State::Skip(skip) => skip.take(bytes)?,
            };
            if frame.is_some() {
                self.state = State::default();
                return Ok(frame);
            }
        }
        Ok(None)
    }

    /// Takes one byte of a packet's head.
    fn header(&mut self, bytes: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        let (State::Header { first, len, shift }, Some((&byte, rest))) =
            (&mut self.state, bytes.split_first())
        else {
            return Ok(None);
        };
        *bytes = rest;
        let Some(first) = *first else {
            *first = Some(byte);
            return Ok(None);
        };
        *len |= usize::from(byte & 0x7F) << *shift;
        *shift += 7;
        if byte & 0x80 != 0 {
            return if *shift < 28 { Ok(None) } else { Err(FrameError::Length) };
        }
        let len = *len;
        if len == 0 {
            return Ok(Some(Frame::Packet { first, body: Vec::new() }));
        }
        self.state = match (len > LONGEST_BODY, first >> 4 == PUBLISH) {
            (false, _) => State::Body { first, body: Vec::new(), left: len },
            (true, true) => State::Skip(Skip { has_id: first & 0x06 != 0, len, ..Skip::default() }),
            (true, false) => return Err(FrameError::TooLong),
        };
        Ok(None)
    }
}

/// A message that is passed over.
#[derive(Default)]
struct Skip {
    /// Whether it wants to be acknowledged.
    has_id: bool,
    len: usize,
    /// Bytes that have come.
    at: usize,
    topic_len: [u8; 2],
    id: [u8; 2],
}

impl Skip {
    fn take(&mut self, bytes: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        let (part, rest) = bytes.split_at((self.len - self.at).min(bytes.len()));
        let byte = |place: usize| place.checked_sub(self.at).and_then(|at| part.get(at)).copied();
        for (place, slot) in self.topic_len.iter_mut().enumerate() {
            *slot = byte(place).unwrap_or(*slot);
        }
        // While the topic's length is on its way, nothing that comes is as far back as the identifier.
        let id_at = 2 + usize::from(u16::from_be_bytes(self.topic_len));
        for (place, slot) in self.id.iter_mut().enumerate() {
            *slot = byte(id_at + place).unwrap_or(*slot);
        }
        self.at += part.len();
        *bytes = rest;
        if self.at < self.len {
            return Ok(None);
        }
        if id_at + 2 > self.len {
            return Err(FrameError::Message);
        }
        match (self.has_id, u16::from_be_bytes(self.id)) {
            (false, _) => Ok(Some(Frame::Skipped { id: None })),
            (true, 0) => Err(FrameError::Message),
            (true, id) => Ok(Some(Frame::Skipped { id: Some(id) })),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::encode::put_varint;

    /// A packet with this first byte and body.
    fn packet(first: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        put_varint(&mut bytes, body.len());
        bytes.extend_from_slice(body);
        bytes
    }

    /// A message's body.
    fn message(topic: &str, id: Option<u16>, payload: usize) -> Vec<u8> {
        let mut body = (topic.len() as u16).to_be_bytes().to_vec();
        body.extend_from_slice(topic.as_bytes());
        body.extend(id.map(u16::to_be_bytes).into_iter().flatten());
        body.resize(body.len() + payload, 7);
        body
    }

    /// The frames of bytes that come in pieces of this length.
    fn frames(bytes: &[u8], piece: usize) -> Result<Vec<Frame>, FrameError> {
        let (mut frames, mut found) = (Frames::default(), Vec::new());
        for mut piece in bytes.chunks(piece) {
            while let Some(frame) = frames.take(&mut piece)? {
                found.push(frame);
            }
            assert!(piece.is_empty());
        }
        Ok(found)
    }

    #[test]
    fn long_messages_are_passed_over_and_acknowledged() {
        let fits = message("a", None, LONGEST_BODY - 3);
        let topic = "t".repeat(LONGEST_BODY);
        let bytes = [
            packet(0x30, &fits),
            packet(0x32, &message("a/b", Some(0x0102), LONGEST_BODY)),
            packet(0x31, &message("a/b", None, 3 * LONGEST_BODY)),
            packet(0x32, &message(&topic, Some(7), 0)),
            packet(0xD0, &[]),
        ]
        .concat();
        let wanted = [
            Frame::Packet { first: 0x30, body: fits },
            Frame::Skipped { id: Some(0x0102) },
            Frame::Skipped { id: None },
            Frame::Skipped { id: Some(7) },
            Frame::Packet { first: 0xD0, body: Vec::new() },
        ];
        for piece in [1, 2, 3, 5, 1000, bytes.len()] {
            assert_eq!(frames(&bytes, piece).unwrap(), wanted, "pieces of {piece}");
        }
    }

    #[test]
    fn nothing_of_a_long_message_is_kept() {
        let bytes = packet(0x32, &message("a", Some(1), 4 * LONGEST_BODY));
        let mut frames = Frames::default();
        let mut rest = &bytes[..bytes.len() - 1];
        assert_eq!(frames.take(&mut rest), Ok(None));
        assert!(matches!(frames.state, State::Skip(_)));
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        let long_topic = [&[0xFF, 0xFF][..], &[0; LONGEST_BODY]].concat();
        for (bytes, error) in [
            (vec![0x30, 0x80, 0x80, 0x80, 0x80], FrameError::Length),
            (packet(0x90, &[0; LONGEST_BODY + 1]), FrameError::TooLong),
            (packet(0x32, &long_topic), FrameError::Message),
            (packet(0x32, &message("a", Some(0), LONGEST_BODY)), FrameError::Message),
        ] {
            assert_eq!(frames(&bytes, 100), Err(error));
            assert_eq!(frames(&bytes, 1), Err(error));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces(bytes in prop::collection::vec(any::<u8>(), 0..300), piece in 1_usize..40) {
            let whole = frames(&bytes, bytes.len().max(1));
            prop_assert_eq!(frames(&bytes, piece), whole);
        }
    }
}
