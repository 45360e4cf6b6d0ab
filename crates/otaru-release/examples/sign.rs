//! Makes a signed release of an image, and verifies it: `cargo run --example sign -- firmware.bin firmware.otaru`.

use std::error::Error;

use otaru_release::build::{Options, build};
use otaru_release::keys::SecretKey;
use otaru_release::sequence;
use otaru_release::verify::verify;

fn main() -> Result<(), Box<dyn Error>> {
    let mut paths = std::env::args().skip(1);
    let (Some(image), Some(file)) = (paths.next(), paths.next()) else {
        return Err("give the path of an image, and one for the release".into());
    };
    // A key of one's own is kept: devices trust its public half, which is built into their firmware.
    let key = SecretKey::generate()?;
    let sequence = sequence::now().ok_or("the clock is before 1970")?;
    let release = build(&std::fs::read(image)?, &Options::new(sequence), &mut |_| ())?.sign(&key)?;
    let verified = verify(&release, &[key.public()])?;
    let manifest = &verified.file.manifest;
    println!("{} {} for {} bytes of image", manifest.product, manifest.version, manifest.size);
    std::fs::write(file, &release)?;
    Ok(())
}
