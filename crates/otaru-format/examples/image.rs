//! Reads an ESP image as a bootloader would, and prints what it says about itself: `cargo run --example image -- firmware.bin`.

use std::error::Error;

use otaru_format::image::{Head, ImageCheck};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("give the path of a .bin file")?;
    let bytes = std::fs::read(&path)?;
    let head = Head::parse(&bytes)?;
    match head.header.chip() {
        Some(chip) => println!("chip     {chip}"),
        None => println!("chip     unknown, id {}", head.header.chip_id),
    }
    if let Some(descriptor) = head.descriptor {
        println!("project  {}", descriptor.project());
        println!("version  {}", descriptor.version());
    }
    // Segments, checksum and digest; bytes may come in pieces of any size.
    let mut check = ImageCheck::new(16 << 20);
    for piece in bytes.chunks(1024) {
        check.feed(piece)?;
        if check.is_complete() {
            break;
        }
    }
    println!("length   {}", check.len());
    println!("SHA-256  {}", check.finish()?.digest);
    Ok(())
}
