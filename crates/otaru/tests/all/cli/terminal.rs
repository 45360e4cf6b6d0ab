//! Output to a terminal, to one that understands nothing, and to none.

use std::process::Command;

use otaru_testing::{run, skip};

use crate::common::{firmware, otaru, path};

/// Returns what `otaru` writes to a terminal, with these variables; `None` where there is no `script`.
fn in_terminal(args: &[&str], set: &[(&str, &str)]) -> Option<String> {
    let mut command = Command::new("script");
    // `script` gives the shell one text.
    let quoted: Vec<String> = args.iter().map(|arg| format!("'{arg}'")).collect();
    let line = format!("{} {}", env!("CARGO_BIN_EXE_otaru"), quoted.join(" "));
    command.args(["-qec", &line, "/dev/null"]).env_remove("TERM").env_remove("NO_COLOR");
    command.envs(set.iter().copied());
    let Ok(output) = command.output() else {
        skip("in_terminal", "no script: apt-get install bsdutils");
        return None;
    };
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn escapes_are_for_terminals_that_want_them() {
    let dir = tempfile::tempdir().unwrap();
    let old = firmware(dir.path(), "1.0.0", "healthy").display().to_string();
    let new = firmware(dir.path(), "1.1.0", "healthy").display().to_string();
    let patch = path(dir.path(), "patch");
    // One draws in place, the other has colours.
    for args in [&["delta", &old, &new, "-o", &patch][..], &["watch", "--base", "a/#"]] {
        let Some(coloured) = in_terminal(args, &[("TERM", "xterm-256color")]) else { return };
        assert!(coloured.contains("\x1b["), "{coloured:?}");
        for plain in [&[][..], &[("TERM", "dumb")], &[("TERM", "xterm-256color"), ("NO_COLOR", "1")]] {
            let told = in_terminal(args, plain).unwrap();
            assert!(!told.contains('\x1b'), "{plain:?}: {told:?}");
            assert!(told.contains("patch") || told.contains("--base"), "{told:?}");
        }
        let ended = run(otaru(args));
        assert!(!ended.out.contains('\x1b') && !ended.err.contains('\x1b'), "{}{}", ended.out, ended.err);
    }
}
