//! Real firmware, if `OTARU_FIRMWARE_PAIRS` names a folder of folders with an `old.bin` and a `new.bin` each: byte for
//! byte there, and much smaller. Otherwise there is nothing to do, and nothing to install that would change it.

use std::path::PathBuf;

use otaru_delta::{apply_to_slice, encode};

fn pairs() -> Vec<PathBuf> {
    let Some(folder) = std::env::var_os("OTARU_FIRMWARE_PAIRS") else {
        println!(
            "SKIPPED: no real firmware: set OTARU_FIRMWARE_PAIRS to a folder of folders with old.bin and new.bin"
        );
        return Vec::new();
    };
    let entries = std::fs::read_dir(folder).expect("OTARU_FIRMWARE_PAIRS is a folder");
    let mut pairs: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    pairs.sort();
    pairs
}

#[test]
fn real_firmware_gets_there_with_little() {
    for pair in pairs() {
        let old = std::fs::read(pair.join("old.bin")).unwrap();
        let new = std::fs::read(pair.join("new.bin")).unwrap();
        let patch = encode(&old, &new).unwrap();
        assert!(apply_to_slice(&old, &patch, u32::MAX).unwrap() == new, "{}", pair.display());
        let percent = patch.len() as f64 * 100.0 / new.len() as f64;
        println!("{percent:6.2} %  {}", pair.display());
        assert!(percent < 10.0, "{percent} % of {}", pair.display());
    }
}
