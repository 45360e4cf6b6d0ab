//! Debian's newest compiler in a folder of its own, whatever release of Debian the machine runs.
//!
//! Debian's package manager fetches it from the machine's own mirror and checks its signatures, with an index and a
//! list of installed packages of its own. So it fetches all libraries too, down to the C library, and nothing
//! is installed on the system; root is not needed. The programs are started by the loader that came with
//! them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::compiler::{has_source, is_new_enough};
use crate::shell::{output, program, run, tools_dir, works};

/// Packages that are wanted; the rest follows.
const PACKAGES: [&str; 3] = ["rustc", "cargo", "rust-src"];
/// Folders of the keys of Debian's archive.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];
/// For linking what runs on this machine its own compiler is better than a second one. Claiming that these are
/// there saves a third of the download.
const AT_HAND: [&str; 3] = ["gcc", "binutils", "libc6-dev"];
/// A new compiler comes to experimental first. By itself apt would take it from there only when told so by name,
/// and then also when unstable has a newer one.
const PREFERENCES: &str = "Package: src:rustc\nPin: release a=experimental\nPin-Priority: 500\n";
/// The package manager's settings for a state of its own. It fetches no more than it must, and does not hand over to
/// another user, who may not reach the folder.
const APART: &str = r#"
Dir::State "{folder}/state";
Dir::Cache "{folder}/cache";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
APT::Sandbox::User "root";
Debug::NoLocking "true";
"#;
/// The further settings for sources of its own, with no notion of what is installed.
const PRIVATE: &str = r#"
Dir::State::status "{folder}/status";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "{folder}/preferences";
Dir::Etc::preferencesparts "/dev/null";
"#;

/// A compiler and its cargo.
pub(super) struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
}

impl Toolchain {
    fn new() -> Self {
        let programs = folder().join("bin");
        Self { cargo: programs.join("cargo"), rustc: programs.join("rustc") }
    }

    /// Returns its cargo, with nothing around it that is meant for another one.
    pub(super) fn cargo(&self) -> Command {
        let mut command = program(&self.cargo);
        for name in ["RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH", "RUSTFLAGS", "RUSTC_WRAPPER"] {
            command.env_remove(name);
        }
        // Cargo tells programs where it is, and would name the loader.
        command.env("CARGO", &self.cargo).env("RUSTC", &self.rustc);
        command
    }
}

fn folder() -> PathBuf {
    tools_dir().join("xtensa")
}

/// The compiler, if it was fetched before and still works.
pub(super) fn installed() -> Option<Toolchain> {
    let toolchain = Toolchain::new();
    let rustc = || program(&toolchain.rustc);
    let works = is_new_enough(&mut rustc()) && has_source(&mut rustc());
    works.then_some(toolchain)
}

/// Fetches the compiler.
pub(super) fn install() -> Result<Toolchain> {
    let folder = folder();
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot clear {}", folder.display()))?;
    }
    let apt = Apt::new(folder.join("apt"))?;
    let packages = apt.fetch()?;
    let system = folder.join("system");
    println!("unpacking {} packages into {}", packages.len(), system.display());
    for package in packages {
        let mut command = program("dpkg-deb");
        if !works(command.arg("--extract").arg(&package).arg(&system)) {
            bail!("dpkg-deb cannot unpack {}", package.display());
        }
    }
    fs::remove_dir_all(&apt.folder)?;
    for name in ["cargo", "rustc"] {
        write_starter(&folder, &system, name)?;
    }
    installed().context("what Debian has is too old, or does not work here")
}

/// Writes a program that starts another one with the libraries that it came with.
fn write_starter(folder: &Path, system: &Path, name: &str) -> Result<()> {
    let (libraries, loader) = find_loader(&system.join("usr/lib"))?;
    let text = format!(
        "#!/bin/sh\nexec '{}' --library-path '{}' '{}' \"$@\"\n",
        loader.display(),
        libraries.display(),
        system.join("usr/bin").join(name).display()
    );
    let programs = folder.join("bin");
    fs::create_dir_all(&programs)?;
    let starter = programs.join(name);
    fs::write(&starter, text)?;
    Ok(fs::set_permissions(starter, fs::Permissions::from_mode(0o755))?)
}

