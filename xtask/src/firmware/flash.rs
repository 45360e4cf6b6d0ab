//! `cargo xtask flash`: builds, and writes to a board with espflash.

use anyhow::{Result, bail};
use clap::Args;

use super::files;
use crate::shell::{find, program, run};

/// Options of `flash`.
#[derive(Args)]
pub(crate) struct Options {
    /// The board's serial port [default: the only one there is]
    #[arg(long)]
    port: Option<String>,
    #[command(flatten)]
    firmware: super::Options,
}

/// Writes the firmware's parts and shows what the board says. Settings, and nothing else, are left as they are.
pub(crate) fn flash(options: &Options) -> Result<()> {
    let Some(espflash) = find("espflash") else {
        bail!("no espflash: cargo install espflash --locked");
    };
    let files = files(&options.firmware)?;
    let mut command = program(espflash);
    command.args(["flash", "--monitor", "--chip", options.firmware.chip.name()]);
    // A choice that an earlier update left behind would start the other slot.
    command.args(["--erase-parts", "otadata", "--partition-table"]);
    command.arg(options.firmware.flash_size.table());
    command.args(["--flash-size", options.firmware.flash_size.name()]);
    if let Some(port) = &options.port {
        command.args(["--port", port]);
    }
    run(command.arg(files.elf))
}
