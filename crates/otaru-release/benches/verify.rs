//! Cost of verifying on this host: a signature, and a MiB of hashing, each beside a named peer in the same run; and
//! a whole release of one MiB, decoding included.
#![expect(clippy::unwrap_used, reason = "what cannot be measured has failed")]

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use otaru_format::chip::Chip;
use otaru_format::digest::Digest as Image;
use otaru_format::image::{DescriptorFields, ImageFields};
use otaru_release::build::{Options, build};
use otaru_release::file::ReleaseFile;
use otaru_release::keys::SecretKey;
use otaru_release::verify::{check_signature, verify};
use sha2::{Digest as _, Sha256};

/// The shortest of several runs of at least a fifth of a second each.
fn time(mut work: impl FnMut()) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let (start, mut rounds) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_millis(200) {
            work();
            rounds += 1;
        }
        best = best.min(start.elapsed() / rounds);
    }
    best
}

/// Runs `openssl speed` for an algorithm: its operations or bytes a second, last number of the last line.
fn openssl(arguments: &[&str]) -> Option<f64> {
    let output = Command::new("openssl").arg("speed").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let last = text.lines().last()?.split_whitespace().next_back()?;
    last.trim_end_matches('k').parse().ok()
}

fn row(what: &str, ours: f64, unit: &str, peer: Option<f64>) {
    match peer {
        Some(peer) => {
            println!("{what}: {ours:.2} {unit}, openssl {peer:.2} {unit}, ratio {:.2}", ours / peer)
        }
        None => println!("{what}: {ours:.2} {unit}; SKIPPED: no openssl to compare with"),
    }
}

/// An image of about a MiB whose code compresses like machine code: to 56 %, hardly any of it by repetition, which
/// is what takes LZMA longest.
fn firmware() -> Vec<u8> {
    let mut noise = 1_u32;
    let code: Vec<u8> = (0..(1 << 20) - 512)
        .map(|_| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8 % 21
        })
        .collect();
    let descriptor = DescriptorFields {
        project: "bench",
        version: "1.0.0",
        secure_version: 0,
        elf_sha256: Image::of(b"elf"),
    };
    let segments = &[(0x3C00_0020, &[][..]), (0x4038_0000, code.as_slice())];
    ImageFields { chip: Chip::Esp32C3, descriptor, segments, hash_appended: true }.emit()
}

fn main() {
    let key = SecretKey::from_seed(&[7; 32]);
    let keys = [key.public()];
    let release = build(&firmware(), &Options::new(1), &mut |_| ()).unwrap().sign(&key).unwrap();
    let file = ReleaseFile::parse(&release).unwrap();
    let signature = time(|| _ = black_box(check_signature(black_box(&file), &keys)));
    let peer = openssl(&["-seconds", "1", "ed25519"]).map(|each_second| 1e6 / each_second);
    row("checking a release's signature", signature.as_secs_f64() * 1e6, "µs", peer);
    let mebibyte = vec![0x5A; 1 << 20];
    let hash = time(|| _ = black_box(Sha256::digest(black_box(&mebibyte))));
    let peer = openssl(&["-seconds", "1", "-bytes", "1048576", "-evp", "sha256"]);
    let peer = peer.map(|kilobytes| 1e3 * f64::from(1 << 20) / (kilobytes * 1e3));
    row("SHA-256 of a MiB", hash.as_secs_f64() * 1e3, "ms", peer);
    let whole = time(|| _ = black_box(verify(black_box(&release), &keys).unwrap()));
    println!("verifying a release of a MiB, both payloads: {:.2} ms", whole.as_secs_f64() * 1e3);
}
