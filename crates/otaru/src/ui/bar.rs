//! A progress bar.

use console::style;

/// Cells of a progress bar.
const BAR: usize = 16;

/// Draws a progress bar.
pub(crate) fn bar(percent: u8) -> String {
    let full = usize::from(percent.min(100)) * BAR / 100;
    format!("{}{}", style("━".repeat(full)).cyan(), style("─".repeat(BAR - full)).dim())
}
