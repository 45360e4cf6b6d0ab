//! Errors in texts that people write: where, what, and a line that points at it.

use std::fmt;

use otaru_format::name::is_unruly;

/// Error at a place, while the text is still being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// Bytes before the place.
    pub(crate) at: usize,
    pub(crate) message: &'static str,
}

impl SyntaxError {
    pub(crate) fn within(self, text: &str) -> TextError {
        TextError { at: self.at, message: self.message.to_owned(), text: text.to_owned() }
    }
}

/// A text that cannot be understood. Shown as a sentence; [`TextError::pointer`] shows the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextError {
    at: usize,
    message: String,
    text: String,
}

impl TextError {
    pub(crate) fn too_long(max: usize) -> Self {
        Self { at: max, message: format!("longer than {max} bytes"), text: String::new() }
    }

    /// Bytes before the place of the error.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Message, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The text, and below it a `^` at the place, for a terminal.
    pub fn pointer(&self) -> String {
        format!("{}\n{:width$}^ {}", self.line(), "", self.message, width = self.before())
    }

    /// The same error, shown with the text and a `^` below the place.
    #[must_use]
    pub fn pointed(self) -> PointedError {
        self.into()
    }

    fn before(&self) -> usize {
        self.text.get(..self.at).unwrap_or(&self.text).chars().count()
    }

    /// The text in a line: what would break it or move the cursor is shown as a blank, of the same width.
    fn line(&self) -> String {
        self.text.chars().map(|c| if is_unruly(c) { ' ' } else { c }).collect()
    }
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "at character {}: {}",
            self.text.get(..self.at).unwrap_or("").chars().count() + 1,
            self.message
        )
    }
}

impl std::error::Error for TextError {}

/// A [`TextError`] that is shown with its text and a `^` below the place. This is what reading one from JSON fails with, as serde
/// keeps nothing of an error but how it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointedError(TextError);

impl From<TextError> for PointedError {
    fn from(error: TextError) -> Self {
        Self(error)
    }
}

impl fmt::Display for PointedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = &self.0;
        write!(f, "{error}")?;
        // Of a text that is too long none is kept.
        match error.text.is_empty() {
            true => Ok(()),
            false => write!(f, "\n  {}\n  {:width$}^", error.line(), "", width = error.before()),
        }
    }
}

impl std::error::Error for PointedError {}
