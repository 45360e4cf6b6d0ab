//! Rows of cells in aligned columns.

use console::{Alignment, measure_text_width, pad_str, style, truncate_str};

/// Lines of aligned columns, below their heads, fit for this many columns of a terminal.
pub(crate) fn grid<const N: usize>(heads: [&str; N], rows: Vec<[String; N]>, columns: usize) -> Vec<String> {
    let mut all = vec![heads.map(|head| style(head).dim().to_string())];
    all.extend(rows);
    let mut widths = [0; N];
    for row in &all {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(measure_text_width(cell));
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| pad_str(cell, width, Alignment::Left, None));
        let line = cells.collect::<Vec<_>>().join("  ");
        truncate_str(line.trim_end(), columns, "…").into_owned()
    };
    all.iter().map(line).collect()
}

/// Returns the columns of standard output; without a terminal as many as it takes.
pub(crate) fn width() -> usize {
    console::Term::stdout().size_checked().map_or(usize::MAX, |(_, columns)| usize::from(columns).max(20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![["a".into(), "bb".into()], ["ccc".into(), "d".into()]];
        let lines = grid(["X", "Y"], rows, 7);
        let plain: Vec<_> = lines.iter().map(|line| console::strip_ansi_codes(line).into_owned()).collect();
        assert_eq!(plain, ["X    Y", "a    bb", "ccc  d"]);
    }
}
