//! `floors.toml`: which crates each crate may use, and on which floor each of its files stands.
//!
//! Floors are written from top to bottom. On one floor, rooms that stand in `a | b` do not know each other, those in `a, b` may.
//! A room is a module's path with everything below it, such as `api` or `api/page`; the longest one counts. `crate` is the root
//! itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::house::Package;
use super::tree::Tree;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    uses: Vec<String>,
    floors: Vec<String>,
}

/// A room's floor, from the top, and whether its neighbours may know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room {
    floor: usize,
    open: bool,
}

/// Rules of one crate.
pub(super) struct CrateFloors {
    /// Crates of this house that it may use.
    pub(super) uses: Vec<String>,
    rooms: BTreeMap<String, Room>,
}

/// Rules of all crates.
pub(super) struct Table(BTreeMap<String, CrateFloors>);

impl Table {
    /// Reads the table.
    pub(super) fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", file.display()))
    }

    /// Parses it.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let entries: BTreeMap<String, Entry> = toml::from_str(text)?;
        let crates = entries.into_iter().map(|(name, entry)| {
            let floors = CrateFloors::new(entry).with_context(|| format!("[{name}]"))?;
            Ok((name, floors))
        });
        Ok(Self(crates.collect::<Result<_>>()?))
    }

    /// Finds a crate.
    pub(super) fn of(&self, name: &str) -> Option<&CrateFloors> {
        self.0.get(name)
    }

    /// Names what the table has and the house has not.
    pub(super) fn unknown(&self, packages: &[Package]) -> Vec<String> {
        let mut unknown = Vec::new();
        for (name, floors) in &self.0 {
            let Some(package) = packages.iter().find(|package| package.name == *name) else {
                unknown.push(format!("{name}: the table has it, and there is no such crate"));
                continue;
            };
            let trees = package.roots.iter().filter_map(|root| Tree::read(root).ok());
            let files: Vec<String> = trees.flat_map(|tree| tree.files().collect::<Vec<_>>()).collect();
            for room in floors.rooms.keys() {
                if !files.iter().any(|file| floors.name(file) == Some(room)) {
                    unknown.push(format!("{name}: the table has {room}, which is nowhere"));
                }
            }
        }
        unknown
    }
}

impl CrateFloors {
    fn new(entry: Entry) -> Result<Self> {
        let mut rooms = BTreeMap::new();
        for (floor, line) in entry.floors.iter().enumerate() {
            let open = !line.contains('|');
            if !open && line.contains(',') {
                bail!("`{line}`: either all rooms of a floor know each other, or none");
            }
            for name in line.split(['|', ',']).map(str::trim) {
                if rooms.insert(name.to_owned(), Room { floor, open }).is_some() {
                    bail!("`{name}` stands on two floors");
                }
            }
        }
        Ok(Self { uses: entry.uses, rooms })
    }

    /// The room that a file is in.
    fn name(&self, file: &str) -> Option<&String> {
        let module = file.strip_suffix(".rs").unwrap_or(file);
        let module = module.strip_suffix("/mod").unwrap_or(module);
        let is_root = matches!(module, "lib" | "main") || self.rooms.is_empty();
        if is_root {
            return self.rooms.get_key_value("crate").map(|(name, _)| name);
        }
        let within = |room: &&String| {
            module.strip_prefix(room.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.rooms.keys().filter(within).max_by_key(|room| room.len())
    }

    /// Whether a file is in any room.
    pub(super) fn place(&self, file: &str) -> Option<&str> {
        self.name(file).map(String::as_str)
    }

    /// Whether a file may use another; what is in no room is told apart from this.
    pub(super) fn allows(&self, from: &str, to: &str) -> bool {
        let (Some(from), Some(to)) = (self.name(from), self.name(to)) else { return true };
        let (above, below) = (self.rooms[from], self.rooms[to]);
        from == to || above.floor < below.floor || (above.floor == below.floor && above.open)
    }
}
