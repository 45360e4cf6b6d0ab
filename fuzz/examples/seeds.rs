//! Writes the kept corpus: a few small inputs for each fuzzer, of every kind there is.
//!
//! `cargo run --manifest-path fuzz/Cargo.toml --example seeds`
#![expect(clippy::unwrap_used, reason = "what cannot be written has failed")]

use std::fs;
use std::path::Path;

use otaru_format::chip::Chip;
use otaru_format::command::{MAX_COMMAND, Offer, ReportRequest};
use otaru_format::digest::Digest;
use otaru_format::image::{DescriptorFields, ImageFields};
use otaru_format::otadata::{Record, State};
use otaru_format::partition::{self, TABLE_LEN};
use otaru_format::release::{KeyId, ManifestFields, PayloadFields, PayloadKind, emit_unsigned, header};

fn write(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), bytes).unwrap();
}

fn image(data: &[u8], hash_appended: bool) -> Vec<u8> {
    let descriptor = DescriptorFields {
        project: "seed",
        version: "1.2.3-rc.4",
        secure_version: 0,
        elf_sha256: Digest::of(b"seed"),
    };
    let segments = &[(0x3C00_0020, &[][..]), (0x4038_0000, data)];
    ImageFields { chip: Chip::Esp32C3, descriptor, segments, hash_appended }.emit()
}

fn images() {
    write("image", "hashed", &image(&[0x5A; 64], true));
    write("image", "without-hash", &image(&[1, 2, 3, 4], false));
    write("image", "cut", &image(&[0; 32], true)[..300]);
}

/// What clients send to the broker.
fn broker() {
    write(
        "broker",
        "connect-5",
        b"\x10\x1d\0\x04MQTT\x05\xC6\0\x05\x05\x11\0\0\0\x07\0\x01c\0\0\x01w\0\0\0\0\0\0",
    );
    write("broker", "connect-311", b"\x10\x0d\0\x04MQTT\x04\x02\0\x1e\0\x01c");
    write("broker", "publish-5", b"\x32\x10\0\x01t\0\x09\x08\x01\x01\x08\0\x03r/sHi");
    write("broker", "publish-311", b"\x30\x05\0\x01tHi");
    write("broker", "subscribe", b"\x82\x0c\0\x07\x02\x0b\x05\0\x01a\0\0\0\x01\xA2\x06\0\x07\0\0\x01a");
    write("broker", "acks", b"\x40\x09\0\x05\x10\x05\x1f\0\x02ok\x50\x02\0\x01\x62\x02\0\x01\x70\x02\0\x01");
    write("broker", "goodbye", b"\xC0\0\xE0\x07\0\x05\x11\0\0\0\x09");
}

fn partition_tables() {
    let mut table = [0; TABLE_LEN];
    let partitions = partition::default_layout();
    partition::emit(&partitions, &mut table).unwrap();
    write("partition_table", "default", &table[..32 * (partitions.len() + 2)]);
    write("partition_table", "without-md5", &table[..32 * partitions.len()]);
}

fn otadata() {
    for (name, state) in [("new", State::New), ("valid", State::Valid), ("aborted", State::Aborted)] {
        let records = [Record::new(1, State::Valid).emit(), Record::new(2, state).emit()].concat();
        write("otadata", name, &records);
    }
    write("otadata", "erased", &[0xFF; 64]);
}

