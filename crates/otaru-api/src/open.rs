//! Parts that a newer server may have in a form that is not known.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A part of an answer. It is written as it was read, also where its form is not known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Open<T> {
    /// The part in a form that this version knows.
    Known(T),
    /// The part as a newer server sent it.
    Other(Value),
}

impl<T> Open<T> {
    /// Returns the part, if its form is known.
    pub const fn known(&self) -> Option<&T> {
        match self {
            Self::Known(part) => Some(part),
            Self::Other(_) => None,
        }
    }
}

impl<T> From<T> for Open<T> {
    fn from(part: T) -> Self {
        Self::Known(part)
    }
}

/// Nothing, as of a field that an older server does not send.
impl<T> Default for Open<T> {
    fn default() -> Self {
        Self::Other(Value::Null)
    }
}
