//! Output: lines, JSON, errors; and text from outside made harmless.

pub(crate) mod bar;
pub(crate) mod grid;
pub(crate) mod live;
pub(crate) mod missing;
pub(crate) mod wrap;

use std::io::Write as _;

use otaru_format::name::{is_unruly, is_unseen};
use serde_json::Value;
use tokio::sync::Notify;

use crate::moment;
use crate::output::Output;

/// Nobody reads standard output any more.
static CLOSED: Notify = Notify::const_new();

/// Resolves when nobody reads standard output any more (`| head`).
pub(crate) async fn closed() {
    CLOSED.notified().await;
}

/// Prints a line. When nobody reads any more, [`closed`] tells.
pub(crate) fn line(text: &str) {
    // It is told by `closed`.
    let _ = print(text);
}

/// Tells what a server did: as it said it in JSON, or in words.
pub(crate) fn say(output: Output, answer: &Value, text: &str) {
    if output.json { line(&answer.to_string()) } else { line(&clean(text)) }
}

/// Prints a line that must be read, such as a secret that is shown once.
///
/// # Errors
/// When it cannot be written, so that nobody reads it.
pub(crate) fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).inspect_err(|_| CLOSED.notify_one())
}

/// Prints a JSON object with the time it was printed.
pub(crate) fn event(object: Value) {
    line(&timed(object).to_string());
}

/// The object with the time as it is now.
pub(crate) fn timed(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("time".into(), moment::now().to_string().into());
    }
    object
}

/// Prints an error. Its lines are kept: a `^` may stand below a place.
pub(crate) fn error(text: &str) {
    let head = console::style("error:").red().bold().for_stderr();
    let lines: Vec<String> = text.lines().map(clean).collect();
    // There is no other place to say it.
    let _ = writeln!(std::io::stderr().lock(), "{head} {}", lines.join("\n"));
}

/// Prints a word of caution.
pub(crate) fn warn(text: &str) {
    let head = console::style("note:").yellow().bold().for_stderr();
    let _ = writeln!(std::io::stderr().lock(), "{head} {}", clean(text));
}

/// Prints a server's remarks, where they are not part of the JSON that was printed.
pub(crate) fn remark(output: Output, remarks: &[String]) {
    if !output.json {
        remarks.iter().for_each(|remark| warn(remark));
    }
}

/// Text from outside without what could move the cursor, change colours or turn the writing direction.
pub(crate) fn clean(text: &str) -> String {
    let harmless = |c: &char| !is_unruly(*c) && !is_unseen(*c);
    text.chars().map(|c| if matches!(c, '\n' | '\t' | '\r') { ' ' } else { c }).filter(harmless).collect()
}

/// A URL without the user name and password that may stand in it.
pub(crate) fn without_login(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return clean(url) };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rsplit_once('@') {
        Some((_, host)) => clean(&format!("{scheme}://…@{host}{}", &rest[end..])),
        None => clean(url),
    }
}

/// Asks on the terminal; no is what Enter means.
///
/// # Errors
/// When there is nobody to ask.
pub(crate) fn confirm(question: &str) -> anyhow::Result<bool> {
    use std::io::IsTerminal as _;
    if !std::io::stdin().is_terminal() {
        anyhow::bail!("{} There is no terminal to ask at: --yes says yes", clean(question));
    }
    let mut terminal = console::Term::stderr();
    write!(terminal, "{} [y/N] ", clean(question))?;
    Ok(matches!(terminal.read_line()?.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// So many of something: `1 device`, `2 devices`.
pub(crate) fn many(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.2} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_is_made_harmless() {
        assert_eq!(clean("a\x1b[2Jb\x07\u{202E}c\nd\u{9b}"), "a[2Jbc d");
        assert_eq!(clean("Küche 1.0-β"), "Küche 1.0-β");
    }

    #[test]
    fn passwords_in_urls_are_left_out() {
        assert_eq!(without_login("http://me:s3c@ret@h:80/a?b=@"), "http://…@h:80/a?b=@");
        assert_eq!(without_login("http://h/a@b"), "http://h/a@b");
        assert_eq!(without_login("file"), "file");
    }

    #[test]
    fn sizes_for_people() {
        assert_eq!(size(12), "12 B");
        assert_eq!(size(524_288), "512.0 KiB");
        assert_eq!(size(1_310_720), "1.25 MiB");
    }
}
