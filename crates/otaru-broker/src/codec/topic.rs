//! Topic names and topic filters: their form, and whether they match.

/// Most levels of a topic or a filter. Mosquitto has 200; it keeps walks through trees short.
pub(crate) const MAX_LEVELS: usize = 128;

/// Most levels of a filter with wildcards. Each level of each such filter may be looked at for a message, while all others wait.
pub(crate) const MAX_WILDCARD_LEVELS: usize = 32;

/// Whether a text has a length that can be told, and not too many levels.
fn fits(text: &str) -> bool {
    text.len() <= u16::MAX.into() && text.bytes().filter(|byte| *byte == b'/').count() < MAX_LEVELS
}

/// Whether a message may have this topic.
pub(crate) fn is_topic(text: &str) -> bool {
    !text.is_empty() && !text.contains(['+', '#', '\0']) && fits(text)
}

/// Whether this is a filter: wildcards fill a level, and `#` is the last.
pub(crate) fn is_filter(text: &str) -> bool {
    let mut levels = text.split('/').peekable();
    let mut good = !text.is_empty() && !text.contains('\0') && fits(text);
    good &= !has_wildcards(text) || text.split('/').count() <= MAX_WILDCARD_LEVELS;
    while let Some(level) = levels.next() {
        good &= match level {
            "#" => levels.peek().is_none(),
            "+" => true,
            _ => !level.contains(['+', '#']),
        };
    }
    good
}

pub(crate) fn has_wildcards(filter: &str) -> bool {
    filter.contains(['+', '#'])
}

/// Whether this is of the form of a shared subscription.
pub(crate) fn is_shared(filter: &str) -> bool {
    filter.starts_with("$share/") || filter == "$share"
}

/// Whether a filter matches a topic. Wildcards at the beginning match nothing that begins with `$`.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for good in ["a", "/", "a//b", "+", "#", "a/+/b", "a/#", "+/#", "$SYS/#", " "] {
            assert!(is_filter(good), "{good}");
        }
        for bad in ["", "a#", "#/a", "a+", "a/+b", "a/#/b", "##", "a\0"] {
            assert!(!is_filter(bad), "{bad}");
        }
        assert!(is_topic("a/b") && !is_topic("a/+") && !is_topic("") && !is_topic("#"));
        assert!(is_topic(&"/".repeat(127)) && !is_topic(&"/".repeat(128)));
        assert!(is_filter(&"/".repeat(127)) && !is_filter(&"/".repeat(128)));
        let long = "a".repeat(65_536);
        assert!(is_topic(&long[1..]) && !is_topic(&long) && is_filter(&long[1..]) && !is_filter(&long));
        assert!(is_shared("$share/g/a") && !is_shared("$shared/a"));
    }

    #[test]
    fn filters_match_as_the_standard_says() {
        for (filter, topic) in [
            ("sport/tennis/player1/#", "sport/tennis/player1"),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/x"),
            ("sport/#", "sport"),
            ("#", "sport/a"),
            ("+", "a"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("sport/+", "sport/"),
            ("$SYS/#", "$SYS/a"),
            ("$SYS/+", "$SYS/a"),
            ("a", "a"),
        ] {
            assert!(matches(filter, topic), "{filter} {topic}");
        }
        for (filter, topic) in [
            ("sport/+", "sport"),
            ("+", "/finance"),
            ("sport/tennis/+", "sport/tennis/p/r"),
            ("#", "$SYS/a"),
            ("+/a", "$SYS/a"),
            ("a", "a/b"),
            ("a/b", "a"),
            ("a", "A"),
        ] {
            assert!(!matches(filter, topic), "{filter} {topic}");
        }
    }
}
