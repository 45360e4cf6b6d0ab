//! The firmware for boards: building it ([`build`]), and what can be done with it.
//!
//! [`flash`] writes to a board, [`size`] measures, [`check`] is what is checked of it. Files to update and to flash are made by
//! the program `otaru-image` of the firmware's workspace, which has espflash in it, and so more than other checks should wait
//! for.

pub(crate) mod check;
mod chips;
pub(crate) mod flash;
pub(crate) mod size;
mod tls;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;

pub(crate) use self::chips::Chip;
pub(crate) use self::tls::Tls;
use crate::chip;
use crate::shell::{cargo, find, output, program, root, run};

/// Offset of the first slot, on every size of flash (`firmware/partitions-*.csv`).
pub(crate) const FIRST_SLOT: usize = 0x2_0000;

/// Size of a board's flash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FlashSize {
    #[value(name = "4mb")]
    Mb4,
    #[value(name = "8mb")]
    Mb8,
    #[value(name = "16mb")]
    Mb16,
}

impl FlashSize {
    /// Name on espflash's command line, and in the name of its partition table.
    fn name(self) -> &'static str {
        match self {
            Self::Mb4 => "4mb",
            Self::Mb8 => "8mb",
            Self::Mb16 => "16mb",
        }
    }

    /// Partition table.
    fn table(self) -> PathBuf {
        root().join(format!("firmware/partitions-{}.csv", self.name()))
    }
}

/// Version of a firmware where nobody gives one.
const FIRST_VERSION: &str = "1.0.0";

/// Credentials of a firmware with TLS that is checked and measured: the CA of a server of one's own, and no network.
const MEASURED_CA: &str = "xtask/src/firmware/with-tls.toml";

/// Options of `firmware`, and of `flash`, which has them among its own: clap names a group after its type, and
/// takes each name once.
#[derive(Args)]
#[group(id = "firmware")]
pub(crate) struct Options {
    /// The board's chip
    #[arg(long, value_enum)]
    chip: Chip,
    /// The version the firmware says it is
    #[arg(long, default_value = FIRST_VERSION)]
    version: String,
    /// Optimise across crates: smaller, and what belongs on a board
    #[arg(long)]
    release: bool,
    /// Credentials to build in [default: firmware/network_credentials.toml]
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,
    /// Build in nothing: each device is told on its set-up page
    #[arg(long, conflicts_with = "credentials")]
    no_credentials: bool,
    /// Size of the board's flash
    #[arg(long, value_enum, default_value = "4mb")]
    flash_size: FlashSize,
    /// TLS, for https:// and for brokers; without, there is none
    #[arg(long, value_enum, value_name = "PRESET")]
    tls: Option<Tls>,
    /// Misbehaviour of the firmware, for tests: lines of firmware/behaviours.txt, with commas between them
    #[arg(long)]
    behaviour: Option<String>,
}

impl Options {
    /// As a firmware is shipped: optimised, nothing built in, for the smallest flash.
    fn shipped(chip: Chip) -> Self {
        Self {
            chip,
            version: FIRST_VERSION.to_owned(),
            release: true,
            credentials: None,
            no_credentials: true,
            flash_size: FlashSize::Mb4,
            tls: None,
            behaviour: None,
        }
    }

    /// The same with TLS, and with [`MEASURED_CA`] to trust: without anybody the compiler would leave TLS out.
    fn with_tls(chip: Chip, tls: Tls) -> Self {
        Self {
            version: format!("{FIRST_VERSION}+tls"),
            credentials: Some(root().join(MEASURED_CA)),
            no_credentials: false,
            tls: Some(tls),
            ..Self::shipped(chip)
        }
    }
}

/// The files of one firmware.
pub(crate) struct Files {
    pub(crate) elf: PathBuf,
    pub(crate) app: PathBuf,
    pub(crate) flash: PathBuf,
}

/// `cargo xtask firmware`.
pub(crate) fn make(options: &Options) -> Result<()> {
    let files = files(options)?;
    println!("program        {}", files.elf.display());
    println!("update file    {} ({} bytes)", files.app.display(), fs::metadata(&files.app)?.len());
    println!("flash image    {}", files.flash.display());
    Ok(())
}

/// Builds a firmware for the emulator; without credentials one that is set up on its page.
pub(crate) fn for_emulator(
    version: &str,
    credentials: Option<&Path>,
    behaviour: Option<&str>,
    tls: Option<Tls>,
) -> Result<Files> {
    files(&Options {
        tls,
        version: version.to_owned(),
        credentials: credentials.map(Path::to_owned),
        no_credentials: credentials.is_none(),
        behaviour: behaviour.map(str::to_owned),
        ..Options::shipped(Chip::Esp32c3)
    })
}

