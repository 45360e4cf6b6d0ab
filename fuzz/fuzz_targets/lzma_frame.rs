//! LZMA: a stream gives the same in any pieces, and never more than was agreed on.
//!
//! The first four bytes say how the stream is read: `lc` and `lp`, `pb` and whether it ends at a marker, and the
//! length, little-endian.
#![no_main]

use libfuzzer_sys::fuzz_target;
use otaru_lzma::{Decoder, Length, LzmaError, Properties, Workspace};

/// A dictionary that is gone round within a few hundred bytes.
type Small = Workspace<512, 16, 16>;

fn decode(decoder: &mut Decoder<'_>, stream: &[u8], piece: usize) -> Result<Vec<u8>, LzmaError> {
    let mut output = Vec::new();
    for mut piece in stream.chunks(piece) {
        loop {
            let step = decoder.decode(piece)?;
            output.extend(step.output);
            piece = &piece[step.consumed..];
            if piece.is_empty() && step.output.is_empty() {
                break;
            }
            // Only where there is no length could it be much.
            if output.len() > 1 << 16 {
                output.truncate(1 << 16);
                return Ok(output);
            }
        }
    }
    Ok(output)
}

fn both(
    properties: Properties,
    length: Length,
    stream: &[u8],
    piece: usize,
) -> [Result<Vec<u8>, LzmaError>; 2] {
    let mut small = Small::new();
    let mut decoder = Decoder::with_properties(properties, &mut small, length).expect("there is room");
    let first = decode(&mut decoder, stream, piece);
    let ended = decoder.finish();
    let mut larger = Workspace::<4096, 16, 16>::new();
    let mut decoder = Decoder::with_properties(properties, &mut larger, length).expect("there is room");
    let second = decode(&mut decoder, stream, stream.len().max(1));
    // A larger dictionary takes all that a smaller one takes.
    if first.as_ref().is_ok_and(|output| output.len() < 1 << 16) {
        assert_eq!(ended, decoder.finish());
    }
    [first, second]
}

fuzz_target!(|bytes: &[u8]| {
    let Some(([literal, position, low, high], stream)) = bytes.split_first_chunk() else { return };
    let literal_context_bits = literal & 7;
    let properties = Properties {
        literal_context_bits: literal_context_bits.min(4),
        literal_position_bits: (literal >> 3 & 7).min(4 - literal_context_bits.min(4)),
        position_bits: (position & 7).min(4),
    };
    let len = u16::from_le_bytes([*low, *high]);
    let length = if position & 8 == 0 { Length::Known(len.into()) } else { Length::Marked };
    let [first, second] = both(properties, length, stream, 1 + stream.len() % 7);
    if let Ok(output) = &first {
        assert!(length == Length::Marked || output.len() <= usize::from(len));
        // Where it was left off, only one of them may have come to an error.
        if output.len() < 1 << 16 || second.is_ok() {
            assert_eq!(Ok(output), second.as_ref());
        }
    }
});
