//! `otaru inspect`: what a release file says it is.

use std::path::PathBuf;

use crate::output::{Outcome, Output};
use crate::release_file;
use crate::release_words::show;

const EXAMPLES: &str = "\
Examples:
  otaru inspect lamp-1.1.0.otaru
  otaru inspect --json lamp-1.1.0.otaru | jq .sequence

This shows what the file says of itself; `otaru verify` checks whether that is true. Exit code 0
means that the file is well-formed and whole.";

/// Show what is in a release file
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The file
    #[arg(value_name = "FILE.otaru")]
    file: PathBuf,
}

pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<Outcome> {
    show(&args.file, &release_file::read(&args.file)?, output)
}
