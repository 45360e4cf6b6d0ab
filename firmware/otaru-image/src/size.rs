//! Cost of a firmware in flash and RAM, with and without the agent, and by crate.
//!
//! Everything is static, the agent's future included, so a program's sections tell it all but heap and stack. The
//! firmware without the agent uses TCP and DNS as well, for its heartbeat, so that what is left is the agent's own.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use object::read::elf::ElfFile32;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionFlags, elf};

use crate::crates::{Crates, crates};
use crate::symbols::variable;

/// Bytes of code from which on a crate is named.
const WORTH_A_ROW: i64 = 256;

/// Cost of one program, in bytes.
struct Cost {
    /// Code, constants and initial values; the update file has these, and fills up whole pages of 64 KiB.
    flash: u64,
    /// Code, by crate.
    crates: Crates,
    /// Static RAM: variables, and code that must not be in flash.
    ram: u64,
    /// The heap, with what of it lies behind the main memory.
    heap: u64,
    /// Main memory that is left for the stack.
    stack: u64,
    /// The agent's workspace, and its sockets.
    workspace: u64,
    sockets: u64,
    /// The largest variables.
    largest: Vec<(String, u64)>,
}

/// Prints both and the difference.
pub(crate) fn compare(chip: &str, with: &Path, without: &Path) -> Result<()> {
    let [with, without] = [measure(with)?, measure(without)?];
    println!("| {chip} | flash | static RAM | left for the stack |");
    println!("| --- | ---: | ---: | ---: |");
    for (name, cost) in [("whole firmware", &with), ("without the agent", &without)] {
        println!("| {name} | {} | {} | {} |", cost.flash, cost.ram, cost.stack);
    }
    let less = |a: u64, b: u64| i128::from(a) - i128::from(b);
    println!("| the agent | {} | {} | |", less(with.flash, without.flash), less(with.ram, without.ram));
    print_crates(&with, &without);
    print_ram(&with, &without);
    println!();
    crate::budget::print_all();
    println!("\nLargest variables of the whole firmware:");
    for (name, size) in &with.largest {
        println!("{size:>8}  {name}");
    }
    Ok(())
}

/// Prints what TLS costs: a firmware without, and with either preset.
pub(crate) fn compare_tls(chip: &str, programs: [&Path; 3]) -> Result<()> {
    println!("| {chip}, TLS | flash | more | static RAM | heap | left for the stack |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    let mut first = None;
    for (name, program) in ["none", "own server", "any server"].into_iter().zip(programs) {
        let cost = measure(program)?;
        let more = cost.flash.saturating_sub(*first.get_or_insert(cost.flash));
        println!("| {name} | {} | {more} | {} | {} | {} |", cost.flash, cost.ram, cost.heap, cost.stack);
    }
    Ok(())
}

/// Prints whose code the agent's is, the largest first.
fn print_crates(with: &Cost, without: &Cost) {
    let of = |crates: &Crates, name: &String| crates.get(name).copied().unwrap_or(0);
    let names: BTreeSet<&String> = with.crates.keys().chain(without.crates.keys()).collect();
    let mut rows: Vec<(&str, i64)> = names
        .into_iter()
        .map(|name| (name.as_str(), of(&with.crates, name) - of(&without.crates, name)))
        .collect();
    rows.sort_by_key(|(name, more)| (std::cmp::Reverse(*more), *name));
    let code: i64 = rows.iter().map(|(_, more)| more).sum();
    let others: i64 = rows.iter().map(|(_, more)| more).filter(|more| **more < WORTH_A_ROW).sum();
    let flash = i64::try_from(with.flash).unwrap_or(0) - i64::try_from(without.flash).unwrap_or(0);
    println!("\n| the agent's flash, by crate | bytes | what it is |");
    println!("| --- | ---: | --- |");
    for (name, more) in rows.iter().filter(|(_, more)| *more >= WORTH_A_ROW) {
        println!("| {name} | {more} | {} |", about(name));
    }
    println!("| the others, and differences elsewhere | {others} | |");
    println!(
        "| constants | {} | sentences for errors, tables, initial values, places of panics |",
        flash - code
    );
    println!("| together | {flash} | |");
}

/// Tells what a crate does in the agent.
fn about(name: &str) -> &'static str {
    match name {
        "otaru-device" => "the update itself with deltas, slots and memory, HTTP, MQTT, session and reports",
        "otaru-delta" => "applying deltas",
        "ed25519-compact" => {
            "signatures, with SHA-512: the smallest of those compared (`cargo xtask bench verification`)"
        }
        "otaru-format" => "releases (CBOR, COSE, manifest), images, commands, reports, partition table",
        "std::core" => "reading and searching text, parsing addresses, printing numbers",
        "serde_core" => "commands and reports",
        "otaru-lzma" => "decompressing",
        "sha2" | "digest" | "block-buffer" => "SHA-256",
        "heapless" => "texts and lists of a bounded length",
        "sequential-storage" => "the memory over restarts",
        "otaru-esp-hal" => "flash, sockets, watchdog",
        "embassy-net" | "embassy-sync" | "embassy-futures" => "what of it only the agent uses",
        "otaru-firmware" | "otaru-setup" => "starting the agent, its settings and their proof",
        "log" => "lines on the console",
        _ => "",
    }
}

