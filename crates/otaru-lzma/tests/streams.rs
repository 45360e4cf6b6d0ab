//! Streams of another encoder, whole and damaged, in pieces of every size.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::io::Write as _;

use lzma_rust2::{EncodeMode, LzmaOptions, LzmaWriter};
use otaru_lzma::{Decoder, Length, LzmaError, Properties, Workspace};
use proptest::collection::vec;
use proptest::prelude::*;

/// Room for `lc + lp <= 4` and any `pb`, and a dictionary that is gone round often.
type Roomy = Workspace<4096, 16, 16>;

/// Parameters of a stream.
#[derive(Debug, Clone, Copy)]
struct Make {
    properties: Properties,
    marked: bool,
    fast: bool,
    dictionary: u32,
}

const RELEASE: Make =
    Make { properties: Properties::RELEASE, marked: false, fast: false, dictionary: 16 * 1024 };

fn encode(data: &[u8], make: Make) -> Vec<u8> {
    let Properties { literal_context_bits, literal_position_bits, position_bits } = make.properties;
    let options = LzmaOptions {
        dict_size: make.dictionary,
        lc: literal_context_bits.into(),
        lp: literal_position_bits.into(),
        pb: position_bits.into(),
        mode: if make.fast { EncodeMode::Fast } else { EncodeMode::Normal },
        ..LzmaOptions::with_preset(6)
    };
    let mut writer = LzmaWriter::new_no_header(Vec::new(), &options, make.marked).unwrap();
    writer.write_all(data).unwrap();
    writer.finish().unwrap()
}

/// Decodes in pieces of these lengths, over and over.
fn drain(decoder: &mut Decoder<'_>, stream: &[u8], pieces: &[usize]) -> Result<Vec<u8>, LzmaError> {
    let (mut output, mut rest) = (Vec::new(), stream);
    for length in pieces.iter().cycle() {
        let (mut piece, later) = rest.split_at((*length).min(rest.len()));
        loop {
            let step = decoder.decode(piece)?;
            output.extend(step.output);
            piece = &piece[step.consumed..];
            if piece.is_empty() && step.output.is_empty() {
                break;
            }
        }
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    Ok(output)
}

fn decode_release(stream: &[u8], len: u32, pieces: &[usize]) -> Result<Vec<u8>, LzmaError> {
    let mut workspace = Workspace::new();
    let mut decoder = Decoder::new(&mut workspace, len);
    let output = drain(&mut decoder, stream, pieces)?;
    decoder.finish().map(|()| output)
}

fn decode(stream: &[u8], len: usize, make: Make, pieces: &[usize]) -> Result<Vec<u8>, LzmaError> {
    let mut workspace = Roomy::new();
    let length = if make.marked { Length::Marked } else { Length::Known(len as u32) };
    let mut decoder = Decoder::with_properties(make.properties, &mut workspace, length)?;
    let output = drain(&mut decoder, stream, pieces)?;
    decoder.finish().map(|()| output)
}

/// Bytes that repeat themselves near and far, once and often, as firmware does.
fn data(max: usize) -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        vec(any::<u8>(), 1..300),
        vec(0_u8..4, 1..300),
        (any::<u8>(), 1_usize..2000).prop_map(|(byte, count)| vec![byte; count]),
    ];
    (vec((part, any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..12)).prop_map(move |parts| {
        let mut bytes: Vec<u8> = Vec::new();
        for (part, at, len) in parts {
            bytes.extend(part);
            let at = at.index(bytes.len());
            let again = bytes[at..at + len.index(bytes.len() - at)].to_vec();
            bytes.extend(again);
        }
        bytes.truncate(max);
        bytes
    })
}

fn make() -> impl Strategy<Value = Make> {
    (0_u8..=4, 0_u8..=4, 0_u8..=4, any::<bool>(), any::<bool>()).prop_map(|(lc, lp, pb, marked, fast)| Make {
        properties: Properties {
            literal_context_bits: lc,
            literal_position_bits: lp.min(4 - lc),
            position_bits: pb,
        },
        marked,
        fast,
        dictionary: 4096,
    })
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![vec(1_usize..8, 1..8), vec(1_usize..3000, 1..8)]
}

