//! The encoder's frames.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use otaru_lzma::{Decoder, Workspace, encode};
use proptest::collection::vec;
use proptest::prelude::*;

fn decode(frame: &[u8], len: usize) -> Vec<u8> {
    let mut workspace = Workspace::new();
    let mut decoder = Decoder::new(&mut workspace, len as u32);
    let (mut rest, mut output) = (frame, Vec::new());
    while !decoder.is_complete() {
        let step = decoder.decode(rest).unwrap();
        assert!(step.consumed > 0 || !step.output.is_empty());
        rest = &rest[step.consumed..];
        output.extend(step.output);
    }
    assert_eq!(rest, []);
    output
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn frames_lead_back(parts in vec((vec(any::<u8>(), 0..600), 1_usize..9), 0..40)) {
        let data: Vec<u8> = parts.iter().flat_map(|(part, times)| part.repeat(*times)).collect();
        let frame = encode(&data);
        prop_assert_eq!(&frame, &encode(&data));
        prop_assert_eq!(decode(&frame, data.len()), data);
    }
}

#[test]
fn a_frame_is_about_as_small_as_it_can_be() {
    let text = include_bytes!("../src/decoder.rs");
    let frame = encode(text);
    // liblzma 5.4 with the same settings: 0.273.
    let ratio = frame.len() as f64 / text.len() as f64;
    assert!(ratio < 0.30, "{ratio}");
    assert_eq!(decode(&frame, text.len()), text);
}
