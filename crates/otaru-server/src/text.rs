//! Texts of others, bounded.

/// Ends a text that is too long with `…`, so that it is none that somebody chose.
pub fn cut(text: &mut String, most: usize) {
    const MORE: char = '…';
    if text.contains(char::is_control) {
        *text = text.replace(char::is_control, "\u{FFFD}");
    }
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most - MORE.len_utf8()));
        text.push(MORE);
    }
}