/// The folder of libraries, such as `x86_64-linux-gnu`, and the loader in it.
fn find_loader(lib: &Path) -> Result<(PathBuf, PathBuf)> {
    for libraries in entries(lib)?.into_iter().filter(|path| path.is_dir()) {
        let is_loader = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with("ld-linux") || name.starts_with("ld64")
        };
        if let Some(loader) = entries(&libraries)?.into_iter().find(is_loader) {
            return Ok((libraries, loader));
        }
    }
    bail!("no loader in Debian's C library, below {}", lib.display())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    Ok(read.collect::<std::io::Result<Vec<_>>>()?.into_iter().map(|entry| entry.path()).collect())
}

/// A package manager that shares nothing with the system's but its mirror, its keys and its manners.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn new(folder: PathBuf) -> Result<Self> {
        for name in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(name))?;
        }
        let place = |settings: &str| settings.replace("{folder}", &folder.display().to_string());
        fs::write(folder.join("apart.conf"), place(APART))?;
        fs::write(folder.join("private.conf"), place(APART) + &place(PRIVATE))?;
        Ok(Self { folder })
    }

    /// Fetches the packages and returns their files.
    fn fetch(&self) -> Result<Vec<PathBuf>> {
        let archive = self.archive()?;
        let keyring = KEYRINGS.into_iter().find(|path| Path::new(path).exists());
        let keyring = keyring
            .context("the keys of Debian's archive are missing: apt-get install debian-archive-keyring")?;
        let source = |suite| format!("deb [signed-by={keyring}] {archive} {suite} main\n");
        fs::write(self.folder.join("sources.list"), source("unstable") + &source("experimental"))?;
        fs::write(self.folder.join("preferences"), PREFERENCES)?;
        fs::write(self.folder.join("status"), status()?)?;
        run(self.private().arg("update"))?;
        run(self
            .private()
            .args(["install", "--yes", "--download-only", "--no-install-recommends"])
            .args(PACKAGES))?;
        let files = entries(&self.folder.join("cache/archives"))?;
        Ok(files.into_iter().filter(|file| file.extension().is_some_and(|name| name == "deb")).collect())
    }

    /// The mirror of Debian that this machine uses.
    fn archive(&self) -> Result<String> {
        if let Some(archive) = mirror(&mut program("apt-get")) {
            return Ok(archive);
        }
        // Nobody has fetched an index yet, as in a fresh image. Ours need not be the system's.
        run(self.apart().arg("update"))?;
        mirror(&mut self.apart()).context("this machine's package manager knows no mirror of Debian")
    }

    /// apt-get with the system's sources and a state of its own.
    fn apart(&self) -> Command {
        self.with("apart.conf")
    }

    /// apt-get with sources of its own, too, and no notion of what is installed.
    fn private(&self) -> Command {
        self.with("private.conf")
    }

    fn with(&self, settings: &str) -> Command {
        let mut command = program("apt-get");
        command.args(["-qq", "--config-file"]).arg(self.folder.join(settings));
        command
    }
}

/// Returns the mirror from which an apt-get gets Debian's own packages.
fn mirror(apt_get: &mut Command) -> Option<String> {
    let format = "$(ORIGIN) $(LABEL) $(REPO_URI)";
    let list = output(apt_get.args(["indextargets", "--format", format, "Created-By: Packages"]))?;
    list.lines().find_map(|line| line.strip_prefix("Debian Debian ").map(str::to_owned))
}

/// Installed packages as dpkg lists them: what is at hand, in a version that satisfies everything.
fn status() -> Result<String> {
    let architecture = output(program("dpkg").arg("--print-architecture")).context("dpkg does not work")?;
    let entry = |name| {
        format!(
            "Package: {name}\nStatus: install ok installed\nArchitecture: {architecture}\nVersion: 99:1\n\
             Maintainer: none\nProvides: libc-dev\nDescription: this machine's own\n\n"
        )
    };
    Ok(AT_HAND.into_iter().map(entry).collect())
}
