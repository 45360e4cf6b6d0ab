//! The heap around sessions of TLS, as a firmware with the behaviour `tell_heap` tells it, and the table of it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// Least bytes of heap that both sessions at once must leave the firmware.
const LEFT: u64 = 40 * 1024;

/// A line that tells of the heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line {
    free: u64,
    /// Fewest bytes that were free since the start.
    least: u64,
}

impl Line {
    fn read(line: &str) -> Option<Self> {
        let (free, rest) = line.split_once("heap: ")?.1.split_once(" bytes free, ")?;
        Some(Self { free: free.parse().ok()?, least: rest.split(' ').next()?.parse().ok()? })
    }
}

/// The heap in a part of a console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heap {
    /// Free bytes at its end.
    pub(super) last: u64,
    /// Fewest that a line tells of.
    pub(super) fewest: u64,
    /// Fewest since the start, between two lines too.
    pub(super) least: u64,
}

impl Heap {
    /// Reads it of the lines up to the first with `end` in it.
    pub(super) fn of(console: &str, end: &str) -> Result<Self> {
        let lines = console.lines().take_while(|line| !line.contains(end)).filter_map(Line::read);
        let join = |heap: Option<Self>, line: Line| {
            let fewest = heap.map_or(line.free, |heap| heap.fewest.min(line.free));
            Some(Self { last: line.free, fewest, least: line.least })
        };
        lines.fold(None, join).context("the console tells nothing of the heap")
    }
}

/// One update over TLS.
pub(super) struct Row {
    pub(super) part: &'static str,
    /// With the broker's session open.
    pub(super) before: u64,
    /// With the download's beside it.
    pub(super) during: u64,
    pub(super) after: u64,
    /// Fewest bytes since the start, handshakes included.
    pub(super) least: u64,
    /// Handshakes with the broker and with the web server.
    pub(super) handshakes: [Option<Duration>; 2],
}

/// Prints the table, as `docs/performance.md` shows it; fails where too little was left.
pub(super) fn judge(rows: &[Row]) -> Result<()> {
    println!(
        "| TLS, esp32c3, `own-server` | heap free before | during | after | at the least | handshake with the broker | with the web \
         server |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for Row { part, before, during, after, least, handshakes } in rows {
        let [broker, web] = handshakes
            .map(|took| took.map_or_else(|| "none".to_owned(), |took| format!("{} ms", took.as_millis())));
        println!("| {part} | {before} | {during} | {after} | {least} | {broker} | {web} |");
    }
    for Row { part, least, .. } in rows {
        ensure!(*least >= LEFT, "{part}: {least} bytes of heap left, at least {LEFT} must be");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "INFO - heap: 80000 bytes free, 79000 at the least\nINFO - wifi: address 10.0.2.15\n\
                           INFO - heap: 60000 bytes free, 51000 at the least\nINFO - heap: 70000 bytes free, 51000 at the least\n\
                           otaru-firmware 2.0.0\nINFO - heap: 90000 bytes free, 90000 at the least\n";

    #[test]
    fn the_heap_is_read_up_to_the_restart() {
        let heap = Heap::of(CONSOLE, "otaru-firmware").unwrap();
        assert_eq!(heap, Heap { last: 70_000, fewest: 60_000, least: 51_000 });
        assert_eq!(Heap::of(CONSOLE, "never").unwrap().last, 90_000);
        assert!(Heap::of("", "never").is_err());
    }

    #[test]
    fn too_little_heap_fails_the_run() {
        let row = |least| Row {
            part: "a redirect",
            before: 80_000,
            during: 60_000,
            after: 80_000,
            least,
            handshakes: [None, Some(Duration::from_millis(5))],
        };
        assert!(judge(&[row(LEFT)]).is_ok());
        let said = judge(&[row(LEFT), row(LEFT - 1)]).unwrap_err().to_string();
        assert!(said.starts_with("a redirect: "), "{said}");
    }
}
