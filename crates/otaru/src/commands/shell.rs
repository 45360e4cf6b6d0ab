//! `otaru completions` and `otaru man`: what a shell and `man` need.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Command;

use crate::output::{Outcome, Output};
use crate::ui;

/// Print completions for a shell
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  otaru completions bash > /etc/bash_completion.d/otaru
  otaru completions zsh > ~/.zfunc/_otaru
  otaru completions fish > ~/.config/fish/completions/otaru.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: clap_complete::Shell,
}

pub(crate) fn completions(args: &CompletionsArgs, program: &mut Command) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, program, "otaru", &mut text);
    ui::line(String::from_utf8_lossy(&text).trim_end());
    Outcome::Good
}

/// Write man pages
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  otaru man ~/.local/share/man/man1 && man otaru-rollout")]
pub(crate) struct ManArgs {
    /// The folder
    dir: PathBuf,
}

pub(crate) fn man(args: &ManArgs, program: Command, output: Output) -> anyhow::Result<Outcome> {
    std::fs::create_dir_all(&args.dir)
        .and_then(|()| clap_mangen::generate_to(program, &args.dir))
        .with_context(|| format!("cannot write man pages to {}", args.dir.display()))?;
    if !output.json {
        ui::line(&format!("Man pages in {}.", args.dir.display()));
    }
    Ok(Outcome::Good)
}
