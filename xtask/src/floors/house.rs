//! The packages of a checkout: where their sources begin, and which of each other they use.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The workspaces of the house, from its folder.
const WORKSPACES: [&str; 3] = [".", "firmware", "xtask/code-size"];

/// One package.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: String,
    /// Files where its library and its programs begin.
    pub(super) roots: Vec<PathBuf>,
    /// Packages of the house that it uses, without those for its tests.
    pub(super) uses: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Described>,
}

#[derive(Deserialize)]
struct Described {
    name: String,
    targets: Vec<Target>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    src_path: PathBuf,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    path: Option<PathBuf>,
}

/// Asks cargo for the packages of a checkout.
pub(super) fn packages(checkout: &Path) -> Result<Vec<Package>> {
    let mut packages = Vec::new();
    for workspace in WORKSPACES {
        let manifest = checkout.join(workspace).join("Cargo.toml");
        let mut command = Command::new("cargo");
        command.args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"]);
        let output = command.arg(&manifest).output().context("cannot start cargo")?;
        if !output.status.success() {
            bail!("cargo metadata of {}: {}", manifest.display(), String::from_utf8_lossy(&output.stderr));
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
        packages.extend(metadata.packages.into_iter().map(Package::from));
    }
    Ok(packages)
}

impl From<Described> for Package {
    fn from(described: Described) -> Self {
        let is_source = |kind: &String| matches!(kind.as_str(), "lib" | "bin" | "staticlib");
        let targets = described.targets.into_iter().filter(|target| target.kind.iter().any(is_source));
        let own = |dependency: &Dependency| dependency.kind.is_none() && dependency.path.is_some();
        let uses = described.dependencies.into_iter().filter(own).map(|dependency| dependency.name);
        let mut uses: Vec<String> = uses.collect();
        uses.sort();
        uses.dedup();
        Self { name: described.name, roots: targets.map(|target| target.src_path).collect(), uses }
    }
}
