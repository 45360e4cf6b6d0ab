//! `cargo xtask size`: what the firmware costs in flash and RAM, with and without the agent.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::Args;

use super::{Chip, Options as Firmware, Tls, build, image_tool};
use crate::mbedtls;
use crate::shell::{output, root};

/// The lines of the document between which the tables stand.
const MARKS: [&str; 2] =
    ["<!-- cargo xtask size --write: begin -->\n", "<!-- cargo xtask size --write: end -->\n"];
/// The document with the tables.
const DOCUMENT: &str = "docs/firmware.md";

/// Options of `size`.
#[derive(Args)]
pub(crate) struct Options {
    /// The chip to measure for
    #[arg(long, value_enum, default_value = "esp32c3")]
    chip: Chip,
    /// Measure no TLS, which takes two builds more
    #[arg(long, conflicts_with = "write")]
    no_tls: bool,
    /// Put the tables into docs/firmware.md
    #[arg(long)]
    write: bool,
}

/// Builds each and prints the comparison.
pub(crate) fn size(options: &Options) -> Result<()> {
    let firmware = Firmware::shipped(options.chip);
    let folder = root().join("target/firmware/size");
    fs::create_dir_all(&folder)?;
    let [with, without] = ["with", "without"].map(|name| folder.join(format!("{name}.elf")));
    fs::copy(build(&firmware, &["--no-default-features"])?, &without)?;
    fs::copy(build(&firmware, &[])?, &with)?;
    let mut tables = output(image_tool().args(["size", options.chip.name()]).args([&with, &without]))
        .context("otaru-image cannot measure the programs")?;
    match (options.no_tls, mbedtls::remedy()) {
        (true, _) => {}
        (false, Some(remedy)) => println!("with TLS nothing is measured. {remedy}"),
        (false, None) => tables = [&tls(options.chip, &folder, &with)?, "\n", &tables].concat(),
    }
    println!("{tables}");
    if !options.write {
        return Ok(());
    }
    let file = root().join(DOCUMENT);
    let text = fs::read_to_string(&file)?;
    fs::write(file, replace(&text, &tables)?).with_context(|| format!("cannot write {DOCUMENT}"))
}

/// Measures the presets of TLS beside the firmware without.
fn tls(chip: Chip, folder: &Path, without: &Path) -> Result<String> {
    let mut programs = vec![without.to_owned()];
    for (tls, name) in [(Tls::OwnServer, "own-server.elf"), (Tls::AnyServer, "any-server.elf")] {
        let program = folder.join(name);
        fs::copy(build(&Firmware::with_tls(chip, tls), &[])?, &program)?;
        programs.push(program);
    }
    let table = output(image_tool().args(["tls", chip.name()]).args(programs));
    Ok(table.context("otaru-image cannot measure the programs with TLS")? + "\n")
}

/// Returns the document with other tables between the [marks](MARKS); what comes after a table's last line of them stays out.
fn replace(text: &str, tables: &str) -> Result<String> {
    let (before, rest) = text.split_once(MARKS[0]).with_context(|| format!("{DOCUMENT} has no mark"))?;
    let (_, after) = rest.split_once(MARKS[1]).with_context(|| format!("{DOCUMENT} has no second mark"))?;
    let end = tables.find("\nLargest variables").unwrap_or(tables.len());
    Ok([before, MARKS[0], tables[..end].trim_end(), "\n", MARKS[1], after].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_take_the_place_of_older_ones() {
        let [begin, end] = MARKS;
        let old = format!("a\n{begin}| old |\n{end}b\n");
        let new = replace(&old, "| new |\n\nLargest variables:\n 1 x").unwrap();
        assert_eq!(new, format!("a\n{begin}| new |\n{end}b\n"));
        assert!(replace("a\nb\n", "").is_err());
    }

    #[test]
    fn the_document_has_the_marks() {
        let text = fs::read_to_string(root().join(DOCUMENT)).unwrap();
        replace(&text, "| new |").unwrap();
    }
}
