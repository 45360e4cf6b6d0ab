//! Words for a name that nothing has: what there is, and what may have been meant.

use otaru_server::similar::did_you_mean;

use super::clean;

/// The most values of a kind that are named.
const NAMED: usize = 8;

/// A sentence about a name that nothing has.
pub(crate) fn missing(kind: &str, name: &str, known: Vec<&str>) -> String {
    let meant = did_you_mean(name, known.iter().copied());
    let there = match known.len() {
        _ if !meant.is_empty() => String::new(),
        0 => format!("; there is no {kind} yet"),
        _ => format!("; there is {}", some(known.iter().map(|name| clean(name)).collect(), known.len())),
    };
    format!("there is no {kind} {}{}{there}", clean(name), clean(&meant))
}

/// The first few of so many.
pub(crate) fn some(mut texts: Vec<String>, all: usize) -> String {
    texts.truncate(NAMED);
    let more = all - texts.len();
    let text = texts.join(", ");
    if more > 0 { format!("{text} and {more} more") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_instead_is_told() {
        assert_eq!(
            missing("device", "kichen", vec!["kitchen", "hall"]),
            "there is no device kichen; did you mean kitchen?"
        );
        assert_eq!(
            missing("device", "x", vec!["kitchen", "hall"]),
            "there is no device x; there is kitchen, hall"
        );
        let many: Vec<String> = (10..30).map(|n| format!("lamp-{n}")).collect();
        let told = missing("device", "garage", many.iter().map(String::as_str).collect());
        assert!(told.ends_with("lamp-16, lamp-17 and 12 more"), "{told}");
    }
}
