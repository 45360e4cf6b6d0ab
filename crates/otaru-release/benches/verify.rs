//! What verifying costs on this host: a signature, and a MiB of hashing, each beside a named peer in the same run.
#![expect(clippy::unwrap_used, reason = "what cannot be measured has failed")]

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use otaru_format::command::Offer;
use otaru_format::digest::Digest as Image;
use otaru_release::keys::SecretKey;
use otaru_release::offer::{open_offer, sign_offer};
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

/// What `openssl speed` says of an algorithm: its operations or bytes a second, last number of the last line.
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

fn main() {
    let key = SecretKey::from_seed(&[7; 32]);
    let image = Some(Image::of(b"image"));
    let offer = Offer { url: "http://h/lamp.otaru", image, deployment: None, force: false, serial: Some(1) };
    let (envelope, keys) = (sign_offer(&offer, &key).unwrap(), [key.public()]);
    let signature = time(|| _ = black_box(open_offer(black_box(&envelope), &keys)));
    let peer = openssl(&["-seconds", "1", "ed25519"]).map(|each_second| 1e6 / each_second);
    row("checking a signed offer", signature.as_secs_f64() * 1e6, "µs", peer);
    let mebibyte = vec![0x5A; 1 << 20];
    let hash = time(|| _ = black_box(Sha256::digest(black_box(&mebibyte))));
    let peer = openssl(&["-seconds", "1", "-bytes", "1048576", "-evp", "sha256"]);
    let peer = peer.map(|kilobytes| 1e3 * f64::from(1 << 20) / (kilobytes * 1e3));
    row("SHA-256 of a MiB", hash.as_secs_f64() * 1e3, "ms", peer);
}
