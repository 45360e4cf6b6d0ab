//! Configures the agent and checks the configuration, on a PC; the same code runs on the chip.

use otaru_device::{Config, PublicKey};

/// Public key as `otaru keygen` prints it; this one is RFC 8032's first test vector.
const RELEASE_KEY: PublicKey = PublicKey::from_bytes([
    0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e,
    0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
]);

fn main() {
    let mut config = Config::new("lamp-1", "broker.lan");
    println!("without a key: {:?}", config.check());
    config.keys = &[RELEASE_KEY];
    println!("with one:      {:?}", config.check());
}
