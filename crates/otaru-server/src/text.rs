//! Texts of others, bounded.

use otaru_format::name::is_unruly;

/// Ends a text that is too long with `…`, so that it is none that somebody chose.
pub fn cut(text: &mut String, most: usize) {
    const MORE: char = '…';
    if text.contains(is_unruly) {
        *text = text.replace(is_unruly, "\u{FFFD}");
    }
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most - MORE.len_utf8()));
        text.push(MORE);
    }
}
