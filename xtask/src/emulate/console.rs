//! The serial console, held against what `docs/serial-console.md` shows.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::shell::root;

const FILE: &str = "docs/serial-console.md";

/// Each line of the file's block ```` ```text <part> ```` must be on the console, in this order; others may be between.
/// `…` stands for anything.
pub(super) fn compare(part: &str, console: &str) -> Result<()> {
    let text = fs::read_to_string(root().join(FILE)).with_context(|| format!("cannot read {FILE}"))?;
    let fence = format!("```text {part}");
    let block = text.lines().skip_while(|line| *line != fence).skip(1).take_while(|line| *line != "```");
    let mut expected = block.filter(|line| !line.is_empty()).peekable();
    if expected.peek().is_none() {
        bail!("{FILE} has no block {fence}");
    }
    let console = plain(console);
    let mut lines = console.lines();
    for wanted in expected {
        if !lines.any(|line| matches(wanted, line.trim_end())) {
            bail!("the console does not show this line of {FILE}, or not in this order: {wanted}");
        }
    }
    Ok(())
}

/// Without the bootloader's colours.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut parts = text.split("\u{1b}[");
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        out.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    out
}

fn matches(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut open = false;
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
        open = part.is_empty();
    }
    open || rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_stand_for_anything() {
        assert!(matches("slot 0; looked at it in … ms", "slot 0; looked at it in 12 ms"));
        assert!(matches("a … b …", "a 1 b 2"));
        assert!(matches("a", "a"));
        assert!(!matches("a", "ab"));
        assert!(!matches("a … c", "a b"));
    }

    #[test]
    fn colours_are_left_out() {
        assert_eq!(plain("\u{1b}[0;32mI boot\u{1b}[0m\n"), "I boot\n");
    }
}
