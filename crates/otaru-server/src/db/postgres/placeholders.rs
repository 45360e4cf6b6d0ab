//! Parameters of statements as PostgreSQL writes them: `?` and `?2` become `$1` and `$2`.

/// Rewrites a statement's parameters. Quoted text and names are left alone.
pub(super) fn numbered(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len() + 8);
    let mut chars = sql.chars().peekable();
    let mut quote = None;
    let mut last = 0;
    while let Some(c) = chars.next() {
        match quote {
            Some(end) => {
                out.push(c);
                if c == end {
                    quote = None;
                }
            }
            None if c == '?' => {
                let mut number = None::<usize>;
                while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                    number = Some(number.unwrap_or(0) * 10 + digit as usize);
                    chars.next();
                }
                last = number.unwrap_or(last + 1);
                out.push('$');
                out.push_str(&last.to_string());
            }
            None => {
                if c == '\'' || c == '"' {
                    quote = Some(c);
                }
                out.push(c);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::numbered;

    #[test]
    fn parameters_are_numbered() {
        assert_eq!(numbered("a = ? AND b = ?"), "a = $1 AND b = $2");
        assert_eq!(numbered("a = ?2 OR a = ?1 OR ?2 IS NULL"), "a = $2 OR a = $1 OR $2 IS NULL");
        assert_eq!(numbered("LIMIT ?12"), "LIMIT $12");
    }

    #[test]
    fn quoted_text_stays() {
        assert_eq!(
            numbered("a = '?' AND \"?\" = ? AND b = 'it''s ?'"),
            "a = '?' AND \"?\" = $1 AND b = 'it''s ?'"
        );
    }
}