/// Builds a firmware and makes its files.
fn files(options: &Options) -> Result<Files> {
    check_options(options)?;
    let built = build(options, &[])?;
    let folder = root().join("target/firmware").join(options.chip.name());
    fs::create_dir_all(&folder)?;
    let name = |end: &str| folder.join(format!("otaru-{}-{}{end}", options.chip.name(), options.version));
    let files = Files { elf: name(".elf"), app: name(".bin"), flash: name("-flash.bin") };
    fs::copy(&built, &files.elf).with_context(|| format!("cannot copy {}", built.display()))?;
    let size = options.flash_size;
    let mut command = image_tool();
    command.args(["make", options.chip.name(), size.name()]).arg(size.table());
    run(command.args([&files.elf, &files.app, &files.flash]))?;
    let mut command = image_tool();
    command.args(["budget", options.chip.name()]).arg(&files.elf);
    run(command.args(options.tls.map(Tls::name)))?;
    Ok(files)
}

/// Finds what is wrong with the options before minutes of compiling; `build.rs` of the firmware refuses the same.
fn check_options(options: &Options) -> Result<()> {
    let version = &options.version;
    let unfit = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '\\');
    if version.is_empty() || version.len() > 31 || version.contains(unfit) {
        bail!("--version {version:?}: a version has 1 to 31 bytes, and no spaces or slashes");
    }
    let known = include_str!("../../../firmware/behaviours.txt");
    let mut asked = options.behaviour.iter().flat_map(|names| names.split(','));
    if let Some(behaviour) = asked.find(|name| !known.lines().any(|known| known == *name)) {
        bail!("--behaviour {behaviour}: use some of {}", known.lines().collect::<Vec<_>>().join(", "));
    }
    let credentials = match &options.credentials {
        _ if options.no_credentials => None,
        Some(file) => Some(std::path::absolute(file)?),
        None => Some(root().join("firmware/network_credentials.toml")),
    };
    if let Some((file, error)) =
        credentials.as_ref().and_then(|file| Some((file, fs::File::open(file).err()?)))
    {
        bail!(
            "{}: {error}. Copy firmware/network_credentials.example.toml there and fill it in, name another file with \
             --credentials FILE, or build with --no-credentials a firmware that is told by phone",
            file.display()
        );
    }
    if let Some(tls) = options.tls {
        tls.check(options.chip)?;
    }
    compiler(options.chip)?;
    let Some(file) = credentials else { return Ok(()) };
    let mut command = tool("otaru-setup");
    command.args(["--features", "toml", "--bin", "check-credentials", "--"]).arg(file);
    run(command.args(options.tls.map(Tls::name)))
}

/// A cargo that builds for this chip, or what is missing for it.
fn compiler(chip: Chip) -> Result<Command> {
    match chip.is_xtensa() {
        true => espup(chip),
        false => chip::cargo_for(chip.target(), "build").with_context(|| chip::remedy(chip.target())),
    }
}

/// The program that makes images.
fn image_tool() -> Command {
    let mut command = tool("otaru-image");
    command.arg("--");
    command
}

/// A program of the firmware's workspace for this machine.
fn tool(package: &str) -> Command {
    let mut command = cargo(&["run", "--quiet", "--locked", "--profile", "tools", "--package", package]);
    command.args(["--manifest-path", "firmware/Cargo.toml", "--target-dir", "target/firmware/build"]);
    command
}

/// Compiles the firmware; where its program is. `extra` is passed on to cargo.
fn build(options: &Options, extra: &[&str]) -> Result<PathBuf> {
    let target = options.chip.target();
    let mut command = compiler(options.chip)?;
    let firmware = root().join("firmware");
    let folder = root().join("target/firmware/build");
    command.args(["--features", options.chip.name(), "--locked", "--target-dir"]).arg(&folder).args(extra);
    if let Some(tls) = options.tls {
        command.args(["--features", tls.feature()]);
    }
    if options.release {
        command.arg("--release").args(shorter(options.chip)?);
    }
    command.current_dir(&firmware).env("OTARU_VERSION", &options.version);
    command.env("OTARU_BEHAVIOUR", options.behaviour.as_deref().unwrap_or_default());
    match &options.credentials {
        Some(file) => {
            let file = std::path::absolute(file).with_context(|| format!("no file {}", file.display()))?;
            command.env("OTARU_CREDENTIALS", file);
        }
        None if options.no_credentials => _ = command.env("OTARU_CREDENTIALS", "none"),
        None => {}
    }
    run(&mut command)?;
    let profile = if options.release { "release" } else { "debug" };
    Ok(folder.join(target).join(profile).join("otaru-firmware"))
}

