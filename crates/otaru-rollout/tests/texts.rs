//! Texts that people write: any is read or refused with its place, and what is read means what it says.

use otaru_rollout::{Percent, Span, TagExpression, Tags, TextError, Time, VersionRange, Window};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// An expression by another road than the parser's.
#[derive(Debug, Clone)]
enum Tree {
    Has(String),
    Is(String, String),
    IsNot(String, String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Not(Box<Tree>),
    And(Box<Tree>, Box<Tree>),
    Or(Box<Tree>, Box<Tree>),
}

use Tree::{And, Has, In, Is, IsNot, Not, NotIn, Or};

impl Tree {
    fn holds(&self, tags: &Tags) -> bool {
        let is = |key: &String, values: &[String]| tags.get(key).is_some_and(|value| values.contains(value));
        match self {
            Has(key) => tags.contains_key(key),
            Is(key, value) => is(key, std::slice::from_ref(value)),
            IsNot(key, value) => !is(key, std::slice::from_ref(value)),
            In(key, values) => is(key, values),
            NotIn(key, values) => !is(key, values),
            Not(tree) => !tree.holds(tags),
            And(one, other) => one.holds(tags) && other.holds(tags),
            Or(one, other) => one.holds(tags) || other.holds(tags),
        }
    }

    /// Returns the binding strength: `or` 0, `and` 1, the rest 2.
    fn rank(&self) -> u8 {
        match self {
            Or(..) => 0,
            And(..) => 1,
            _ => 2,
        }
    }

    /// With brackets only where it binds less than `rank`.
    fn within(&self, rank: u8) -> String {
        let text = self.text();
        if self.rank() < rank { format!("({text})") } else { text }
    }

    fn text(&self) -> String {
        let list = |values: &[String]| values.iter().map(|v| quoted(v)).collect::<Vec<_>>().join(",");
        match self {
            Has(key) => quoted(key),
            Is(key, value) => format!("{}={}", quoted(key), quoted(value)),
            IsNot(key, value) => format!("{} != {}", quoted(key), quoted(value)),
            In(key, values) => format!("{} in ({})", quoted(key), list(values)),
            NotIn(key, values) => format!("{} not in({})", quoted(key), list(values)),
            Not(tree) => format!("not {}", tree.within(2)),
            And(one, other) => format!("{} and {}", one.within(1), other.within(1)),
            Or(one, other) => format!("{} OR {}", one.within(0), other.within(0)),
        }
    }
}

fn quoted(name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric()) && name != "in";
    if plain { name.to_owned() } else { format!("'{}'", name.replace('\\', r"\\").replace('\'', r"\'")) }
}

/// Few, so that expressions and tags meet; one of each that needs quotes.
fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "ß", "in", "it's", r"back\slash", ""]).prop_map(str::to_owned)
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        name().prop_map(Has),
        (name(), name()).prop_map(|(key, value)| Is(key, value)),
        (name(), name()).prop_map(|(key, value)| IsNot(key, value)),
        (name(), vec(name(), 1..3)).prop_map(|(key, values)| In(key, values)),
        (name(), vec(name(), 1..3)).prop_map(|(key, values)| NotIn(key, values)),
    ];
    leaf.prop_recursive(4, 12, 2, |inner| {
        let two = (inner.clone().prop_map(Box::new), inner.clone().prop_map(Box::new));
        prop_oneof![
            inner.prop_map(|tree| Not(Box::new(tree))),
            two.clone().prop_map(|(one, other)| And(one, other)),
            two.prop_map(|(one, other)| Or(one, other)),
        ]
    })
}

fn has_a_place(error: &TextError, text: &str) -> Result<(), TestCaseError> {
    prop_assert!(text.is_char_boundary(error.at()), "{} in {text:?}", error.at());
    prop_assert!(!error.message().is_empty());
    prop_assert_eq!(error.pointer().lines().filter(|line| line.contains('^')).count() > 0, true);
    Ok(())
}

/// Texts that come near to being good ones.
fn near(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    vec(prop::sample::select(words), 0..12).prop_map(|words| words.concat())
}

