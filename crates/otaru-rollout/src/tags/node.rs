//! The tree of conditions that a tag expression is read into.

use std::collections::BTreeMap;

/// A device's tags. A tag without a value has an empty one.
pub type Tags = BTreeMap<String, String>;

/// Tag that a device must have, whatever else is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequiredTag<'e> {
    /// Name.
    pub name: &'e str,
    /// Values of which it has one; `None` where any will do.
    pub values: Option<&'e [String]>,
}

/// A condition on tags, and the conditions it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// The tag is there, whatever its value.
    Has(String),
    /// The tag is there and has one of these values.
    OneOf(String, Vec<String>),
    /// The condition is not met.
    Not(Box<Self>),
    /// All of them are met.
    All(Vec<Self>),
    /// At least one of them is met.
    Any(Vec<Self>),
}

impl Node {
    /// Returns tags without which it is not met.
    pub(super) fn required(&self) -> Vec<RequiredTag<'_>> {
        match self {
            Self::Has(name) => vec![RequiredTag { name, values: None }],
            Self::OneOf(name, values) => vec![RequiredTag { name, values: Some(values) }],
            Self::All(nodes) => nodes.iter().flat_map(Self::required).collect(),
            Self::Not(_) | Self::Any(_) => Vec::new(),
        }
    }

    /// Whether tags fulfil it.
    pub(super) fn matches(&self, tags: &Tags) -> bool {
        match self {
            Self::Has(key) => tags.contains_key(key),
            Self::OneOf(key, values) => tags.get(key).is_some_and(|value| values.contains(value)),
            Self::Not(node) => !node.matches(tags),
            Self::All(nodes) => nodes.iter().all(|node| node.matches(tags)),
            Self::Any(nodes) => nodes.iter().any(|node| node.matches(tags)),
        }
    }
}
