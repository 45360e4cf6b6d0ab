//! `cargo xtask size`: what the firmware costs in flash and RAM, with and without the agent.

use std::fs;

use anyhow::Result;
use clap::Args;

use super::{Chip, Options as Firmware, build, image_tool};
use crate::shell::{root, run};

/// Options of `size`.
#[derive(Args)]
pub(crate) struct Options {
    /// The chip to measure for
    #[arg(long, value_enum, default_value = "esp32c3")]
    chip: Chip,
}

/// Builds both and prints the comparison.
pub(crate) fn size(options: &Options) -> Result<()> {
    let firmware = Firmware::shipped(options.chip);
    let folder = root().join("target/firmware/size");
    fs::create_dir_all(&folder)?;
    let [with, without] = ["with", "without"].map(|name| folder.join(format!("{name}.elf")));
    fs::copy(build(&firmware, &["--no-default-features"])?, &without)?;
    fs::copy(build(&firmware, &[])?, &with)?;
    run(image_tool().args(["size", options.chip.name()]).args([with, without]))
}
