//! Names of states: known ones as a type, others as the text that a newer server sent.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A closed set of states that each have a name on the wire.
pub trait Named: Copy + PartialEq + 'static {
    /// Returns the state of this name, if there is one.
    fn of_name(name: &str) -> Option<Self>;

    /// Returns the name.
    fn name(self) -> &'static str;
}

impl Named for otaru_rollout::Phase {
    fn of_name(name: &str) -> Option<Self> {
        Self::of_name(name)
    }

    fn name(self) -> &'static str {
        self.as_str()
    }
}

impl Named for otaru_rollout::Standing {
    fn of_name(name: &str) -> Option<Self> {
        Self::of_name(name)
    }

    fn name(self) -> &'static str {
        self.as_str()
    }
}

/// A state by its name. It is written as it was read, also where it is not known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Name<T> {
    /// A state that this version knows.
    Known(T),
    /// A state of a newer server, as it calls it.
    Other(String),
}

impl<T: Named> Name<T> {
    /// Reads a name.
    pub fn of(name: &str) -> Self {
        T::of_name(name).map_or_else(|| Self::Other(name.to_owned()), Self::Known)
    }

    /// Returns the state, if it is known.
    pub fn known(&self) -> Option<T> {
        match self {
            Self::Known(state) => Some(*state),
            Self::Other(_) => None,
        }
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(state) => state.name(),
            Self::Other(name) => name,
        }
    }
}

impl<T> From<T> for Name<T> {
    fn from(state: T) -> Self {
        Self::Known(state)
    }
}

/// The empty name, as of a field that an older server does not send.
impl<T> Default for Name<T> {
    fn default() -> Self {
        Self::Other(String::new())
    }
}

impl<T: Named> PartialEq<T> for Name<T> {
    fn eq(&self, state: &T) -> bool {
        self.known() == Some(*state)
    }
}

impl<T: Named> fmt::Display for Name<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl<T: Named> Serialize for Name<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de, T: Named> Deserialize<'de> for Name<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::of(&String::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::JobState;

    #[test]
    fn a_name_is_written_as_it_was_read() {
        for text in ["\"queued\"", "\"thinking\"", "\"\""] {
            let name: Name<JobState> = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&name).unwrap(), text);
        }
        assert_eq!(Name::of("done"), JobState::Done);
        assert_eq!(Name::<JobState>::of("thinking"), Name::Other("thinking".into()));
        assert!(serde_json::from_str::<Name<JobState>>("3").is_err());
    }
}
