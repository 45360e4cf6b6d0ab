//! Attributes a program's code to crates: each byte is looked up in the debug information.
//!
//! A symbol would not tell: after link-time optimisation a whole update is one function, with the code of a dozen
//! crates in it. Code counts for the crate it was written in, wherever it was compiled or inlined to; the standard
//! library's for the crate that called it, unless it stands alone.

use std::collections::BTreeMap;
use std::path::Path;

use addr2line::Loader;
use anyhow::{Context as _, Result, anyhow};
use object::read::elf::ElfFile32;
use object::{Object as _, ObjectSection as _, SectionKind};

/// Name for code without debug information: the radio's libraries, and what the linker adds.
const UNKNOWN: &str = "(without debug information)";

/// Bytes of code by crate.
pub(crate) type Crates = BTreeMap<String, i64>;

/// Looks up all code of a program.
pub(crate) fn crates(path: &Path, program: &ElfFile32<'_>) -> Result<Crates> {
    let debug = Loader::new(path).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    let mut crates = Crates::new();
    for section in program.sections().filter(|section| section.kind() == SectionKind::Text) {
        for address in section.address()..section.address().saturating_add(section.size()) {
            let name = owner(&debug, address).with_context(|| format!("{address:#x}"))?;
            *crates.entry(name).or_default() += 1;
        }
    }
    Ok(crates)
}

/// The crate of one byte of code.
fn owner(debug: &Loader, address: u64) -> Result<String> {
    let mut frames = debug.find_frames(address).map_err(|error| anyhow!("{error}"))?;
    let mut innermost = None;
    // From the function that was inlined deepest to the one it all ended up in.
    while let Some(frame) = frames.next()? {
        let Some(file) = frame.location.and_then(|location| location.file) else { continue };
        match crate_of(file) {
            Some(name) if name.starts_with("std::") => _ = innermost.get_or_insert(name),
            Some(name) => return Ok(name),
            None => {}
        }
    }
    Ok(innermost.unwrap_or_else(|| UNKNOWN.to_owned()))
}

/// The crate a source file belongs to.
fn crate_of(file: &str) -> Option<String> {
    // Paths of a firmware that is built for release begin nowhere.
    let file = format!("/{}", file.replace('\\', "/"));
    let after = |mark: &str| file.split_once(mark).map(|(_, rest)| rest);
    let mut folders = file.split('/').zip(file.split('/').skip(1));
    let package = folders.find_map(|(folder, next)| packaged(folder).filter(|_| next == "src"));
    if let Some(name) = package {
        return Some(name.to_owned());
    }
    if let Some(rest) = after("/library/") {
        return Some(format!("std::{}", rest.split('/').next()?));
    }
    let ours = after("/crates/")
        .or_else(|| after("/firmware/"))
        .or_else(|| file.starts_with("/src/").then_some("src/"))?;
    let name = ours.split('/').next()?;
    Some(if name == "src" || name.is_empty() { "otaru-firmware" } else { name }.to_owned())
}

/// The name of a package, whose folder is called `name-1.2.3`; names may have dashes.
fn packaged(folder: &str) -> Option<&str> {
    let is_version = |text: &str| text.starts_with(|c: char| c.is_ascii_digit()) && text.contains('.');
    folder.match_indices('-').find_map(|(at, _)| is_version(&folder[at + 1..]).then_some(&folder[..at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_tells_its_crate() {
        for (file, owner) in [
            (
                "/home/me/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/embassy-net-0.9.1/src/udp.rs",
                Some("embassy-net"),
            ),
            ("esp-radio-1.0.0-beta.1/src/lib.rs", Some("esp-radio")),
            ("/rustc/0123/library/core/src/fmt/mod.rs", Some("std::core")),
            ("library/alloc/src/alloc.rs", Some("std::alloc")),
            ("crates/otaru-device/src/job.rs", Some("otaru-device")),
            ("firmware/src/main.rs", Some("otaru-firmware")),
            ("/home/me/otaru-0.1/firmware/otaru-setup/src/lib.rs", Some("otaru-setup")),
            ("src/main.rs", Some("otaru-firmware")),
            ("C:\\x\\y.c", None),
        ] {
            assert_eq!(crate_of(file).as_deref(), owner, "{file}");
        }
    }
}
