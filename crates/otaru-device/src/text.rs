//! Texts of a bounded length: what does not fit is cut, between two characters, and never dropped whole.

use core::fmt::{self, Write};

use heapless::String;
use heapless::string::StringView;

/// Writes as much of a text as there is room for.
struct Cut<'a>(&'a mut StringView);

impl Write for Cut<'_> {
    /// Fails once something was cut, so that no later part is written behind the gap.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.0.capacity() - self.0.len();
        let fits = &text[..text.floor_char_boundary(room)];
        self.0.push_str(fits).map_err(|_| fmt::Error)?;
        if fits.len() == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Logs for information. In one place, because the log's own macros take a hundred bytes of flash each time.
pub(crate) fn info(text: fmt::Arguments<'_>) {
    log::info!(target: "otaru", "{text}");
}

/// Logs a warning.
pub(crate) fn warn(text: fmt::Arguments<'_>) {
    log::warn!(target: "otaru", "{text}");
}

/// Logs an error.
pub(crate) fn error(text: fmt::Arguments<'_>) {
    log::error!(target: "otaru", "{text}");
}

/// Returns the text as far as it fits.
pub fn cut<const N: usize>(text: &str) -> String<N> {
    let mut cut = String::new();
    let _ = Cut(cut.as_mut_view()).write_str(text);
    cut
}

/// Returns the formatted text as far as it fits.
pub fn format<const N: usize>(text: fmt::Arguments<'_>) -> String<N> {
    let mut cut = String::new();
    let _ = Cut(cut.as_mut_view()).write_fmt(text);
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_kept() {
        assert_eq!(cut::<4>("abcd"), "abcd");
        assert_eq!(cut::<4>(""), "");
        assert_eq!(format::<6>(format_args!("{}-{}", 12, "ab")), "12-ab");
    }

    #[test]
    fn a_text_that_does_not_fit_is_cut_and_not_dropped() {
        assert_eq!(cut::<4>("abcdefgh"), "abcd");
        assert_eq!(format::<10>(format_args!("ERROR: {}: {}", "panic", "at main")), "ERROR: pan");
        assert_eq!(format::<16>(format_args!("ERROR: {}: {}", "panic", "at main")), "ERROR: panic: at");
    }

    #[test]
    fn a_letter_is_never_cut_in_two() {
        assert_eq!(cut::<4>("aäöü"), "aä");
        assert_eq!(cut::<1>("ä"), "");
        assert_eq!(cut::<5>("🦀🦀"), "🦀");
    }

    #[test]
    fn nothing_follows_a_gap() {
        assert_eq!(format::<4>(format_args!("{}{}", "abcé", "d")), "abc");
        assert_eq!(format::<5>(format_args!("{}{}", "abcdefgh", "i")), "abcde");
    }
}
