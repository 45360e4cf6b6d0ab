//! Makes a patch between two images and applies it: `cargo run --features encode --example patch -- old.bin new.bin`.

use std::error::Error;

use otaru_delta::{apply_to_slice, encode_with};

fn main() -> Result<(), Box<dyn Error>> {
    let mut paths = std::env::args().skip(1);
    let (Some(old), Some(new)) = (paths.next(), paths.next()) else {
        return Err("give the paths of the old and of the new image".into());
    };
    let (old, new) = (std::fs::read(old)?, std::fs::read(new)?);
    let encoded = encode_with(&old, &new, |percent| eprint!("\r{percent} %"))?;
    eprintln!();
    println!("{} bytes make an image of {}", encoded.patch.len(), new.len());
    println!("{} addresses were predicted", encoded.contents.predicted);
    assert_eq!(apply_to_slice(&old, &encoded.patch, u32::MAX)?, new);
    Ok(())
}
