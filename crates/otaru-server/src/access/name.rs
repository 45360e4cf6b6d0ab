//! Names that people give to things.

use otaru_format::name::{is_unruly, is_unseen};

use crate::problem::Problem;

/// Characters of the longest name.
const LONGEST: usize = 100;

/// A text that cannot be a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name has 1 to {LONGEST} characters, one of which can be seen, and none of which controls a terminal or turns the direction of writing"
)]
pub struct BadName;

impl From<BadName> for Problem {
    fn from(error: BadName) -> Self {
        Self::invalid(error.to_string())
    }
}

/// Returns a name as people give it, without blanks around it: not too long, and fit for a line.
///
/// # Errors
/// When nothing of it can be seen, it is too long, or has characters that have no place in a line.
pub fn plain_name(text: &str) -> Result<String, BadName> {
    let text = text.trim();
    if text.chars().all(|c| is_unseen(c) || c.is_whitespace())
        || text.chars().count() > LONGEST
        || text.chars().any(is_unruly)
    {
        return Err(BadName);
    }
    Ok(text.to_owned())
}
