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
    let file = file.replace('\\', "/");
    let after = |mark: &str| file.split_once(mark).map(|(_, rest)| rest);
    if let Some(folder) = after("/registry/src/").and_then(|rest| rest.split('/').nth(1)) {
        // `name-1.2.3`, and names may have dashes.
        let version = folder
            .match_indices('-')
            .find(|(at, _)| folder[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
        return Some(version.map_or(folder, |(at, _)| &folder[..at]).to_owned());
    }
    if let Some(rest) = after("/library/") {
        return Some(format!("std::{}", rest.split('/').next()?));
    }
    let ours = after("/crates/")
        .or_else(|| after("/firmware/"))
        .or_else(|| file.starts_with("src/").then_some("src/"))?;
    let name = ours.split('/').next()?;
    Some(if name == "src" || name.is_empty() { "otaru-firmware" } else { name }.to_owned())
}
