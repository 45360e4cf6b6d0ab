//! Names that somebody may have meant who misspelt one.

use crate::problem::Problem;

/// The candidate that differs least from `text`, if it is near enough to be what was meant.
pub fn similar<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted: Vec<char> = letters(text);
    let allowed = (wanted.len() / 3).clamp(1, 3);
    let near = candidates.into_iter().filter(|candidate| !candidate.is_empty() && *candidate != text);
    let near = near.map(|candidate| (distance(&wanted, &letters(candidate)), candidate));
    // Something is the same.
    let is_near = |(distance, found): &(usize, &str)| {
        *distance <= allowed && *distance < wanted.len().min(found.chars().count())
    };
    near.filter(is_near).min_by_key(|(distance, _)| *distance).map(|(_, found)| found)
}

/// The end of a sentence that asks for the candidate that was meant, such as `; did you mean kitchen?`; empty where none is near.
pub fn did_you_mean<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    similar(text, candidates).map_or_else(String::new, |found| format!("; did you mean {found}?"))
}

/// Returns what counts of a name: neither its case nor how its words are joined.
fn letters(text: &str) -> Vec<char> {
    let letters = text.chars().take(64).filter(|c| !matches!(c, '-' | '_' | ' ' | '.'));
    letters.flat_map(char::to_lowercase).collect()
}

/// Returns the number of letters to insert, leave out, replace or exchange with their neighbour.
fn distance(one: &[char], other: &[char]) -> usize {
    let (mut before, mut above): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=other.len()).collect());
    for (row, letter) in one.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, with) in other.iter().enumerate() {
            let replaced = above[column] + usize::from(letter != with);
            let mut least = replaced.min(above[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && *letter == other[column - 1] && one[row - 1] == *with {
                least = least.min(before[column - 1] + 1);
            }
            current.push(least);
        }
        before = std::mem::replace(&mut above, current);
    }
    above[other.len()]
}

/// Returns a value of which only some can be: a misspelt one would look like a fleet without such devices.
///
/// # Errors
/// When it is none of them.
pub(crate) fn known<'a>(
    name: &str,
    given: Option<String>,
    all: impl IntoIterator<Item = &'a str>,
) -> Result<Option<String>, Problem> {
    let Some(text) = given else { return Ok(None) };
    let all: Vec<&str> = all.into_iter().collect();
    if all.contains(&text.as_str()) {
        return Ok(Some(text));
    }
    let meant = match did_you_mean(&text, all.iter().copied()) {
        meant if meant.is_empty() => ".".to_owned(),
        meant => meant,
    };
    Err(Problem::invalid(format!("`{name}`: there is no `{text}`{meant} It is one of: {}", all.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_name_is_not() {
        let names = ["kitchen", "hall", "porch", "rolled_back", "lamp-7"];
        for (text, found) in [
            ("kichen", "kitchen"),
            ("Kitchne", "kitchen"),
            ("rolledback", "rolled_back"),
            ("hal", "hall"),
            ("proch", "porch"),
            ("lamp_7", "lamp-7"),
        ] {
            assert_eq!(similar(text, names), Some(found), "{text}");
        }
        for text in ["", "garage", "kitchen", "x", "hell-gate"] {
            assert_eq!(similar(text, names), None, "{text}");
        }
        for text in ["", "x", "\0", "\u{fffd}", "-"] {
            assert_eq!(similar(text, ["q", "id"]), None, "{text}");
        }
        assert_eq!(similar("ip", ["q", "id"]), Some("id"));
        assert_eq!(did_you_mean("kichen", names), "; did you mean kitchen?");
        assert_eq!(did_you_mean("garage", names), "");
    }
}
