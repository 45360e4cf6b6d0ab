//! Holds a program against what its chip's main memory has room for.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use object::read::elf::ElfFile32;
use object::{Object as _, ObjectSection as _, SectionFlags, elf};

use crate::symbols::variable;

#[path = "../../src/budget.rs"]
mod table;
use table::Budget;

/// The chips, and whether their firmware takes compressed payloads and patches.
const CHIPS: [(&str, &Budget, bool); 5] = [
    ("esp32", &table::ESP32, true),
    ("esp32s2", &table::ESP32S2, false),
    ("esp32s3", &table::ESP32S3, true),
    ("esp32c3", &table::ESP32C3, true),
    ("esp32c6", &table::ESP32C6, true),
];

/// Bytes that the linker takes of the end of the stack for its guard.
const GUARD: u32 = 64;

/// Share of a linked program in its chip's main memory, in bytes.
struct Use {
    code: u32,
    /// The variables of which the compiler tells the budget, see `main.rs`.
    told: u32,
    others: u32,
    stack: u32,
}

/// Prints all budgets.
pub(crate) fn print_all() {
    println!(
        "| chip | main memory | code in it | variables | heap, with what lies behind | of it for TLS | stack | compressed, patches |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |");
    for (chip, budget, lzma) in CHIPS {
        let Budget { segment, code, variables, others: _, heap, reclaimed, stack } = budget;
        let lzma = if lzma { "yes" } else { "no" };
        let tls = budget.left_for_tls(table::TLS);
        println!(
            "| {chip} | {segment} | {code} | {variables} | {heap} + {reclaimed} | {tls} | {stack} | {lzma} |"
        );
    }
}

/// Fails where a program, with this preset of TLS or without, has more variables, or leaves less stack, than its chip's budget says.
pub(crate) fn check(chip: &str, path: &Path, tls: Option<&str>) -> Result<()> {
    let Some((_, budget, _)) = CHIPS.into_iter().find(|(name, ..)| *name == chip) else {
        bail!("no chip {chip}");
    };
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let program: ElfFile32<'_> = ElfFile32::parse(&bytes[..]).with_context(|| path.display().to_string())?;
    // What the variables of TLS have more, the heap has less.
    let more = match tls {
        None => 0,
        Some("own-server" | "any-server") => table::TLS,
        Some("prebuilt") => table::PREBUILT_TLS,
        Some(other) => bail!("no preset {other} of TLS"),
    };
    let heap = budget.heap.saturating_sub(more);
    let used = measure(&program, heap)?;
    println!(
        "main memory    {} bytes of variables, {heap} of heap, {} left for the stack",
        used.told + used.others,
        used.stack
    );
    compare(chip, &used, budget, more)
}

fn compare(chip: &str, used: &Use, budget: &Budget, more: u32) -> Result<()> {
    let variables = used.told + used.others;
    let rows = [
        ("code in RAM has", used.code, if budget.code == 0 { u32::MAX } else { budget.code }),
        ("variables have", variables, budget.variables + more),
        ("variables besides workspace and sockets have", used.others, budget.others + more),
    ];
    for (what, have, may) in rows {
        ensure!(
            have <= may,
            "{chip}: {what} {have} bytes, and firmware/src/budget.rs counts on {may}: make them smaller, or the heap"
        );
    }
    ensure!(
        budget.holds(usize::try_from(used.told)?),
        "{chip}: workspace and sockets have {} bytes",
        used.told
    );
    ensure!(
        used.stack + GUARD >= budget.stack,
        "{chip}: {} bytes are left for the stack, and an update wants {}: an update would overflow it. Make variables or \
         the heap smaller (firmware/src/budget.rs)",
        used.stack,
        budget.stack
    );
    Ok(())
}

/// Measures a program with so much heap in the segment.
fn measure(program: &ElfFile32<'_>, heap: u32) -> Result<Use> {
    let (mut code, mut variables, mut stack) = (0, 0, 0);
    for section in program.sections() {
        let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
        let (name, size) = (section.name().unwrap_or_default(), u32::try_from(section.size())?);
        if sh_flags.0 & elf::SHF_ALLOC.0 == 0 {
            continue;
        }
        match name {
            ".stack" => stack = size,
            _ if [".rwtext", ".trap", ".vectors"].iter().any(|start| name.starts_with(start)) => code += size,
            _ if [".data", ".bss", ".noinit", ".uninit"].iter().any(|start| name.starts_with(start)) => {
                variables += size;
            }
            _ => {}
        }
    }
    ensure!(stack > 0, "the program has no section .stack");
    let variables: u32 = variables;
    let variables = variables.saturating_sub(heap);
    let told = u32::try_from(variable(program, "WORKSPACE") + variable(program, "SOCKETS"))?;
    Ok(Use { code, told, others: variables.saturating_sub(told), stack })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits() -> Use {
        Use { code: 40_000, told: 60_000, others: table::ESP32C3.others, stack: 48 * 1024 }
    }

    #[test]
    fn what_fits_is_taken() {
        compare("esp32c3", &fits(), &table::ESP32C3, 0).unwrap();
        // The ESP32 has memory of its own for code.
        compare("esp32", &Use { code: 90_000, ..fits() }, &table::ESP32, 0).unwrap();
    }

    #[test]
    fn tls_has_so_much_more_of_variables_and_no_more() {
        let used = |more| Use { others: table::ESP32C3.others + more, ..fits() };
        compare("esp32c3", &used(table::TLS), &table::ESP32C3, table::TLS).unwrap();
        let error = compare("esp32c3", &used(table::TLS + 1), &table::ESP32C3, table::TLS).unwrap_err();
        assert!(error.to_string().contains("besides workspace and sockets"), "{error}");
    }

    #[test]
    fn what_would_overflow_the_stack_is_refused_with_a_sentence() {
        let cases = [
            (Use { stack: 40 * 1024, ..fits() }, "40960 bytes are left for the stack"),
            (Use { told: 90_000, ..fits() }, "variables have"),
            (Use { others: table::ESP32C3.others + 1, ..fits() }, "besides workspace and sockets"),
            (Use { code: 60_000, ..fits() }, "code in RAM has 60000 bytes"),
        ];
        for (used, sentence) in cases {
            let error = compare("esp32c3", &used, &table::ESP32C3, 0).unwrap_err().to_string();
            assert!(error.contains(sentence), "{error}");
        }
    }

    #[test]
    fn every_chip_leaves_room_for_the_deepest_update() {
        for (chip, budget, _) in CHIPS {
            assert!(budget.stack >= 40 * 1024 && budget.spare() < budget.segment, "{chip}");
            assert!(budget.heap + budget.reclaimed >= 96 * 1024, "{chip}: the radio needs a heap");
        }
    }
}
