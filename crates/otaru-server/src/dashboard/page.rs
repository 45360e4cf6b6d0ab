//! Pages as answers: drawn, or the page that tells of a failure, or another page with a notice.

use askama::Template;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};

use super::notice::{Notice, notice_cookie};
use super::shell::{Section, Shell};
use crate::problem::Problem;

/// To another page, which tells something.
pub(super) fn go(to: &str, notice: &Notice) -> Response {
    let mut response = Redirect::to(to).into_response();
    if let Some(cookie) = notice_cookie(notice) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// Answers a form: to a page that tells what was done or, from where it came, why it was not.
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

/// Complaint about what somebody typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) sentence: String,
    /// The text that cannot be read, and a `^` below the place.
    pub(super) place: Option<String>,
}

impl From<Problem> for Complaint {
    fn from(problem: Problem) -> Self {
        let text = &problem.detail;
        let place = text.split_once('\n').map(|(_, place)| place.to_owned());
        Self { sentence: sentence(text), place }
    }
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
            404 => "Not found",
            403 => "Not allowed",
            401 => "Log in first",
            500.. => "Server error",
            _ => "Request failed",
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
    fn a_complaint_points_at_the_place() {
        let complaint =
            Complaint::from(Problem::invalid("the tags at character 6: expected a tag\n  a\n  ^"));
        assert_eq!(complaint.sentence, "The tags at character 6: expected a tag");
        assert_eq!(complaint.place.as_deref(), Some("  a\n  ^"));
        assert_eq!(Complaint::from(Problem::invalid("the disk is full")).place, None);
    }

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
}
