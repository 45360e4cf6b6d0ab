//! Streams of liblzma, through the `lzma` module of Python's standard library.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::io::Write as _;
use std::process::{Command, Stdio};

use otaru_lzma::{Decoder, Length, LzmaError, Properties, Workspace};
use otaru_testing::skip;

fn python(script: &str) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", script]);
    command
}

/// Encodes the data with liblzma: a raw stream, which it always ends with a marker.
fn encode(data: &[u8], properties: Properties, dictionary: usize) -> Vec<u8> {
    let Properties { literal_context_bits, literal_position_bits, position_bits } = properties;
    let mut child = python(&format!(
        "import lzma, sys\n\
         filter = {{'id': lzma.FILTER_LZMA1, 'preset': 9, 'dict_size': {dictionary}, \
         'lc': {literal_context_bits}, 'lp': {literal_position_bits}, 'pb': {position_bits}}}\n\
         data = sys.stdin.buffer.read()\n\
         sys.stdout.buffer.write(lzma.compress(data, format=lzma.FORMAT_RAW, filters=[filter]))"
    ))
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .spawn()
    .unwrap();
    // It reads all before it writes anything.
    child.stdin.take().unwrap().write_all(data).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn decode(decoder: &mut Decoder<'_>, stream: &[u8]) -> Result<Vec<u8>, LzmaError> {
    let mut output = Vec::new();
    for mut piece in stream.chunks(100) {
        loop {
            let step = decoder.decode(piece)?;
            output.extend(step.output);
            piece = &piece[step.consumed..];
            if piece.is_empty() && step.output.is_empty() {
                break;
            }
        }
    }
    Ok(output)
}

/// Text, tables and noise, in a size that goes round the dictionary.
fn data() -> Vec<u8> {
    let text = include_bytes!("../src/decoder.rs").iter().copied();
    let table = (0..10_000_u32).flat_map(|at| (0x4200_0000 + at * 36).to_le_bytes());
    let noise = (0..5_000_u32).map(|at| (at.wrapping_mul(0x9E37_79B9) >> 13) as u8);
    text.clone().chain(table).chain(noise).chain(text).collect()
}

#[test]
fn streams_of_liblzma_lead_back() {
    if !python("import lzma").stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        skip("streams_of_liblzma_lead_back", "no Python with lzma: apt-get install python3");
        return;
    }
    let data = data();
    for (lc, lp, pb) in [(0, 0, 0), (3, 0, 2), (0, 2, 2), (1, 3, 4), (4, 0, 0)] {
        let properties =
            Properties { literal_context_bits: lc, literal_position_bits: lp, position_bits: pb };
        let stream = encode(&data, properties, 16 * 1024);
        let mut workspace = Workspace::<{ 16 * 1024 }, 16, 16>::new();
        let mut decoder = Decoder::with_properties(properties, &mut workspace, Length::Marked).unwrap();
        // assert_eq would print both.
        assert!(decode(&mut decoder, &stream).unwrap() == data, "{properties:?}");
        decoder.finish().unwrap();
    }
}
