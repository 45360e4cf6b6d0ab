//! The firmware as a check: it builds for every chip that any machine can compile for, and Espressif's tool accepts what
//! comes out.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{Chip, Options, Tls, files};
use crate::report::{Outcome, Skip};
use crate::shell::{cargo, line, program, root, run};
use crate::{chip, mbedtls, tools};

/// Chips that need no compiler of Espressif's. For the others see [`crate::xtensa`].
const CHIPS: [Chip; 2] = [Chip::Esp32c3, Chip::Esp32c6];

/// Runs what of it runs here, builds the rest, and has the results looked at.
pub(crate) fn check() -> Result<Outcome> {
    here()?;
    if let Some(chip) = CHIPS.into_iter().find(|chip| !chip::can_compile(chip.target())) {
        return Ok(Outcome::Skipped(Skip { reason: chip::remedy(chip.target()), avoidable: true }));
    }
    let Some(esptool) = tools::esptool() else {
        let reason = "no esptool to look at the images: cargo xtask test --install".to_owned();
        return Ok(Outcome::Skipped(Skip { reason, avoidable: true }));
    };
    let no_tls = mbedtls::remedy();
    for chip in CHIPS {
        made(&esptool, &Options::shipped(chip))?;
        minimal(chip)?;
    }
    if let Some(reason) = no_tls {
        return Ok(Outcome::Skipped(Skip { reason, avoidable: true }));
    }
    for chip in CHIPS {
        made(&esptool, &Options::with_tls(chip, Tls::OwnServer))?;
    }
    Ok(Outcome::Passed)
}

/// Makes a firmware's files, for which it has to fit its chip's memory, and has them looked at.
fn made(esptool: &Path, options: &Options) -> Result<()> {
    let files = files(options)?;
    accepted(esptool, &files.app)?;
    merged(&files.flash, &files.app)
}

/// Formatting of all, lints and tests of the parts that are no firmware yet: what a set-up page sends, how an image is made, and TLS
/// against servers.
fn here() -> Result<()> {
    run(&mut cargo(&["fmt", "--manifest-path", "firmware/Cargo.toml", "--all", "--check"]))?;
    run(on_host("clippy").args(["--all-targets", "--", "-D", "warnings"]))?;
    run(&mut on_host("test"))?;
    if mbedtls::remedy().is_some() {
        return Ok(());
    }
    for preset in ["own-server", "any-server", "prebuilt"] {
        let mut tests = cargo(&["test", "--quiet", "--locked", "--manifest-path", "firmware/Cargo.toml"]);
        tests.args(["--package", "otaru-mbedtls", "--features", preset]);
        run(tests.args(["--target-dir", "target/firmware/build"]))?;
    }
    Ok(())
}

/// A cargo for the packages that need no chip, given its subcommand.
fn on_host(subcommand: &str) -> Command {
    let mut command = cargo(&[subcommand, "--quiet", "--locked", "--manifest-path", "firmware/Cargo.toml"]);
    command.args(["--package", "otaru-setup", "--package", "otaru-image", "--all-features"]);
    command.args(["--target-dir", "target/firmware/build"]);
    command
}

/// Checksum and hash of an update file, as Espressif's tool sees them.
fn accepted(esptool: &Path, app: &Path) -> Result<()> {
    let mut command = program(esptool);
    command.env("NO_COLOR", "1").arg("image-info").arg(app);
    println!("$ {}", line(&command));
    let output = command.output().context("esptool does not start")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let valid = text.lines().filter(|line| line.ends_with("(valid)")).count();
    ensure!(
        output.status.success() && valid == 2,
        "esptool wants a valid checksum and a valid hash, and says of {}:\n{text}{}",
        app.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The flash image ends with the update file, in the first slot.
fn merged(flash: &Path, app: &Path) -> Result<()> {
    let (flash_bytes, app_bytes) = (fs::read(flash)?, fs::read(app)?);
    let slot = flash_bytes.get(super::FIRST_SLOT..).unwrap_or_default();
    ensure!(slot.starts_with(&app_bytes), "{} does not hold {}", flash.display(), app.display());
    Ok(())
}

/// The example for those who have a firmware already.
fn minimal(chip: Chip) -> Result<()> {
    let mut command = chip::cargo_for(chip.target(), "build").context("no compiler")?;
    command.args(["--package", "otaru-minimal", "--features", chip.name(), "--locked", "--release"]);
    command.args(super::shorter(chip)?).arg("--target-dir").arg(root().join("target/firmware/build"));
    run(command.current_dir(root().join("firmware")))
}
