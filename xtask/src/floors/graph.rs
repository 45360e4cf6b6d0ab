//! Arrows between files, and the circles in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One file uses another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Arrow {
    pub(super) from: String,
    pub(super) to: String,
    /// The first line that does so.
    pub(super) line: usize,
}

impl fmt::Display for Arrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {} (line {})", self.from, self.to, self.line)
    }
}

/// Finds the sets of files in which each leads to each, sorted.
pub(super) fn circles(arrows: &[Arrow]) -> Vec<Vec<String>> {
    let mut next: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for arrow in arrows {
        next.entry(&arrow.from).or_default().push(&arrow.to);
    }
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        next.keys().map(|file| (*file, reachable(&next, file))).collect();
    let mut circles = BTreeSet::new();
    for (file, reach) in &reached {
        if reach.contains(file) {
            let both = |other: &&&str| reached.get(**other).is_some_and(|back| back.contains(file));
            circles.insert(reach.iter().filter(both).map(|other| (*other).to_owned()).collect::<Vec<_>>());
        }
    }
    circles.into_iter().collect()
}

/// Files that can be reached from one, itself only by a circle.
fn reachable<'a>(next: &BTreeMap<&'a str, Vec<&'a str>>, from: &str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&str> = next.get(from).cloned().unwrap_or_default();
    while let Some(file) = open.pop() {
        if seen.insert(file) {
            open.extend(next.get(file).into_iter().flatten());
        }
    }
    seen
}
