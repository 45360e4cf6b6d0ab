//! Espressif's `esptool image-info` against our image reader: the same fields, the same verdict.

use std::fs;
use std::path::Path;
use std::process::Command;

use otaru_format::chip::Chip;
use otaru_format::digest::Digest;
use otaru_format::image::{Head, ImageCheck, ImageSummary};

use crate::images::Image;
use otaru_testing::firmware::real_files;

use crate::peers;

/// Output of `esptool image-info` for a file.
#[derive(Debug)]
struct Seen {
    text: String,
    good: bool,
}

impl Seen {
    fn look(esptool: &mut Command, file: &Path) -> Self {
        let output = esptool.env("NO_COLOR", "1").arg("image-info").arg(file).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let good = output.status.success() && text.contains("(valid)") && !text.contains("(invalid");
        Self { text, good }
    }

    /// Finds the text behind `label: ` on its line.
    fn field(&self, label: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.trim().strip_prefix(label)?.strip_prefix(": "))
    }

    fn number(&self, label: &str) -> u32 {
        let field = self.field(label).unwrap_or_else(|| panic!("no {label} in\n{}", self.text));
        number(field.split_whitespace().next().unwrap_or_default())
    }

    /// Length, load address and file offset of the segments.
    fn segments(&self) -> Vec<[u32; 3]> {
        let rows = self.text.lines().filter_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let [index, len, address, offset, ..] = words[..] else { return None };
            index.parse::<u8>().ok()?;
            Some([number(len), number(address), number(offset)])
        });
        rows.collect()
    }
}

fn number(text: &str) -> u32 {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).unwrap(),
        None => text.parse().unwrap(),
    }
}

fn check(bytes: &[u8]) -> Option<ImageSummary> {
    let mut check = ImageCheck::new(16 << 20);
    bytes.chunks(4096).try_for_each(|piece| check.feed(piece)).ok()?;
    check.finish().ok()
}

/// Both must read the same from a file that both find good.
fn compare(bytes: &[u8], seen: &Seen, name: &str) {
    let summary = check(bytes).unwrap_or_else(|| panic!("{name}: esptool finds it good, we do not"));
    let head = Head::parse(bytes).unwrap();
    let chip = head.header.chip().map(|chip| u32::from(chip.id()));
    assert_eq!(chip, Some(seen.number("Chip ID")), "{name}");
    assert_eq!(u32::from(head.header.segments), seen.number("Segments"), "{name}");
    assert_eq!(head.header.entry, seen.number("Entry point"), "{name}");
    let segments = seen.segments();
    assert_eq!(segments.len(), usize::from(head.header.segments), "{name}");

    // The image ends where esptool's last segment, the padding and the hash do.
    let [len, _, offset] = segments[segments.len() - 1];
    // esptool names the place of the segment's header.
    let end = (offset + 8 + len) / 16 * 16 + 16;
    let hash = seen.field("Validation hash").and_then(|hash| hash.split_whitespace().next());
    assert_eq!(hash.is_some(), summary.header.hash_appended, "{name}");
    assert_eq!(summary.len, end + if hash.is_some() { 32 } else { 0 }, "{name}");
    assert_eq!(summary.digest, Digest::of(&bytes[..summary.len as usize]), "{name}");
    if let Some(hash) = hash {
        assert_eq!(Ok(Digest::of(&bytes[..end as usize])), hash.parse(), "{name}");
    }

    let descriptor = head.descriptor;
    assert_eq!(descriptor.map(|d| d.project()), seen.field("Project name"), "{name}");
    assert_eq!(descriptor.map(|d| d.version()), seen.field("App version"), "{name}");
    assert_eq!(descriptor.map(|d| d.idf_version()), seen.field("ESP-IDF"), "{name}");
    assert_eq!(
        descriptor.map(|d| d.elf_sha256().to_string()).as_deref(),
        seen.field("ELF file SHA256"),
        "{name}"
    );
    let secure = descriptor.map(|d| d.secure_version().to_string());
    assert_eq!(secure.as_deref(), seen.field("Secure version"), "{name}");
}

