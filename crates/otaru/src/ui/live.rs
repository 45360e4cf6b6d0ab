//! The part of a terminal that is redrawn in place, with plain lines growing above it.

use std::io::Write as _;
use std::time::{Duration, Instant};

use console::{Term, truncate_str};

use crate::output::Output;

/// Shortest time between two drawings; faster only flickers.
const FRAME: Duration = Duration::from_millis(80);

/// A redrawn area at the terminal's end.
pub(crate) struct Live {
    term: Term,
    drawn: usize,
    last: Option<Instant>,
}

impl Live {
    /// An area, if standard output is a terminal that understands escapes and nothing else writes to it. With NO_COLOR or TERM=dumb
    /// there are no escapes at all, and what changes is told in lines.
    pub(crate) fn new(output: Output) -> Option<Self> {
        let term = Term::stdout();
        if output.json || output.verbose > 0 || !term.features().colors_supported() {
            return None;
        }
        let _ = term.hide_cursor();
        Some(Self { term, drawn: 0, last: None })
    }

    /// Columns and rows of the terminal.
    pub(crate) fn size(&self) -> (usize, usize) {
        let (rows, columns) = self.term.size();
        (usize::from(columns).max(20), usize::from(rows).max(4))
    }

    /// Whether it is time for another drawing.
    pub(crate) fn due(&self) -> bool {
        self.last.is_none_or(|last| last.elapsed() >= FRAME)
    }

    /// Draws the area anew. What does not fit is counted instead.
    pub(crate) fn draw(&mut self, lines: &[String]) {
        self.last = Some(Instant::now());
        let (columns, rows) = self.size();
        let room = rows - 1;
        let mut shown: Vec<String> =
            lines.iter().take(room).map(|line| truncate_str(line, columns - 1, "…").into_owned()).collect();
        if lines.len() > room {
            let hidden = lines.len() - room + 1;
            shown.truncate(room - 1);
            shown.push(format!("… and {} that do not fit", super::many(hidden as u64, "more line")));
        }
        let mut frame = self.upwards();
        for line in &shown {
            frame.push_str(line);
            frame.push_str("\x1b[K\n");
        }
        frame.push_str("\x1b[J");
        self.drawn = shown.len();
        self.put(&frame);
    }

    /// Puts lines above the area; the next drawing brings it back below them.
    pub(crate) fn print(&mut self, text: &str) {
        let frame = format!("{}\x1b[J{text}\n", self.upwards());
        self.drawn = 0;
        self.last = None;
        self.put(&frame);
    }

    /// Makes the next drawing due.
    pub(crate) fn hurry(&mut self) {
        self.last = None;
    }

    /// Leaves what is drawn standing; the next drawing begins below it.
    pub(crate) fn keep(&mut self) {
        self.drawn = 0;
    }

    fn upwards(&self) -> String {
        match self.drawn {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\r"),
        }
    }

    fn put(&mut self, frame: &str) {
        // The next drawing tries again; a terminal that is gone ends the program by a signal.
        let _ = self.term.write_all(frame.as_bytes());
        let _ = self.term.flush();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.term.show_cursor();
    }
}