/// Flags for cargo that make a firmware smaller, and the same wherever it is built.
///
/// A RISC-V compiler writes every call with eight bytes, and the linker may shorten them to four or two when it is told which
/// (`relax`): 23 KB of a C3's firmware. The compiler warns in each crate that this flag may change, so warnings are for builds
/// without `--release`. Of the paths that panics name, the builder's own beginnings are left out: 6 KB.
fn shorter(chip: Chip) -> Result<[String; 2]> {
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let folders = [root().to_owned()].into_iter().chain(libraries()?);
    let mut flags: Vec<String> = folders.map(|folder| remap(&folder, "")).collect();
    if !chip.is_xtensa() {
        flags.extend(chip::sources(chip.target()).map(|folder| remap(&folder, "library")));
        flags.extend(["-Ctarget-feature=+relax".to_owned(), "-Awarnings".to_owned()]);
    }
    Ok(["--config".to_owned(), format!("target.{}.rustflags={flags:?}", chip.target())])
}

/// The folders in which cargo keeps the firmware's libraries.
fn libraries() -> Result<BTreeSet<PathBuf>> {
    let mut command = cargo(&["metadata", "--format-version", "1", "--locked"]);
    let text = output(command.args(["--manifest-path", "firmware/Cargo.toml"]));
    let metadata: Value =
        serde_json::from_str(&text.context("cargo metadata fails for firmware/Cargo.toml")?)?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let fetched = packages.iter().filter(|package| package["source"].is_string());
    let files = fetched.filter_map(|package| package["manifest_path"].as_str());
    // FOLDER/NAME-VERSION/Cargo.toml
    Ok(files.filter_map(|file| Some(Path::new(file).parent()?.parent()?.to_owned())).collect())
}

/// Espressif's compiler for chips with Xtensa cores, which espup installs.
fn espup(chip: Chip) -> Result<Command> {
    const INSTALL: &str = "cargo install espup --locked && espup install && . ~/export-esp.sh";
    let name = chip.name();
    let sysroot = output(program("rustup").args(["run", "esp", "rustc", "--print", "sysroot"]));
    if !sysroot.is_some_and(|root| Path::new(&root).is_dir()) {
        bail!("{name} has an Xtensa core and needs Espressif's compiler: {INSTALL}");
    }
    if find("xtensa-esp-elf-gcc").or_else(|| find(&format!("xtensa-{name}-elf-gcc"))).is_none() {
        bail!("Espressif's linker is not on the PATH: . ~/export-esp.sh");
    }
    let mut command = program("rustup");
    command.env_remove("RUSTUP_TOOLCHAIN").args(["run", "esp", "cargo", "build", "-Zbuild-std=core,alloc"]);
    command.args(["--target", chip.target()]);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(options: &Options) -> String {
        check_options(options).unwrap_err().to_string()
    }

    #[test]
    fn calls_are_short_and_paths_are_not_of_this_machine() {
        let [_, c3] = shorter(Chip::Esp32c3).unwrap();
        let flags = c3.strip_prefix("target.riscv32imc-unknown-none-elf.rustflags=").unwrap();
        let flags: Vec<String> = serde_json::from_str(flags).unwrap();
        assert!(flags.contains(&"-Ctarget-feature=+relax".to_owned()), "{c3}");
        let libraries = libraries().unwrap();
        assert!(!libraries.is_empty());
        for folder in libraries.into_iter().chain([root().to_owned()]) {
            assert!(flags.contains(&format!("--remap-path-prefix={}=", folder.display())), "{c3}");
        }
        // Xtensa's instructions have no such calls, and its compiler no such feature.
        assert!(!shorter(Chip::Esp32s3).unwrap()[1].contains("relax"));
    }

    #[test]
    fn mistakes_are_told_before_anything_is_compiled() {
        let shipped = || Options::shipped(Chip::Esp32c3);
        for version in ["", "1.0 beta", "../1.0", "a-version-that-has-more-than-31-bytes"] {
            let said = complaint(&Options { version: version.to_owned(), ..shipped() });
            assert!(said.contains("1 to 31 bytes"), "{version}: {said}");
        }
        let said = complaint(&Options { behaviour: Some("explode".to_owned()), ..shipped() });
        assert!(said.starts_with("--behaviour explode: use some of block, "), "{said}");
        let credentials = Some(PathBuf::from("/nowhere/network.toml"));
        let said = complaint(&Options { credentials, no_credentials: false, ..shipped() });
        assert!(
            said.starts_with("/nowhere/network.toml: No such file") && said.contains("--no-credentials"),
            "{said}"
        );
    }

    /// The code that a user has to write must stay little.
    #[test]
    fn the_agent_takes_twenty_lines_of_a_firmware() {
        let file = root().join("firmware/examples/minimal/src/main.rs");
        let text = fs::read_to_string(file).unwrap();
        let mut inside = false;
        let mut count = 0;
        for line in text.lines().map(str::trim) {
            match line {
                "// otaru: begin" => inside = true,
                "// otaru: end" => inside = false,
                "" => {}
                _ => count += usize::from(inside),
            }
        }
        assert!((1..=20).contains(&count), "{count} lines");
    }
}
