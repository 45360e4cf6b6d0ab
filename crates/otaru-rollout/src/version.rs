//! Ranges of versions.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use otaru_format::release::SemVer;
use serde::{Deserialize, Serialize};

use crate::text::{PointedError, SyntaxError, TextError};

/// Bytes of the longest range.
const MAX_TEXT: usize = 256;

/// A range of versions: comparisons that must all hold, such as `>=1.2.0, <2.0.0`.
///
/// Versions are ordered as Semantic Versioning 2.0.0, item 11, has it, and nothing else: `1.9.0-rc.1` is within `<2.0.0`
/// although Cargo, which chooses dependencies and not devices, would leave it out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(value_type = String, example = ">=1.0.0, <2.0.0"))]
#[serde(try_from = "String", into = "String")]
pub struct VersionRange(Vec<Comparison>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Comparison {
    operator: Operator,
    /// A version that [`SemVer`] reads.
    version: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Longer ones first: `<=` begins with `<`.
const OPERATORS: [(&str, Operator); 6] = [
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("=", Operator::Equal),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

impl Operator {
    fn as_str(self) -> &'static str {
        OPERATORS.iter().find(|(_, operator)| *operator == self).map_or("", |(text, _)| text)
    }

    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

impl VersionRange {
    /// Whether this version is in the range. What is no semantic version is in none.
    pub fn contains(&self, version: &str) -> bool {
        let Ok(version) = SemVer::parse(version) else { return false };
        self.0.iter().all(|comparison| {
            SemVer::parse(&comparison.version)
                .is_ok_and(|bound| comparison.operator.holds(version.cmp(&bound)))
        })
    }
}

fn comparison(text: &str, at: usize) -> Result<Comparison, SyntaxError> {
    let fail = |at, message| SyntaxError { at, message };
    let found = OPERATORS.iter().find_map(|(sign, operator)| Some((*operator, text.strip_prefix(sign)?)));
    let Some((operator, rest)) = found else {
        return Err(fail(at, "expected a comparison: one of = != < <= > >= and a version, as in >=1.2.0"));
    };
    let version = rest.trim();
    let at = at + text.len() - rest.trim_start().len();
    match SemVer::parse(version) {
        Ok(_) => Ok(Comparison { operator, version: version.to_owned() }),
        Err(_) => Err(fail(at, "not a whole version; it should look like 1.2.3 or 1.2.3-beta.1")),
    }
}

impl FromStr for VersionRange {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if text.len() > MAX_TEXT {
            return Err(TextError::too_long(MAX_TEXT));
        }
        let mut comparisons = Vec::new();
        let mut at = 0;
        for part in text.split(',') {
            let start = at + part.len() - part.trim_start().len();
            comparisons.push(comparison(part.trim(), start).map_err(|error| error.within(text))?);
            at += part.len() + 1;
        }
        Ok(Self(comparisons))
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, comparison) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            write!(f, "{comma}{}{}", comparison.operator.as_str(), comparison.version)?;
        }
        Ok(())
    }
}

impl TryFrom<String> for VersionRange {
    type Error = PointedError;

    fn try_from(text: String) -> Result<Self, PointedError> {
        Ok(text.parse()?)
    }
}

impl From<VersionRange> for String {
    fn from(range: VersionRange) -> Self {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(range: &str, version: &str) -> bool {
        range.parse::<VersionRange>().unwrap().contains(version)
    }

    #[test]
    fn comparisons() {
        for (range, version, is_in) in [
            (">=1.2.0, <2.0.0", "1.2.0", true),
            (">=1.2.0, <2.0.0", "1.10.0", true),
            (">=1.2.0, <2.0.0", "2.0.0", false),
            (">=1.2.0, <2.0.0", "2.0.0-rc.1", true),
            (">=1.2.0", "1.2.0-rc.1", false),
            ("=1.2.3", "v1.2.3+build", true),
            ("!=1.2.3", "1.2.3", false),
            ("!= 1.2.3", "1.2.4", true),
            ("<=1.0.0", "1.0.0", true),
            (">1.0.0", "1.0.0", false),
            (">1.0.0", "1.0.1", true),
            (">=0.0.0", "main-dirty", false),
            ("!=1.0.0", "", false),
        ] {
            assert_eq!(contains(range, version), is_in, "{version} in {range}");
        }
    }

    #[test]
    fn errors_point_at_the_place() {
        for (text, at) in [
            ("", 0),
            ("1.2.0", 0),
            (">=1.2", 2),
            (">= 1.x.0", 3),
            (">=1.0.0, <2", 10),
            (">=1.0.0,", 8),
            ("<>1.0.0", 1),
        ] {
            let error = text.parse::<VersionRange>().unwrap_err();
            assert_eq!(error.at(), at, "{text}: {error}");
        }
        assert!("<".repeat(300).parse::<VersionRange>().is_err());
    }

    #[test]
    fn text_leads_back() {
        let range: VersionRange = " >=1.2.0 ,<  2.0.0-rc.1 ".parse().unwrap();
        assert_eq!(range.to_string(), ">=1.2.0, <2.0.0-rc.1");
        assert_eq!(range.to_string().parse::<VersionRange>().unwrap(), range);
    }
}
