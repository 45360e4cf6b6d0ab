//! Whether a compiler can read the firmware for Xtensa: its release, and whether it has the standard library's source.

use std::path::Path;
use std::process::Command;

use crate::shell::output;

/// The first release that reads Espressif's crates for Xtensa to the end.
pub(super) const NEW_ENOUGH: (u32, u32) = (1, 98);

/// Whether a compiler comes with the source of the standard library.
pub(super) fn has_source(rustc: &mut Command) -> bool {
    let sysroot = output(rustc.args(["--print", "sysroot"]));
    sysroot.is_some_and(|sysroot| Path::new(&sysroot).join("lib/rustlib/src/rust/library").is_dir())
}

/// Whether a compiler reads Xtensa code to the end.
pub(super) fn is_new_enough(rustc: &mut Command) -> bool {
    output(rustc.arg("--version")).and_then(|said| release(&said)).is_some_and(|found| found >= NEW_ENOUGH)
}

/// Major and minor number in `rustc 1.98.1 (…)`.
fn release(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.strip_prefix("rustc ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(
            release("rustc 1.98.1 (48a229cea 2026-09-01) (built from a source tarball)"),
            Some((1, 98))
        );
        assert_eq!(release("rustc 1.100.0-nightly (0123abcde 2026-12-01)"), Some((1, 100)));
        assert!(release("rustc 1.100.0").is_some_and(|found| found >= NEW_ENOUGH));
        assert_eq!(release("cargo 1.98.1"), None);
        assert_eq!(release(""), None);
    }
}