proptest! {
    #[test]
    fn frames_lead_back(data in data(100_000), pieces in pieces()) {
        let frame = encode(&data, RELEASE);
        prop_assert_eq!(decode_release(&frame, data.len() as u32, &pieces), Ok(data));
    }

    #[test]
    fn streams_of_any_properties_lead_back(data in data(30_000), make in make(), pieces in pieces()) {
        let stream = encode(&data, make);
        prop_assert_eq!(decode(&stream, data.len(), make, &pieces), Ok(data));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(
        bytes in vec(any::<u8>(), 0..2000), zero in any::<bool>(), len in 0_usize..100_000, make in make(), pieces in pieces(),
    ) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut().filter(|_| zero) {
            *first = 0;
        }
        if let Ok(output) = decode(&bytes, len, make, &pieces) {
            prop_assert!(make.marked || output.len() == len);
        }
        if let Ok(output) = decode_release(&bytes, len as u32, &pieces) {
            prop_assert_eq!(output.len(), len);
        }
    }

    #[test]
    fn a_damaged_stream_gives_the_same_in_any_pieces_and_never_too_much(
        data in data(20_000), make in make(), pieces in pieces(), damage in any::<prop::sample::Index>(), flip in 1_u8..,
    ) {
        let mut stream = encode(&data, make);
        let at = damage.index(stream.len());
        stream[at] ^= flip;
        let whole = decode(&stream, data.len(), make, &[usize::MAX]);
        prop_assert_eq!(&whole, &decode(&stream, data.len(), make, &pieces));
        prop_assert!(make.marked || whole.is_err() || whole.is_ok_and(|output| output.len() == data.len()));
    }

    #[test]
    fn a_stream_cut_short_is_truncated(data in data(10_000), make in make(), cut in any::<prop::sample::Index>()) {
        let stream = encode(&data, make);
        let cut = &stream[..cut.index(stream.len())];
        prop_assert_eq!(decode(cut, data.len(), make, &[usize::MAX]), Err(LzmaError::Truncated));
    }

    #[test]
    fn what_follows_the_end_is_refused(data in data(10_000), make in make(), more in 1_usize..9, pieces in pieces()) {
        let mut stream = encode(&data, make);
        stream.resize(stream.len() + more, 0);
        prop_assert_eq!(decode(&stream, data.len(), make, &pieces), Err(LzmaError::Trailing));
    }

    /// Nothing in a stream without a marker tells where it ends: where the last symbols cost the range coder
    /// nothing it can see, a length beside the right one fits as well. Never are other bytes made up for it.
    #[test]
    fn another_length_is_refused_or_agrees(data in data(10_000), less in 1_usize..200) {
        let frame = encode(&data, RELEASE);
        if let Some(shorter) = data.len().checked_sub(less)
            && let Ok(decoded) = decode_release(&frame, shorter as u32, &[usize::MAX])
        {
            prop_assert_eq!(&decoded, &data[..shorter]);
        }
        let longer = data.len() + less;
        if let Ok(decoded) = decode_release(&frame, longer as u32, &[usize::MAX]) {
            prop_assert_eq!(decoded.len(), longer);
            prop_assert_eq!(&decoded[..data.len()], &data);
        }
    }

    #[test]
    fn a_match_beyond_the_dictionary_is_refused(distance in 4097_usize..16_000, noise in vec(any::<u8>(), 300)) {
        let mut data: Vec<u8> = noise.clone();
        data.extend((0..distance - noise.len()).map(|at| ((at * at / 3) >> 3) as u8));
        data.extend(&noise);
        let make = Make { dictionary: 16 * 1024, ..RELEASE };
        let stream = encode(&data, make);
        let decoded = decode(&stream, data.len(), make, &[64]);
        prop_assert_eq!(decoded, Err(LzmaError::Distance));
        prop_assert_eq!(decode_release(&stream, data.len() as u32, &[64]), Ok(data));
    }
}

#[test]
fn another_length_is_refused() {
    let data = b"a stream of this text is as long as the text, and of no other length";
    let frame = encode(data, RELEASE);
    for len in (0..2 * data.len()).filter(|len| *len != data.len()) {
        assert!(decode_release(&frame, len as u32, &[usize::MAX]).is_err(), "{len} bytes");
    }
}

#[test]
fn a_repetition_before_the_first_byte_is_refused() {
    // After the five bytes of the start, ones only: a match that repeats a distance.
    let stream = [0, 0xFF, 0xFF, 0xFF, 0xFE, 0xFF, 0xFF, 0xFF, 0xFF];
    assert_eq!(decode_release(&stream, 100, &[1]), Err(LzmaError::Distance));
}

#[test]
fn a_refused_stream_stays_refused() {
    let mut workspace = Workspace::new();
    let mut decoder = Decoder::new(&mut workspace, 10);
    assert_eq!(decoder.decode(&[1]), Err(LzmaError::Damaged));
    assert_eq!(decoder.decode(&[0; 5]), Err(LzmaError::Damaged));
    assert_eq!(decoder.finish(), Err(LzmaError::Damaged));
}

#[test]
fn an_empty_frame_has_five_bytes() {
    assert_eq!(encode(&[], RELEASE), [0; 5]);
    assert_eq!(decode_release(&[0; 5], 0, &[1]), Ok(vec![]));
    assert_eq!(decode_release(&[0; 4], 0, &[1]), Err(LzmaError::Truncated));
}

#[test]
fn a_workspace_serves_one_stream_after_another() {
    let mut workspace = Workspace::new();
    for text in ["one", "and another", "one"] {
        let frame = encode(text.as_bytes(), RELEASE);
        // The stream before is not finished: nothing of it may be left.
        let mut decoder = Decoder::new(&mut workspace, text.len() as u32);
        assert_eq!(drain(&mut decoder, &frame, &[3]), Ok(text.into()));
        assert!(decoder.is_complete());
    }
}

#[test]
fn too_small_a_workspace_is_refused() {
    for (lc, lp, pb) in [(1, 0, 0), (0, 1, 0), (0, 0, 1), (9, 0, 0), (0, 5, 0), (255, 255, 255)] {
        let properties =
            Properties { literal_context_bits: lc, literal_position_bits: lp, position_bits: pb };
        let mut workspace = Workspace::<16>::new();
        let decoder = Decoder::with_properties(properties, &mut workspace, Length::Marked);
        assert_eq!(decoder.err(), Some(LzmaError::Workspace));
    }
}

#[test]
fn a_bomb_gives_out_no_more_than_was_agreed() {
    let frame = encode(&vec![0; 1 << 20], RELEASE);
    let mut workspace = Workspace::new();
    let mut decoder = Decoder::new(&mut workspace, 65536);
    let (mut rest, mut given) = (&frame[..], 0);
    let error = loop {
        match decoder.decode(rest) {
            Ok(step) => {
                given += step.output.len();
                rest = &rest[step.consumed..];
            }
            Err(error) => break error,
        }
    };
    assert!(given <= 65536, "{given}");
    assert!(matches!(error, LzmaError::TooLong | LzmaError::Damaged | LzmaError::Trailing), "{error}");
}

#[test]
fn the_release_workspace_fits_48_kib() {
    assert!(size_of::<Workspace>() + size_of::<Decoder<'_>>() < 37 * 1024);
}