fn commands() {
    let mut buf = [0; MAX_COMMAND];
    let offer = Offer {
        url: "http://h:8080/a%20b.bin",
        image: Some(Digest::of(b"seed")),
        deployment: Some("ring \"0\""),
        force: true,
        order: None,
    };
    write("command", "offer", offer.emit_json(&mut buf).unwrap().as_bytes());
    write("command", "url", b"http://laptop:8080/firmware.bin\n");
    write("command", "report", ReportRequest { spread: 40 }.emit_json(&mut buf).unwrap().as_bytes());
    write("command", "cancel", b"cancel");
    write("command", "cancel-json", b"{\"cancel\":true}");
    write("command", "unknown", br#"{"url":"http://h/x","later":[1,{"a":null}],"size":1.5e3}"#);
}

/// What brokers send, behind a byte that chooses the version and how many bytes come at once.
fn mqtt() {
    let rest = b"\x40\x02\0\x03\xD0\0\xE0\0";
    let five =
        b"\x20\x03\0\0\0\x90\x04\0\x01\0\x01\x90\x04\0\x02\0\x87\x3B\x14\0\x10ESP32/ota/update\0\x09\0cancel";
    write("mqtt", "5", &[&[16], &five[..], rest].concat());
    let older = b"\x20\x02\0\0\x90\x03\0\x01\x01\x90\x03\0\x02\x80\x32\x1A\0\x10ESP32/ota/update\0\x09cancel";
    write("mqtt", "3.1.1", &[&[0x90], &older[..], rest].concat());
    write("mqtt", "refused", b"\x01\x20\x02\0\x01");
    write("mqtt", "refused-5", b"\x81\x20\x03\0\x84\0");
    write("mqtt", "tls-alert", b"\x07\x15\x03\x01\0\x02\x02\x46");
    write(
        "mqtt",
        "too-long",
        &[&b"\xFF\x20\x02\0\0\x30\xB0\x09\0\x01a"[..], &[b'x'; 1197], b"\xD0\0"].concat(),
    );
}

/// What web servers answer, behind a byte that says how many bytes come at once.
fn http() {
    let answers: [(&str, &[u8]); 6] = [
        ("whole", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"a\"\r\n\r\nhello"),
        ("part", b"HTTP/1.1 206 P\r\nContent-Range: bytes 5-9/20\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nhello"),
        ("chunks", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"),
        ("redirect", b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 302 F\r\nLocation: //other/../a%20b?x\r\nContent-Length: 0\r\n\r\n"),
        ("no-range", b"HTTP/1.0 416 R\r\nContent-Range: bytes */20\r\nRetry-After: 7\r\nDate: x\r\n\r\n"),
        ("folded", b"HTTP/1.1 200\r\nContent-Encoding:\r\n  gzip\r\nX: \t\n\nhello"),
    ];
    for (name, answer) in answers {
        write("http", name, &[&[32], answer].concat());
    }
}

/// Inputs of set-up: each behind a byte that chooses its reader.
fn setup() {
    let page = |name: &str, body: &str| {
        let head = format!("POST / HTTP/1.1\r\nHost: 192.168.4.1\r\nContent-Length: {}\r\n\r\n", body.len());
        write("setup", name, &[&[0], head.as_bytes(), body.as_bytes()].concat());
    };
    let usual = "ssid=At+home&psk=12345678&host=broker.lan&port=&mqtt=3.1.1&user=me&password=%C3%A9&name=lamp&topic=home/ota";
    page("form", usual);
    let pem = |label: &str, base64: &str| {
        format!("-----BEGIN+{label}-----%0D%0A{base64}%0D%0A-----END+{label}-----%0D%0A")
    };
    let (certificate, key) = (pem("CERTIFICATE", "MAMCAQc%3D"), pem("PRIVATE+KEY", "MAMCAQg%3D"));
    let remove = "remove=0123456789abcdef";
    page("certificates", &format!("{usual}&tls=on&{remove}&ca={certificate}&cert={certificate}&key={key}"));
    write("setup", "probe", b"\0GET /generate_204 HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut discover = vec![1; 1];
    discover.extend([1, 1, 6]);
    discover.resize(1 + 236, 0);
    discover.extend([99, 130, 83, 99, 53, 1, 1, 50, 4, 192, 168, 4, 7, 255]);
    write("setup", "dhcp", &discover);
    write("setup", "dns", b"\x02\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01");
    let (nonce, past) = (7_u64.to_be_bytes(), 1_800_000_000_u64.to_be_bytes());
    let mut answer = [0; 48];
    answer[..2].copy_from_slice(&[4 << 3 | 4, 1]);
    answer[24..32].copy_from_slice(&nonce);
    answer[40..44].copy_from_slice(&0xF000_0000_u32.to_be_bytes());
    write("setup", "sntp", &[&[3], &nonce[..], &past, &answer].concat());
    let mut settings = otaru_setup::Settings::new();
    settings.add_network("attic", "12345678").unwrap();
    settings.set_broker("broker.lan", 1883).unwrap();
    write("setup", "settings", &[&[4], &otaru_setup::record::encode(&settings)[..]].concat());
    write("setup", "store", b"\x05\x01\x03\0\x30\x01\0\x02\x02\0\x30\0\x03\x01\0\x30");
}

fn manifests() {
    let blocks = [Digest::of(b"first"), Digest::of(b"second")];
    let size = 65536 + 100;
    let raw = PayloadFields { kind: PayloadKind::Raw, len: size, frames: &[] };
    let lzma = PayloadFields { kind: PayloadKind::Lzma, len: 30_100, frames: &[30_000, 100] };
    let base = Digest::of(b"base");
    let delta = PayloadFields { kind: PayloadKind::Delta { base }, len: 500, frames: &[] };
    let fields = ManifestFields {
        product: "seed",
        chip_id: 5,
        version: "1.2.3",
        sequence: 7,
        image: Digest::of(b"image"),
        size,
        blocks: &blocks,
        payloads: &[raw],
        min_base: None,
        secure_version: 0,
        revoked: &[],
        also: &[],
    };
    let all = ManifestFields {
        payloads: &[delta, lzma, raw],
        min_base: Some("1.0.0"),
        secure_version: 3,
        revoked: &[KeyId([1; 8]), KeyId([2; 8])],
        also: &["lantern", "light"],
        ..fields
    };
    for (name, fields) in [("least", fields), ("all", all)] {
        let (mut buf, mut envelope) = ([0; 4096], [0; 4096]);
        let manifest = fields.emit(&mut buf).unwrap();
        write("manifest", name, manifest);
        let envelope = emit_unsigned(manifest, &mut envelope).unwrap();
        let file = [&header(envelope.len()).unwrap()[..], envelope].concat();
        write("manifest", &format!("{name}-unsigned"), &file);
    }
}

fn frames() {
    let text = include_bytes!("seeds.rs");
    for (name, block) in
        [("text", &text[..900]), ("zeros", &[0; 3000]), ("repeats", &[1, 2, 3].repeat(300)), ("empty", &[])]
    {
        let settings = [0, 0, block.len() as u8, (block.len() >> 8) as u8];
        write("lzma_frame", name, &[&settings, &otaru_lzma::encode(block)[..]].concat());
    }
    // Read with other properties it is noise that begins well.
    write("lzma_frame", "other", &[&[0o13, 0o12, 0, 1], &otaru_lzma::encode(&text[..400])[..]].concat());
}

/// A patch as the fuzzer of deltas takes it, compressed and not.
fn delta(name: &str, old: &[u8], new: &[u8]) {
    let patch = otaru_delta::encode(old, new).unwrap();
    let (header, compressed) = patch.split_first_chunk::<{ otaru_delta::Header::LEN }>().unwrap();
    let mut workspace = otaru_lzma::Workspace::<16384, 2, 1>::new();
    let properties = otaru_lzma::Properties {
        literal_context_bits: header[5] % 9,
        literal_position_bits: header[5] / 9,
        position_bits: 0,
    };
    let length = otaru_lzma::Length::Marked;
    let mut decoder = otaru_lzma::Decoder::with_properties(properties, &mut workspace, length).unwrap();
    let mut stream = header.to_vec();
    let mut rest = compressed;
    loop {
        let step = decoder.decode(rest).unwrap();
        rest = &rest[step.consumed..];
        stream.extend(step.output);
        if step.output.is_empty() && rest.is_empty() {
            break;
        }
    }
    let base = [&(old.len() as u16).to_le_bytes()[..], old].concat();
    write("delta", name, &[&[0], &base[..], &patch].concat());
    write("delta", &format!("{name}-stream"), &[&[1], &base[..], &stream].concat());
}

/// Words that are addresses and jumps of an ESP32-C3, and others.
fn deltas() {
    let code = |shift: u32| -> Vec<u8> {
        let words = (0..64_u32).map(|at| match at % 4 {
            0 => 0x4038_0000 + at + shift,
            1 => 0x0000_00EF | (at + shift) << 21,
            2 => 0x4038_0537 + (shift << 12),
            _ => 0x0005_0513 | (at + shift) << 20,
        });
        words.flat_map(u32::to_le_bytes).collect()
    };
    delta("moved", &image(&code(0), true), &image(&[vec![0; 16], code(4)].concat(), true));
    delta("unrelated", &image(&code(0), true), &[7; 300]);
    delta("empty", &[], &[]);
}

fn main() {
    deltas();
    images();
    broker();
    partition_tables();
    otadata();
    commands();
    mqtt();
    http();
    setup();
    manifests();
    frames();
}