#[test]
fn esptool_reads_our_images_as_they_were_meant() {
    let Some(mut esptool) = peers::esptool("esptool_reads_our_images_as_they_were_meant") else { return };
    let folder = tempfile::tempdir().unwrap();
    let program = esptool.get_program().to_owned();
    for chip in Chip::ALL {
        let plain = Image::new(chip);
        for image in [Image { hash_appended: false, ..plain.clone() }, plain] {
            let bytes = image.build();
            let file = folder.path().join(format!("{chip}.bin"));
            fs::write(&file, &bytes).unwrap();
            let seen = Seen::look(&mut esptool, &file);
            esptool = Command::new(&program);
            assert!(seen.good, "{chip}: {}", seen.text);
            compare(&bytes, &seen, chip.name());
            let meant: Vec<_> =
                image.all_segments().iter().map(|(address, data)| [data.len() as u32, *address]).collect();
            let read: Vec<_> = seen.segments().iter().map(|[len, address, _]| [*len, *address]).collect();
            assert_eq!(read, meant, "{chip}");
            assert_eq!(seen.field("Project name"), Some(image.project));
            assert_eq!(seen.field("ELF file SHA256"), Some(image.elf().to_string().as_str()));
        }
    }
}

#[test]
fn esptool_and_we_refuse_the_same_damage() {
    let Some(esptool) = peers::esptool("esptool_and_we_refuse_the_same_damage") else { return };
    let folder = tempfile::tempdir().unwrap();
    let good = Image::new(Chip::Esp32C3).build();
    let len = good.len();
    let flipped = |at: usize, bits: u8| {
        let mut bytes = good.clone();
        bytes[at] ^= bits;
        bytes
    };
    let damages = [
        ("magic", flipped(0, 0x01)),
        ("segment count", flipped(1, 0x01)),
        ("entry point", flipped(5, 0x10)),
        ("hash flag", flipped(23, 0x02)),
        ("segment length", flipped(28, 0x04)),
        ("descriptor", flipped(80, 0x01)),
        ("segment data", flipped(700, 0x80)),
        ("checksum", flipped(len - 33, 0xFF)),
        ("hash", flipped(len - 1, 0x01)),
        ("hash cut off", good[..len - 32].to_vec()),
        ("half of it", good[..len / 2].to_vec()),
        ("header only", good[..24].to_vec()),
        ("a web page", b"<!DOCTYPE html><html><body>404 Not Found</body></html>".to_vec()),
        ("erased flash", vec![0xFF; 4096]),
    ];
    for (damage, bytes) in damages {
        let file = folder.path().join("damaged.bin");
        fs::write(&file, &bytes).unwrap();
        let seen = Seen::look(&mut Command::new(esptool.get_program()), &file);
        assert!(!seen.good, "{damage}: esptool finds it good\n{}", seen.text);
        assert_eq!(check(&bytes), None, "{damage}: we find it good");
    }
}

#[test]
fn esptool_and_we_agree_on_real_files() {
    let Some(esptool) = peers::esptool("esptool_and_we_agree_on_real_firmware") else { return };
    let firmware = real_files();
    if firmware.is_empty() {
        // Not a skip: what was built above stands for it, and nothing could be installed.
        eprintln!("no real firmware: set OTARU_FIRMWARE_PAIRS to a folder of folders with .bin files");
    }
    for file in firmware {
        let bytes = fs::read(&file).unwrap();
        let seen = Seen::look(&mut Command::new(esptool.get_program()), &file);
        assert!(seen.good, "{}: {}", file.display(), seen.text);
        compare(&bytes, &seen, &file.display().to_string());
    }
}

#[test]
fn esptool_and_we_refuse_damaged_real_files() {
    let Some(esptool) = peers::esptool("esptool_and_we_refuse_damaged_real_firmware") else { return };
    let folder = tempfile::tempdir().unwrap();
    for file in real_files() {
        let good = fs::read(&file).unwrap();
        let mut bytes = good.clone();
        bytes[good.len() / 2] ^= 0x40;
        let damaged = folder.path().join("damaged.bin");
        fs::write(&damaged, &bytes).unwrap();
        let seen = Seen::look(&mut Command::new(esptool.get_program()), &damaged);
        assert!(!seen.good, "{}: esptool finds it good\n{}", file.display(), seen.text);
        assert_eq!(check(&bytes), None, "{}", file.display());
    }
}
