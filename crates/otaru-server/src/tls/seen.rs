//! Files as they were when they were looked at last. Not their contents: whoever writes a file changes one of these.

use std::fs::Metadata;
use std::path::Path;

/// Files as they were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen(Vec<Option<Stamp>>);

type Stamp = (u64, Option<std::time::SystemTime>, (u64, i64, i64));

impl Seen {
    /// Looks at these.
    pub(super) fn now(files: &[&Path]) -> Self {
        Self(files.iter().map(|path| stamp(path)).collect())
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = path.metadata().ok()?;
    Some((found.len(), found.modified().ok(), identity(&found)))
}

/// A file that took the other's place, or whose permissions changed, is seen by these.
#[cfg(unix)]
fn identity(found: &Metadata) -> (u64, i64, i64) {
    use std::os::unix::fs::MetadataExt as _;
    (found.ino(), found.ctime(), found.ctime_nsec())
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> (u64, i64, i64) {
    (0, 0, 0)
}
