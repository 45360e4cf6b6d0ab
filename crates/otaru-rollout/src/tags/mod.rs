//! Tag expressions: `site=berlin and not canary`. The grammar is in `docs/rollouts.md`, its reader in `parse.rs`.

mod node;
mod parse;
mod tag;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use self::node::Node;
pub use self::node::{RequiredTag, Tags};
pub use self::tag::Tag;
use crate::text::{PointedError, TextError};

/// A condition on a device's tags. As JSON it is its text.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TagExpression {
    text: String,
    root: Node,
}

impl TagExpression {
    /// Whether a device with these tags is meant.
    pub fn matches(&self, tags: &Tags) -> bool {
        self.root.matches(tags)
    }

    /// Returns tags that each device has of which the expression is true, each once: whoever looks for such devices may begin with those.
    /// There may be more conditions than these.
    pub fn required(&self) -> Vec<RequiredTag<'_>> {
        let mut once = Vec::new();
        for tag in self.root.required() {
            if !once.contains(&tag) {
                once.push(tag);
            }
        }
        once
    }
}

impl PartialEq for TagExpression {
    /// Whether they are built alike; how they are spaced does not count.
    fn eq(&self, other: &Self) -> bool {
        self.root == other.root
    }
}

impl Eq for TagExpression {}

impl FromStr for TagExpression {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        Ok(Self { text: text.to_owned(), root: parse::expression(text)? })
    }
}

impl fmt::Display for TagExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for TagExpression {
    type Error = PointedError;

    fn try_from(text: String) -> Result<Self, PointedError> {
        Ok(text.parse()?)
    }
}

impl From<TagExpression> for String {
    fn from(expression: TagExpression) -> Self {
        expression.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(pairs: &[(&str, &str)]) -> Tags {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn matches(expression: &str, pairs: &[(&str, &str)]) -> bool {
        expression.parse::<TagExpression>().unwrap().matches(&tags(pairs))
    }

    #[test]
    fn conditions() {
        let berlin = [("site", "berlin"), ("floor", "2"), ("canary", "")];
        for (expression, expected) in [
            ("site=berlin", true),
            ("site = 'berlin'", true),
            ("site=paris", false),
            ("site!=paris", true),
            ("room!=kitchen", true),
            ("canary", true),
            ("not canary", false),
            ("site=berlin and not canary", false),
            ("site=berlin and canary and floor=2", true),
            ("site=paris or floor=2", true),
            ("site=paris and floor=2 or canary", true),
            ("site=paris and (floor=2 or canary)", false),
            ("not (site=paris or floor=1)", true),
            ("not not canary", true),
            ("site in (paris, berlin)", true),
            ("site not in (paris,\"berlin\")", false),
            ("room not in (a)", true),
            ("NOT Canary", true),
            ("canary=''", true),
        ] {
            assert_eq!(matches(expression, &berlin), expected, "{expression}");
        }
    }

    #[test]
    fn tags_without_which_nothing_fits() {
        let required = |expression: &str| {
            let expression: TagExpression = expression.parse().unwrap();
            let tags = expression.required();
            let text = |tag: &RequiredTag<'_>| match tag.values {
                Some(values) => format!("{}={}", tag.name, values.join("|")),
                None => tag.name.to_owned(),
            };
            tags.iter().map(text).collect::<Vec<_>>()
        };
        assert_eq!(required("canary and canary"), ["canary"]);
        assert_eq!(required("site=berlin and not canary"), ["site=berlin"]);
        assert_eq!(required("site in (a, b) and (floor=2 and canary)"), ["site=a|b", "floor=2", "canary"]);
        for none in ["not canary", "site!=a", "site=a or canary", "not (site=a and canary)"] {
            assert_eq!(required(none), [""; 0], "{none}");
        }
    }

    #[test]
    fn quotes_take_anything() {
        assert!(matches(r#"'a b' = "c\"d\\e""#, &[("a b", "c\"d\\e")]));
        assert!(matches("'not'", &[("not", "")]));
        assert!(matches("ort=köln", &[("ort", "köln")]));
    }

    #[test]
    fn errors_point_at_the_place() {
        for (text, at, words) in [
            ("", 0, "expected a tag"),
            ("site=", 5, "expected a value"),
            ("site=berlin and", 15, "expected a tag"),
            ("site=berlin canary", 12, "expected and, or"),
            ("(site=berlin", 12, "expected )"),
            ("site=berlin)", 11, "no ( "),
            ("site==berlin", 5, "one ="),
            ("site in berlin", 8, "expected ("),
            ("site in ()", 9, "expected a value"),
            ("site in (a b)", 11, "expected , or )"),
            ("'site", 0, "quote is not closed"),
            (r"'si\te'", 3, "after \\"),
            ("a & b", 2, "put quotes"),
            ("a ! b", 2, "!="),
            ("and a", 0, "put quotes"),
            ("köln=", 6, "expected a value"),
            ("site not b", 9, "expected in"),
        ] {
            let error = text.parse::<TagExpression>().unwrap_err();
            assert_eq!(error.at(), at, "{text}: {error}");
            assert!(error.message().contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn the_pointer_stands_below_the_place() {
        let error = "köln= and x".parse::<TagExpression>().unwrap_err();
        assert_eq!(error.pointer().lines().nth(1).unwrap().find('^'), Some(6), "{}", error.pointer());
        assert!(error.to_string().starts_with("at character 7: "), "{error}");
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let deep = |n: usize| format!("{}a{}", "(".repeat(n), ")".repeat(n));
        assert!(deep(30).parse::<TagExpression>().is_ok());
        assert!(deep(400).parse::<TagExpression>().unwrap_err().message().contains("deep"));
        assert!("not ".repeat(200).parse::<TagExpression>().unwrap_err().message().contains("deep"));
        assert!("a or ".repeat(1_000).parse::<TagExpression>().unwrap_err().message().contains("longer"));
    }

    #[test]
    fn json_is_the_text() {
        let expression: TagExpression = serde_json::from_str(r#""site=berlin""#).unwrap();
        assert_eq!(serde_json::to_string(&expression).unwrap(), r#""site=berlin""#);
        assert!(serde_json::from_str::<TagExpression>(r#""site=""#).is_err());
    }
}
