//! Check of what would be published: every crate's tarball, unpacked into an empty folder, compiled and tested there against the others.
//!
//! A file that was left out, a path that leads out of a crate, and a dependency that only the workspace provides show here, and
//! nowhere else before a release. What is in `firmware/` compiles for a chip only, and is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::chip;
use crate::report::{Outcome, Skip};
use crate::shell::{cargo, program, root, run};

/// Crates whose tests need the repository around them, or take long; their tarballs are compiled only.
const COMPILED_ONLY: [&str; 3] = ["otaru", "otaru-server", "otaru-sim"];

/// Crates of the host's workspace that `firmware/` stands on.
const ON_CHIP: [&str; 4] = ["otaru-delta", "otaru-device", "otaru-format", "otaru-lzma"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// A package of the workspace.
#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    /// `Some` of an empty list where it is never published.
    publish: Option<Vec<String>>,
}

/// A workspace whose packages are published.
struct Workspace {
    /// Folder of the workspace.
    at: PathBuf,
    /// Folder for build output.
    target: PathBuf,
}

/// Packs, unpacks, compiles and tests.
pub(crate) fn check() -> Result<Outcome> {
    let host = Workspace { at: root().to_owned(), target: root().join("target") };
    let folder = root().join("target/packages");
    let packages = host.published()?;
    host.pack(&packages)?;
    host.unpack(&packages, &folder)?;
    host.write_workspace(&packages, &folder)?;
    // Third-party crates are the same as in the workspace's own build, and so are their profiles.
    let mut check = inside(cargo(&["check"]), &folder, &host);
    check.args(["--workspace", "--all-features", "--lib", "--bins", "--examples"]);
    run(&mut check)?;
    let mut test = inside(cargo(&["test"]), &folder, &host);
    test.args(["--workspace", "--all-features", "--lib", "--tests"]);
    test.args(COMPILED_ONLY.iter().flat_map(|name| ["--exclude", *name]));
    run(&mut test)?;
    on_chip(&host)
}

/// The same for the packages of the firmware, against those of the host's workspace that run on a chip.
fn on_chip(host: &Workspace) -> Result<Outcome> {
    let Some(check) = chip::cargo_for(chip::TARGET, "check") else {
        return Ok(Outcome::Skipped(Skip { reason: chip::remedy(chip::TARGET), avoidable: true }));
    };
    let firmware = Workspace { at: root().join("firmware"), target: root().join("target/firmware/build") };
    let folder = root().join("target/packages-chip");
    let own = firmware.published()?;
    firmware.pack(&own)?;
    firmware.unpack(&own, &folder)?;
    let mut packages = host.published()?;
    packages.retain(|package| ON_CHIP.contains(&package.name.as_str()));
    for package in &packages {
        host.unpack_one(package, &folder)?;
    }
    let names: Vec<String> = own.iter().map(|package| package.name.clone()).collect();
    packages.extend(own);
    firmware.write_workspace(&packages, &folder)?;
    let mut check = inside(check, &folder, &firmware);
    check.args(names.iter().flat_map(|name| ["--package", name]));
    run(check.args(["--lib", "--features", "esp32c3,heap"]))?;
    Ok(Outcome::Passed)
}

impl Workspace {
    /// Asks cargo for the packages that can be published.
    fn published(&self) -> Result<Vec<Package>> {
        let mut command = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
        let output = command.current_dir(&self.at).output().context("cannot start cargo")?;
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
        Ok(metadata.packages.into_iter().filter(|package| package.publish.is_none()).collect())
    }

    /// Makes the tarballs. They get no lock file: it would name crates that no registry has yet.
    fn pack(&self, packages: &[Package]) -> Result<()> {
        let mut pack = cargo(&["package", "--quiet", "--no-verify", "--allow-dirty", "--exclude-lockfile"]);
        pack.args(packages.iter().flat_map(|package| ["--package", package.name.as_str()]));
        run(pack.current_dir(&self.at).env("CARGO_TARGET_DIR", &self.target))
    }

    /// Unpacks each tarball into an empty folder.
    fn unpack(&self, packages: &[Package], folder: &Path) -> Result<()> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        packages.iter().try_for_each(|package| self.unpack_one(package, folder))
    }

    fn unpack_one(&self, package: &Package, folder: &Path) -> Result<()> {
        let name = format!("{}-{}", package.name, package.version);
        let mut tar = program("tar");
        // As new: all files in a tarball have one old date, by which cargo would take them for those of the last time.
        tar.arg("-xzmf").arg(self.target.join("package").join(format!("{name}.crate")));
        run(tar.arg("-C").arg(folder))?;
        fs::rename(folder.join(&name), folder.join(&package.name))?;
        Ok(())
    }

    /// Writes a workspace around them, in which each finds the others, with the profiles and the lock file of this one.
    fn write_workspace(&self, packages: &[Package], folder: &Path) -> Result<()> {
        let own: toml::Table = fs::read_to_string(self.at.join("Cargo.toml"))?.parse()?;
        let names = || packages.iter().map(|package| &package.name);
        let paths = names().map(|name| {
            (name.clone(), toml::Table::from_iter([("path".to_owned(), name.clone().into())]).into())
        });
        let mut patch = toml::Table::new();
        patch.insert("crates-io".to_owned(), toml::Value::Table(paths.collect()));
        let mut workspace = toml::Table::new();
        workspace.insert("resolver".to_owned(), "3".into());
        workspace.insert("members".to_owned(), names().cloned().collect::<Vec<_>>().into());
        let mut manifest = toml::Table::new();
        manifest.insert("workspace".to_owned(), workspace.into());
        manifest.insert("patch".to_owned(), patch.into());
        let profiles = own.get("profile").context("the workspace has no profiles")?;
        manifest.insert("profile".to_owned(), profiles.clone());
        fs::write(folder.join("Cargo.toml"), manifest.to_string())?;
        fs::copy(self.at.join("Cargo.lock"), folder.join("Cargo.lock"))?;
        Ok(())
    }
}

/// Prepares a cargo command in the folder, with a workspace's build folder.
fn inside(mut cargo: Command, folder: &Path, workspace: &Workspace) -> Command {
    cargo.current_dir(folder).env("CARGO_TARGET_DIR", &workspace.target);
    cargo
}
