//! Check of what would be published: every crate's tarball, unpacked into an empty folder, compiled and tested there against the others.
//!
//! A file that was left out, a path that leads out of a crate, and a dependency that only the workspace provides show here, and
//! nowhere else before a release.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::report::Outcome;
use crate::shell::{cargo, program, root, run};

/// Crates whose tests need the repository around them, or take long; their tarballs are compiled only.
const COMPILED_ONLY: [&str; 3] = ["otaru", "otaru-server", "otaru-sim"];

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

/// Packs, unpacks, compiles and tests.
pub(crate) fn check() -> Result<Outcome> {
    let packages = published()?;
    pack(&packages)?;
    let folder = root().join("target/packages");
    unpack(&packages, &folder)?;
    write_workspace(&packages, &folder)?;
    // Third-party crates are the same as in the workspace's own build, and so are their profiles.
    let mut check = inside(&folder, "check");
    check.args(["--workspace", "--all-features", "--lib", "--bins", "--examples"]);
    run(&mut check)?;
    let mut test = inside(&folder, "test");
    test.args(["--workspace", "--all-features", "--lib", "--tests"]);
    test.args(COMPILED_ONLY.iter().flat_map(|name| ["--exclude", *name]));
    run(&mut test)?;
    Ok(Outcome::Passed)
}

/// Asks cargo for the packages that can be published.
fn published() -> Result<Vec<Package>> {
    let output =
        cargo(&["metadata", "--no-deps", "--format-version", "1"]).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    Ok(metadata.packages.into_iter().filter(|package| package.publish.is_none()).collect())
}

fn pack(packages: &[Package]) -> Result<()> {
    let mut pack = cargo(&["package", "--no-verify", "--allow-dirty"]);
    pack.args(packages.iter().flat_map(|package| ["--package", package.name.as_str()]));
    run(&mut pack)
}

/// Unpacks each tarball into an empty folder.
fn unpack(packages: &[Package], folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    for package in packages {
        let name = format!("{}-{}", package.name, package.version);
        let mut tar = program("tar");
        tar.arg("-xzf").arg(root().join("target/package").join(format!("{name}.crate")));
        run(tar.arg("-C").arg(folder))?;
        fs::rename(folder.join(&name), folder.join(&package.name))?;
    }
    Ok(())
}

/// Writes a workspace around them, in which each finds the others, with the profiles and the lock file of this one.
fn write_workspace(packages: &[Package], folder: &Path) -> Result<()> {
    let own: toml::Table = fs::read_to_string(root().join("Cargo.toml"))?.parse()?;
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
    manifest
        .insert("profile".to_owned(), own.get("profile").context("the workspace has no profiles")?.clone());
    fs::write(folder.join("Cargo.toml"), manifest.to_string())?;
    fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock"))?;
    Ok(())
}

/// Prepares a cargo command in the folder, with the workspace's build folder.
fn inside(folder: &Path, command: &str) -> Command {
    let mut cargo = cargo(&[command]);
    let target: PathBuf = root().join("target");
    cargo.current_dir(folder).env("CARGO_TARGET_DIR", target);
    cargo
}
