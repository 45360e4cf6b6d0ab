//! What a firmware costs in flash and RAM, with and without the agent.
//!
//! Everything is static, the agent's future included, so a program's sections tell it all but heap and stack.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use object::read::elf::ElfFile32;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionFlags, elf};

use crate::image::Image;

/// What one program costs, in bytes.
struct Cost {
    /// The update file.
    flash: u64,
    /// Static RAM: variables, and code that must not be in flash.
    ram: u64,
    /// What is left of the main memory for the stack.
    stack: u64,
    /// The largest variables.
    largest: Vec<(String, u64)>,
}

/// Prints both and the difference.
pub(crate) fn compare(chip: &str, with: &Path, without: &Path) -> Result<()> {
    let [with, without] = [measure(chip, with)?, measure(chip, without)?];
    println!("| {chip} | flash | static RAM | left for the stack |");
    println!("| --- | ---: | ---: | ---: |");
    for (name, cost) in [("whole firmware", &with), ("without the agent", &without)] {
        println!("| {name} | {} | {} | {} |", cost.flash, cost.ram, cost.stack);
    }
    let less = |a: u64, b: u64| i128::from(a) - i128::from(b);
    println!("| the agent | {} | {} | |", less(with.flash, without.flash), less(with.ram, without.ram));
    println!("\nLargest variables of the whole firmware:");
    for (name, size) in &with.largest {
        println!("{size:>8}  {name}");
    }
    Ok(())
}

fn measure(chip: &str, path: &Path) -> Result<Cost> {
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("../partitions-4mb.csv");
    let image = Image::read(chip, "4mb", &table, path)?;
    let bytes = fs::read(path)?;
    let program: ElfFile32<'_> = ElfFile32::parse(&bytes[..]).with_context(|| path.display().to_string())?;
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
        if sh_flags.0 & u64::from(elf::SHF_ALLOC.0) == 0
            || elsewhere.iter().any(|other| name.starts_with(other))
        {
            continue;
        }
        match name.starts_with(".stack") {
            true => stack += section.size(),
            false => ram += section.size(),
        }
    }
    let data = |size: &u64| *size >= 1024;
    let mut largest: Vec<(String, u64)> = program
        .symbols()
        .filter(|symbol| symbol.kind() == object::SymbolKind::Data)
        .map(|symbol| (symbol.name().unwrap_or("?").to_owned(), symbol.size()))
        .filter(|(_, size)| data(size))
        .collect();
    largest.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    largest.truncate(12);
    Ok(Cost { flash: image.app.len() as u64, ram, stack, largest })
}
