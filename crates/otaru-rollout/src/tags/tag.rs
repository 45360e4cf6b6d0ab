//! One tag as people write it.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// A tag: a name, and a value that may be empty. Written `site=berlin`, or `canary` where there is no value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag {
    /// Name, such as `site`.
    pub name: String,
    /// Value, such as `berlin`.
    pub value: String,
}

impl FromStr for Tag {
    type Err = Infallible;

    /// Reads a tag. Blanks around name and value do not count; which names are allowed is for the server to say.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        Ok(Self { name: name.trim().to_owned(), value: value.trim().to_owned() })
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value.as_str() {
            "" => f.write_str(&self.name),
            value => write!(f, "{}={value}", self.name),
        }
    }
}

impl From<(&String, &String)> for Tag {
    /// Takes an entry of [`Tags`](super::Tags).
    fn from((name, value): (&String, &String)) -> Self {
        Self { name: name.clone(), value: value.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_and_written() {
        for (text, name, value, written) in [
            ("canary", "canary", "", "canary"),
            ("site=berlin", "site", "berlin", "site=berlin"),
            (" site = berlin ", "site", "berlin", "site=berlin"),
            ("a=b=c", "a", "b=c", "a=b=c"),
            ("a=", "a", "", "a"),
        ] {
            let Ok(tag) = text.parse::<Tag>();
            assert_eq!((tag.name.as_str(), tag.value.as_str()), (name, value), "{text}");
            assert_eq!(tag.to_string(), written);
        }
    }
}
