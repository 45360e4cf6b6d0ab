//! Versions that can be compared: Semantic Versioning 2.0.0.

use core::cmp::Ordering;
use core::fmt;

/// A version with its precedence (Semantic Versioning 2.0.0, item 11). Build metadata does not count.
///
/// A `v` before it is passed over, as `git describe` puts one there. What `git describe` appends to the tag of an
/// older commit reads as a pre-release, so such a build counts as *before* the tagged version.
#[derive(Debug, Clone, Copy)]
pub struct SemVer<'a> {
    numbers: [u64; 3],
    pre_release: Option<&'a str>,
}

/// The text is no version of the form 1.2.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadVersion;

impl fmt::Display for BadVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a semantic version; it should look like 1.2.3 or 1.2.3-beta.1")
    }
}

impl core::error::Error for BadVersion {}

impl<'a> SemVer<'a> {
    /// Reads a version.
    ///
    /// # Errors
    /// Returns [`BadVersion`] if the text is not a version by Semantic Versioning 2.0.0.
    pub fn parse(text: &'a str) -> Result<Self, BadVersion> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let (text, build) = split_off(text, '+');
        let (core, pre_release) = split_off(text, '-');
        if !build.is_none_or(|build| identifiers_are_good(build, false))
            || !pre_release.is_none_or(|pre| identifiers_are_good(pre, true))
        {
            return Err(BadVersion);
        }
        let mut parts = core.split('.');
        let mut numbers = [0; 3];
        for slot in &mut numbers {
            *slot = parts.next().and_then(number).ok_or(BadVersion)?;
        }
        if parts.next().is_some() { Err(BadVersion) } else { Ok(Self { numbers, pre_release }) }
    }
}

fn split_off(text: &str, separator: char) -> (&str, Option<&str>) {
    match text.split_once(separator) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

fn is_numeric(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn has_leading_zero(digits: &str) -> bool {
    digits.len() > 1 && digits.starts_with('0')
}

fn number(text: &str) -> Option<u64> {
    if is_numeric(text) && !has_leading_zero(text) { text.parse().ok() } else { None }
}

fn identifiers_are_good(text: &str, zeros_matter: bool) -> bool {
    text.split('.').all(|id| {
        let letters = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        letters && !(zeros_matter && is_numeric(id) && has_leading_zero(id))
    })
}

fn compare_pre_releases(one: &str, other: &str) -> Ordering {
    let (mut ones, mut others) = (one.split('.'), other.split('.'));
    loop {
        match (ones.next(), others.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(one), Some(other)) => match compare_identifiers(one, other) {
                Ordering::Equal => {}
                unequal => return unequal,
            },
        }
    }
}

fn compare_identifiers(one: &str, other: &str) -> Ordering {
    match (is_numeric(one), is_numeric(other)) {
        // Without leading zeros the longer number is the larger one, however long.
        (true, true) => one.len().cmp(&other.len()).then_with(|| one.cmp(other)),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => one.cmp(other),
    }
}

impl Ord for SemVer<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| match (self.pre_release, other.pre_release) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(one), Some(other)) => compare_pre_releases(one, other),
        })
    }
}

impl PartialOrd for SemVer<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for SemVer<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for SemVer<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Semantic Versioning 2.0.0, item 11.
    #[test]
    fn order_is_as_in_the_standard() {
        let rising = [
            "0.9.9",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.1",
            "1.2.0",
            "1.10.0",
            "2.0.0",
        ];
        for pair in rising.windows(2) {
            assert!(SemVer::parse(pair[0]).unwrap() < SemVer::parse(pair[1]).unwrap(), "{pair:?}");
        }
        assert_eq!(SemVer::parse("v1.0.0+a"), SemVer::parse("1.0.0+b-c"));
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for bad in [
            "",
            "1",
            "1.2",
            "1.2.3.4",
            "01.2.3",
            "1.2.3-",
            "1.2.3-01",
            "1.2.3-a..b",
            "1.2.3+",
            "1.2.x",
            "-1.2.3",
            "1.2.99999999999999999999",
            "main",
        ] {
            assert_eq!(SemVer::parse(bad).unwrap_err(), BadVersion, "{bad}");
        }
    }
}