const TAG_WORDS: &[&str] = &[
    "a", "site", "=", "!=", "!", "(", ")", " in ", " not ", " and ", " or ", ",", "'", "\"", "\\", " ", "ü",
    "&", "\n",
];
const VERSION_WORDS: &[&str] =
    &[">=", "<", "=", "!", "1.2.3", "1", ".", "-rc.1", ",", " ", "ü", "99999999999999999999"];
const WINDOW_WORDS: &[&str] = &["22:00", "-", "06:00", " ", "+", "02:00", ":", "99", "Z", "ü"];

proptest! {
    #[test]
    fn expressions_mean_what_they_say(tree in tree(), tags in btree_map(name(), name(), 0..4)) {
        let text = tree.text();
        let expression: TagExpression = text.parse().map_err(|error: TextError| TestCaseError::fail(error.pointer()))?;
        prop_assert_eq!(expression.matches(&tags), tree.holds(&tags), "{}", text);
        let again: TagExpression = expression.to_string().parse().map_err(|_| TestCaseError::fail("not read again"))?;
        prop_assert_eq!(again, expression);
    }

    #[test]
    fn any_expression_is_read_or_refused_with_its_place(text in prop_oneof![near(TAG_WORDS), any::<String>()]) {
        if let Err(error) = text.parse::<TagExpression>() {
            has_a_place(&error, &text)?;
        }
    }

    #[test]
    fn any_range_is_read_or_refused_with_its_place(text in prop_oneof![near(VERSION_WORDS), any::<String>()]) {
        match text.parse::<VersionRange>() {
            Err(error) => has_a_place(&error, &text)?,
            Ok(range) => prop_assert_eq!(range.to_string().parse::<VersionRange>(), Ok(range)),
        }
    }

    #[test]
    fn a_range_is_its_comparisons(version in (0..4_u8, 0..4_u8), low in (0..4_u8, 0..4_u8), high in (0..4_u8, 0..4_u8)) {
        let text = |(major, minor)| format!("{major}.{minor}.0");
        let range = format!(">={},<{}", text(low), text(high)).parse::<VersionRange>();
        let contains = range.is_ok_and(|range| range.contains(&text(version)));
        prop_assert_eq!(contains, low <= version && version < high);
    }

    #[test]
    fn any_window_is_read_or_refused(text in prop_oneof![near(WINDOW_WORDS), any::<String>()]) {
        if let Ok(window) = text.parse::<Window>() {
            prop_assert_eq!(window.to_string().parse::<Window>(), Ok(window));
        }
    }

    #[test]
    fn a_window_opens_when_it_says(from in 0..1440_u64, to in 0..1440_u64, ahead in -840..=840_i64, now in 0..400_000_000_u64) {
        prop_assume!(from != to);
        let clock = |minutes: u64| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        let sign = if ahead < 0 { '-' } else { '+' };
        let text = format!("{}-{} {sign}{}", clock(from), clock(to), clock(ahead.unsigned_abs()));
        let window: Window = text.parse().map_err(|_| TestCaseError::fail(text.clone()))?;
        let now = Time(now);
        let then = window.next_open(now);
        prop_assert!(then >= now && then.since(now) < Span::hours(24));
        prop_assert!(window.is_open(then));
        if then > now {
            prop_assert!(!window.is_open(now) && !window.is_open(Time(then.0 - 1)));
        }
        let local = (now.0 as i64 / 60_000 + ahead).rem_euclid(1440) as u64;
        let open = if from < to { from <= local && local < to } else { local >= from || local < to };
        prop_assert_eq!(window.is_open(now), open);
    }

    #[test]
    fn a_percentage_of_json_leads_back(hundredths in 0..=10_000_u32) {
        let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
        let percent: Percent = serde_json::from_str(&text).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let json = serde_json::to_string(&percent).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let again: Percent = serde_json::from_str(&json).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(again, percent);
        prop_assert!(percent.is_reached(hundredths, 10_000));
        prop_assert!(!percent.is_reached(hundredths.saturating_sub(1), 10_000) || hundredths == 0);
    }
}
