//! The test vectors for other implementations, read with this one.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt::Write as _;
use std::path::Path;

use otaru_format::digest::Digest;
use otaru_format::release::{Envelope, HEADER_LEN, KeyId, Manifest, PayloadKind, envelope_len};
use serde_json::Value;

fn file(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)).unwrap()
}

fn text(name: &str) -> String {
    String::from_utf8(file(name)).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.trim().as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The envelope in a release file, and what follows it.
fn cut(release: &[u8]) -> (&[u8], &[u8]) {
    let (header, rest) = release.split_first_chunk::<HEADER_LEN>().unwrap();
    rest.split_at(envelope_len(header).unwrap())
}

#[test]
fn an_envelope_is_read_as_written_down() {
    let (bytes, fields) = (unhex(&text("envelope.hex")), text("fields.json"));
    let expected: Value = serde_json::from_str(&fields).unwrap();
    let envelope = Envelope::parse(&bytes).unwrap();
    let public: [u8; 32] = unhex(expected["public_key"].as_str().unwrap()).try_into().unwrap();
    assert_eq!(envelope.key_id(), Some(KeyId::of(&public)));
    assert_eq!(expected["key_id"], KeyId::of(&public).to_string());
    assert_eq!(expected["signature"], hex(envelope.signature().unwrap()));
    let mut signed = Vec::new();
    envelope.signed_bytes(&mut |piece| signed.extend_from_slice(piece));
    assert_eq!(expected["sig_structure"], hex(&signed));
    let manifest = Manifest::parse(envelope.payload()).unwrap();
    assert_eq!(expected["product"], manifest.product);
    assert_eq!(expected["chip_id"], manifest.chip_id);
    assert_eq!(expected["version"], manifest.version);
    assert_eq!(expected["sequence"], manifest.sequence);
    assert_eq!(expected["image"], manifest.image.to_string());
    assert_eq!(expected["size"], manifest.size);
    assert_eq!(expected["block_size"], manifest.block_size);
    assert_eq!(expected["min_base"].as_str(), manifest.min_base);
    assert_eq!(expected["secure_version"], manifest.secure_version);
    let revoked: Vec<_> = manifest.revoked().map(|id| Value::from(id.to_string())).collect();
    assert_eq!(expected["revoked"], Value::from(revoked));
    assert_eq!(expected["also"], Value::from(manifest.also().map(Value::from).collect::<Vec<_>>()));
    let blocks: Vec<_> = manifest.blocks().map(|block| Value::from(block.hash.to_string())).collect();
    assert_eq!(expected["blocks"], Value::from(blocks));
    for (index, payload) in manifest.payloads().enumerate() {
        let expected = &expected["payloads"][index];
        assert_eq!((&expected["offset"], &expected["length"]), (&payload.offset.into(), &payload.len.into()));
        let frames = (0..manifest.block_count()).filter_map(|i| payload.frame(&manifest, i));
        let frames: Vec<_> = frames.map(|frame| Value::from(frame.len)).collect();
        assert_eq!(expected["frames"], Value::from(frames));
    }
}

#[test]
fn the_files_hold_the_image() {
    let (signed, unsigned, image) = (file("signed.otaru"), file("unsigned.otaru"), file("image.bin"));
    assert_eq!(cut(&signed).0, unhex(&text("envelope.hex")));
    let envelopes = [&signed, &unsigned].map(|file| Envelope::parse(cut(file).0).unwrap());
    assert_eq!(envelopes[0].payload(), envelopes[1].payload());
    assert_eq!(envelopes[1].key_id(), None);
    let manifest = Manifest::parse(envelopes[0].payload()).unwrap();
    assert_eq!(manifest.image, Digest::of(&image));
    let raw = manifest.payloads().find(|payload| payload.kind == PayloadKind::Raw).unwrap();
    let area = cut(&signed).1;
    assert_eq!(area.len(), manifest.area_len() as usize);
    assert_eq!(&area[raw.offset as usize..][..raw.len as usize], image);
}

#[test]
fn what_is_refused_is_refused() {
    let text = text("refused.txt");
    assert!(text.lines().count() >= 10);
    for line in text.lines() {
        let mut words = line.splitn(3, ' ');
        let (kind, bytes) = (words.next().unwrap(), unhex(words.next().unwrap()));
        let refused = match kind {
            "envelope" => Envelope::parse(&bytes).is_err(),
            "manifest" => Manifest::parse(&bytes).is_err(),
            other => panic!("{other}?"),
        };
        assert!(refused, "taken: {}", words.next().unwrap());
    }
}
