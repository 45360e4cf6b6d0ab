//! What surrounds every page, and the page that tells of a failure.

use askama::Template;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};

use super::assets::{PLACES, Places};
use super::visitor::{self, Visitor};
use crate::problem::Problem;

/// The places one can go to from everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Overview,
    Devices,
    Releases,
    Rollouts,
    Audit,
    Keys,
    None,
}

/// What surrounds a page.
#[derive(Debug)]
pub(super) struct Shell {
    /// What it is called.
    pub(super) title: String,
    /// Where it is.
    pub(super) section: Section,
    /// Who looks at it; nobody, where one is not logged in.
    pub(super) name: Option<String>,
    /// What they may do.
    pub(super) role: String,
    pub(super) operates: bool,
    pub(super) administers: bool,
    /// What happened before.
    pub(super) notice: Option<Notice>,
    /// What makes it worth drawing anew: kinds of events, some with an id, `device/kitchen rollout`.
    pub(super) live: String,
    /// When it was asked for, in milliseconds since 1970.
    pub(super) now: i64,
    /// How many events there had been then.
    pub(super) since: u64,
    pub(super) assets: &'static Places,
}

impl Shell {
    /// Around a page of this section.
    pub(super) fn new(visitor: &Visitor, section: Section, title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            section,
            name: Some(visitor.caller.name.clone()),
            role: visitor.caller.role.to_string(),
            operates: visitor.operates(),
            administers: visitor.administers(),
            notice: visitor.notice.clone(),
            live: String::new(),
            now: visitor.now,
            since: visitor.since,
            assets: &PLACES,
        }
    }

    /// Around a page for everybody.
    pub(super) fn bare(title: &str) -> Self {
        Self {
            title: title.into(),
            section: Section::None,
            name: None,
            role: String::new(),
            operates: false,
            administers: false,
            notice: None,
            live: String::new(),
            now: 0,
            since: 0,
            assets: &PLACES,
        }
    }

    /// The same, drawn anew when one of these happens.
    pub(super) fn live(mut self, what: impl Into<String>) -> Self {
        self.live = what.into();
        self
    }

    /// For the navigation.
    pub(super) fn current(&self, section: Section) -> &'static str {
        if self.section == section { " aria-current=\"page\"" } else { "" }
    }
}

/// What a page tells at its top: that something was done, or why it was not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) good: bool,
    pub(super) text: String,
}

/// Bytes of the longest text that is told.
const LONGEST: usize = 1_200;

impl Notice {
    /// Something was done.
    pub(super) fn done(text: impl Into<String>) -> Self {
        Self { good: true, text: text.into() }
    }

    /// Something was not done.
    pub(super) fn failed(text: impl Into<String>) -> Self {
        Self { good: false, text: text.into() }
    }

    /// As a cookie has it.
    pub(super) fn written(&self) -> String {
        let mut text = self.text.clone();
        text.truncate(text.floor_char_boundary(LONGEST));
        let text: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
        format!("{}:{text}", if self.good { "done" } else { "failed" })
    }

    /// From a cookie.
    pub(super) fn read(cookie: &str) -> Option<Self> {
        let (kind, text) = cookie.split_once(':')?;
        // A pair without a value is a name.
        let (text, _) = form_urlencoded::parse(text.as_bytes()).next()?;
        Some(Self { good: kind == "done", text: text.chars().take(LONGEST).collect() })
    }
}

/// To another page, which tells something.
pub(super) fn go(to: &str, notice: &Notice) -> Response {
    let mut response = Redirect::to(to).into_response();
    if let Some(cookie) = visitor::notice_cookie(notice) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// What comes of a form: to a page that tells what was done or, from where it came, why it was not.
pub(super) fn after(done: Result<String, Problem>, to: &str) -> Response {
    match done {
        Ok(text) => go(to, &Notice::done(text)),
        Err(problem) => go(to, &Notice::failed(sentence(&problem.detail))),
    }
}

/// A text's first line, beginning with a capital. Lines that follow point at a place in the first, for terminals.
///
/// A name keeps its form: of a file, `lamp.bin: …`, or of anything else that is no plain word. What is called by a word of its own has
/// another in front: `the device kitchen …`.
pub(super) fn sentence(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let word = line.split(' ').next().unwrap_or_default();
    let is_plain = word.trim_end_matches([',', ';']).chars().all(char::is_alphabetic);
    if !is_plain || line.split(": ").next().is_some_and(ends_as_file_names_do) {
        return line.to_owned();
    }
    let mut chars = line.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Whether a text ends as in `my lamp.bin`.
fn ends_as_file_names_do(text: &str) -> bool {
    let ending = text.rsplit_once('.').map_or("", |(_, ending)| ending);
    ending.starts_with(char::is_alphabetic) && ending.chars().all(char::is_alphanumeric)
}

/// A page, or why there is none.
pub(super) type Page = Result<Response, Failure>;

/// Draws a page.
pub(super) fn draw(page: &impl Template) -> Page {
    match page.render() {
        Ok(text) => Ok(Html(text).into_response()),
        Err(error) => Err(Problem::internal(&error).into()),
    }
}

/// Why there is no page, as a page.
#[derive(Debug)]
pub(super) struct Failure(Problem);

impl<E: Into<Problem>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

#[derive(Template)]
#[template(path = "failure.html")]
struct FailurePage {
    shell: Shell,
    status: u16,
    heading: &'static str,
    text: String,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        let heading = match problem.status {
            404 => "Nothing here",
            403 => "Not for this token",
            401 => "Please log in",
            500.. => "The server could not do this",
            _ => "That did not work",
        };
        let page = FailurePage {
            shell: Shell::bare(heading),
            status: problem.status,
            heading,
            text: sentence(&problem.detail),
        };
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        match page.render() {
            Ok(text) => (status, Html(text)).into_response(),
            Err(_) => problem.into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_begins_with_a_capital_and_a_name_as_it_is() {
        for (text, is) in [
            ("the disk is full", "The disk is full"),
            ("release 3, lamp 1.0.0, was yanked", "Release 3, lamp 1.0.0, was yanked"),
            ("lamp.bin: it is no good ESP image", "lamp.bin: it is no good ESP image"),
            ("my lamp.bin: it is no good ESP image", "my lamp.bin: it is no good ESP image"),
            ("firmware: it is no good ESP image", "firmware: it is no good ESP image"),
            ("lamp-1.0 is there", "lamp-1.0 is there"),
            ("`tags`: expected\n  ^", "`tags`: expected"),
            ("", ""),
        ] {
            assert_eq!(sentence(text), is);
        }
    }

    #[test]
    fn a_notice_leads_back() {
        for text in ["Done.", "a; b=c, \"d\" & ü %", ""] {
            let notice = Notice::done(text);
            let written = notice.written();
            assert!(
                written.bytes().all(|byte| byte.is_ascii_graphic() && !b";,\"\\".contains(&byte)),
                "{written}"
            );
            assert_eq!(Notice::read(&written).unwrap_or(Notice::done("")), notice);
        }
        assert!(Notice::failed("ü".repeat(1_000)).written().len() < 3_700, "a cookie has 4 KiB");
        assert_eq!(Notice::read("nonsense"), None);
    }
}