/// Prints what the agent's RAM is.
fn print_ram(with: &Cost, without: &Cost) {
    let all = with.ram.saturating_sub(without.ram);
    let (workspace, sockets) = (with.workspace, with.sockets);
    println!("\n| the agent's static RAM | bytes | what it is |");
    println!("| --- | ---: | --- |");
    println!(
        "| workspace | {workspace} | LZMA's dictionary or what applying a delta needs, the manifest, buffers to flash and of HTTP |"
    );
    println!("| sockets | {sockets} | buffers of two TCP connections, above all a download's window |");
    println!(
        "| future and other variables | {} | what is taken more than without the agent, as set-up shares the future's place |",
        all.saturating_sub(workspace + sockets)
    );
    println!("| together | {all} | |");
}

fn measure(path: &Path) -> Result<Cost> {
    let bytes = fs::read(path)?;
    let program: ElfFile32<'_> = ElfFile32::parse(&bytes[..]).with_context(|| path.display().to_string())?;
    let mut flash = 0;
    let mut ram = 0;
    let mut stack = 0;
    for section in program.sections() {
        let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
        let name = section.name().unwrap_or_default();
        // What is mapped from flash takes no RAM; the stack is what is left; RTC memory is another kind; the heap in
        // memory that the bootloader has left costs the program nothing.
        let elsewhere = [".flash", ".rodata", ".text", ".rtc", ".dram2", ".espressif", ".rotext"];
        // The same RAM once more, as the other bus sees it.
        if name.contains("dummy") {
            continue;
        }
        if sh_flags.0 & elf::SHF_ALLOC.0 == 0 {
            continue;
        }
        // What has bytes in the file is in flash, also what is copied to RAM at the start.
        if section.file_range().is_some_and(|(_, len)| len > 0) {
            flash += section.size();
        }
        if elsewhere.iter().any(|other| name.starts_with(other)) {
            continue;
        }
        match name.starts_with(".stack") {
            true => stack += section.size(),
            false => ram += section.size(),
        }
    }
    let (workspace, sockets) = (variable(&program, "WORKSPACE"), variable(&program, "SOCKETS"));
    let heap = variable(&program, "HEAP");
    let data = |size: &u64| *size >= 1024;
    let mut largest: Vec<(String, u64)> = program
        .symbols()
        .filter(|symbol| symbol.kind() == object::SymbolKind::Data)
        .map(|symbol| (symbol.name().unwrap_or("?").to_owned(), symbol.size()))
        .filter(|(_, size)| data(size))
        .collect();
    largest.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    largest.truncate(12);
    Ok(Cost { flash, crates: crates(path, &program)?, ram, heap, stack, workspace, sockets, largest })
}
