//! The test vectors in `crates/otaru-format/tests/vectors`: the files there are what this crate makes and takes.
//!
//! With `OTARU_WRITE_VECTORS=1` they are written anew.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::PathBuf;

use otaru_format::release::KeyId;
use otaru_release::build::{Options, Unsigned, build};
use otaru_release::file::ReleaseFile;
use otaru_release::keys::{PublicKey, SecretKey};
use otaru_release::output::Existing;
use otaru_release::verify::{kind_name, verify, verify_contents};
use otaru_testing::firmware::image_of;
use serde_json::{Value, json};

fn at(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../otaru-format/tests/vectors").join(name)
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(at(name)).unwrap()
}

fn key() -> SecretKey {
    SecretKey::from_seed(&std::array::from_fn(|index| index as u8))
}

fn image() -> Vec<u8> {
    let code: Vec<u8> = (0..1600_u32).map(|at| (at * at / 900) as u8).collect();
    image_of("lamp", "1.2.3", &code)
}

fn unsigned() -> Unsigned {
    let revoked = vec![KeyId(*b"\x01\x02\x03\x04\x05\x06\x07\x08")];
    let also = vec!["lantern".into(), "lamp-pro".into()];
    let options = Options { min_base: Some("1.0.0".into()), revoked, also, ..Options::new(1_764_000_000) };
    build(&image(), &options, &mut |_| ()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads the contents of a release, and what is signed.
fn fields(release: &[u8]) -> Value {
    let ReleaseFile { envelope, manifest, .. } = ReleaseFile::parse(release).unwrap();
    let mut signed = Vec::new();
    envelope.signed_bytes(&mut |piece| signed.extend_from_slice(piece));
    let payloads = manifest.payloads().map(|payload| {
        let frames = (0..manifest.block_count()).filter_map(|index| payload.frame(&manifest, index));
        json!({
            "kind": kind_name(payload.kind), "offset": payload.offset, "length": payload.len,
            "frames": frames.map(|frame| frame.len).collect::<Vec<_>>(),
        })
    });
    json!({
        "key_id": envelope.key_id().unwrap().to_string(),
        "public_key": hex(&key().public().to_bytes()),
        "signature": hex(envelope.signature().unwrap()),
        "sig_structure": hex(&signed),
        "product": manifest.product,
        "chip_id": manifest.chip_id,
        "version": manifest.version,
        "sequence": manifest.sequence,
        "image": manifest.image.to_string(),
        "size": manifest.size,
        "block_size": manifest.block_size,
        "blocks": manifest.blocks().map(|block| block.hash.to_string()).collect::<Vec<_>>(),
        "payloads": payloads.collect::<Vec<_>>(),
        "min_base": manifest.min_base,
        "secure_version": manifest.secure_version,
        "revoked": manifest.revoked().map(|id| id.to_string()).collect::<Vec<_>>(),
        "also": manifest.also().collect::<Vec<_>>(),
    })
}

/// A change to good bytes that is refused, with why.
struct Refused {
    what: &'static str,
    of: Of,
    change: fn(&mut Vec<u8>),
}

enum Of {
    Envelope,
    Manifest,
}

/// Puts `new` in the place of `old`, which must be there.
fn swap(bytes: &mut Vec<u8>, old: &[u8], new: &[u8]) {
    let at = bytes.windows(old.len()).position(|window| window == old).expect("nothing to change");
    bytes.splice(at..at + old.len(), new.iter().copied());
}

fn refused() -> Vec<Refused> {
    let envelope = |what, change| Refused { what, of: Of::Envelope, change };
    let manifest = |what, change| Refused { what, of: Of::Manifest, change };
    vec![
        envelope("no tag", |b| *b = b[1..].to_vec()),
        envelope("tag 17", |b| b[0] = 0xD1),
        envelope("array of indefinite length", |b| {
            b[1] = 0x9F;
            b.push(0xFF);
        }),
        envelope("another algorithm: ES256", |b| swap(b, &[0xA2, 1, 0x27], &[0xA2, 1, 0x26])),
        envelope("protected headers out of order", |b| {
            let id = b[8..16].to_vec();
            b.splice(3..16, [&[0xA2, 0x04, 0x48][..], &id, &[0x01, 0x27]].concat());
        }),
        envelope("an unprotected header", |b| drop(b.splice(16..17, [0xA1, 0x04, 0x40]))),
        envelope("a signature of 63 bytes", |b| {
            let head = b.len() - 65;
            b[head] = 63;
            b.pop();
        }),
        envelope("a byte follows", |b| b.push(0)),
        manifest("format 2", |b| b[2] = 2),
        manifest("the sequence is 0", |b| swap(b, &[5, 0x1A, 0x69, 0x24, 0x81, 0x00], &[5, 0])),
        manifest("the sequence is 2^53", |b| {
            swap(b, &[5, 0x1A, 0x69, 0x24, 0x81, 0x00], &[5, 0x1B, 0, 0x20, 0, 0, 0, 0, 0, 0]);
        }),
        manifest("the sequence in more bytes than it needs", |b| {
            swap(b, &[5, 0x1A, 0x69, 0x24], &[5, 0x1B, 0, 0, 0, 0, 0x69, 0x24]);
        }),
        manifest("fields 3 and 4 in the wrong order", |b| {
            swap(b, b"\x03\x05\x04\x651.2.3", b"\x04\x651.2.3\x03\x05");
        }),
        manifest("an unknown field 15", |b| {
            b[0] += 1;
            b.extend([15, 0]);
        }),
        manifest("further products out of order", |b| {
            swap(b, b"\x68lamp-pro\x67lantern", b"\x67lantern\x68lamp-pro");
        }),
        manifest("a further product that is the product", |b| swap(b, b"\x68lamp-pro", b"\x64lamp")),
        manifest("no further products", |b| swap(b, b"\x0E\x82\x68lamp-pro\x67lantern", b"\x0E\x80")),
        manifest("a control character in the product", |b| swap(b, b"lamp", b"la\x1bp")),
        manifest("a block size that does not follow from the size", |b| {
            swap(b, &[8, 0x1A, 0, 1, 0, 0], &[8, 0x1A, 0, 2, 0, 0]);
        }),
        manifest("the least base version is no version", |b| swap(b, b"\x651.0.0", b"\x651.0.x")),
        manifest("a byte follows", |b| b.push(0)),
    ]
}

fn refused_text() -> String {
    let release = unsigned().sign(&key()).unwrap();
    let good = ReleaseFile::parse(&release).unwrap();
    let envelope = &release[12..12 + good.envelope_len];
    let lines = refused().into_iter().map(|Refused { what, of, change }| {
        let (kind, mut bytes) = match of {
            Of::Envelope => ("envelope", envelope.to_vec()),
            Of::Manifest => ("manifest", good.envelope.payload().to_vec()),
        };
        change(&mut bytes);
        format!("{kind} {} {what}\n", hex(&bytes))
    });
    lines.collect()
}

fn write_all() {
    std::fs::create_dir_all(at("")).unwrap();
    key().write(&at("key.pem"), Existing::Replace).unwrap();
    key().public().write(&at("key.pub.pem"), Existing::Replace).unwrap();
    let release = unsigned().sign(&key()).unwrap();
    let envelope_len = ReleaseFile::parse(&release).unwrap().envelope_len;
    let text = |value: &Value| serde_json::to_string_pretty(value).unwrap() + "\n";
    for (name, contents) in [
        ("image.bin", image()),
        ("signed.otaru", release.clone()),
        ("unsigned.otaru", unsigned().without_signature().unwrap()),
        ("envelope.hex", (hex(&release[12..12 + envelope_len]) + "\n").into_bytes()),
        ("fields.json", text(&fields(&release)).into_bytes()),
        ("refused.txt", refused_text().into_bytes()),
    ] {
        std::fs::write(at(name), contents).unwrap();
    }
}

#[test]
fn the_vectors_are_what_is_made_and_taken() {
    if std::env::var_os("OTARU_WRITE_VECTORS").is_some() {
        write_all();
    }
    assert_eq!(SecretKey::read(&at("key.pem")).unwrap().public(), key().public());
    let public = PublicKey::read(&at("key.pub.pem")).unwrap();
    assert_eq!(file("image.bin"), image());
    let signed = file("signed.otaru");
    verify(&signed, &[public]).unwrap();
    verify_contents(&file("unsigned.otaru")).unwrap();
    let expected: Value = serde_json::from_slice(&file("fields.json")).unwrap();
    assert_eq!(fields(&signed), expected);
    // Ed25519 is deterministic, so the unsigned release leads to the very file there.
    assert_eq!(otaru_release::sign::resign(&file("unsigned.otaru"), &key()).unwrap(), signed);
}
