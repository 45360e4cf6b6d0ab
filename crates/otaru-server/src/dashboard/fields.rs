//! Fields of forms: names with texts, some names more than once.

use std::collections::BTreeMap;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use otaru_api::{Timestamp, TimestampError};
use otaru_rollout::{BadSpan, Span, Tag, TextError, Time};
use serde::de::DeserializeOwned;

use super::page::Failure;
use crate::app::Shared;
use crate::problem::Problem;
use crate::web::extract::plain;

/// The filled-in fields of a form, without the white space around their texts. A field that was left empty is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(super) fn read(encoded: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(encoded);
        let pairs = pairs.map(|(name, text)| (name.into_owned(), text.trim().to_owned()));
        Self(pairs.filter(|(_, text)| !text.is_empty()).collect())
    }

    /// The text of a field.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The text of a field, which may be empty.
    pub(super) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// All texts of a field.
    pub(super) fn all<'f>(&'f self, name: &str) -> impl Iterator<Item = &'f str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, text)| text.as_str())
    }

    /// Whether a box is ticked.
    pub(super) fn is(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The text of a field, read as something.
    ///
    /// # Errors
    /// [`Problem::invalid`] with what the field is `called` and why it cannot be read.
    pub(super) fn parse<T>(&self, name: &str, called: &str) -> Result<Option<T>, Problem>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        let read = |text: &str| text.parse().map_err(|error| Problem::invalid(format!("{called}: {error}")));
        self.get(name).map(read).transpose()
    }

    /// Reads the text of a field as something of which a place can be wrong, which the problem points at.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub(super) fn pointed<T>(&self, name: &str, called: &str) -> Result<Option<T>, Problem>
    where
        T: std::str::FromStr<Err = TextError>,
    {
        let read = |text: &str| {
            let bad = |error: TextError| Problem::invalid(format!("{called}: {}", error.pointed()));
            text.parse().map_err(bad)
        };
        self.get(name).map(read).transpose()
    }

    /// A span, such as `90s`, `15m`, `2h` or `3d`; minutes without a unit.
    ///
    /// # Errors
    /// [`Problem::invalid`] with what the field is `called`.
    pub(super) fn span(&self, name: &str, called: &str) -> Result<Option<Span>, Problem> {
        let bad = || Problem::invalid(format!("{called}: {BadSpan}"));
        self.get(name).map(|text| span(text).ok_or_else(bad)).transpose()
    }

    /// Returns a moment: a span from `now` on, such as `2h`, or RFC 3339.
    ///
    /// # Errors
    /// [`Problem::invalid`] with what the field is `called`.
    pub(super) fn moment(&self, name: &str, called: &str, now: Time) -> Result<Option<Timestamp>, Problem> {
        let bad = |error: TimestampError| {
            Problem::invalid(format!("{called}: {error}, or a span such as 2h or 3d"))
        };
        let read = |text: &str| match span(text) {
            Some(span) => Ok((now + span).into()),
            None => text.parse().map_err(bad),
        };
        self.get(name).map(read).transpose()
    }

    /// The fields as a query that gives them again, without those of these names.
    pub(super) fn query_without(&self, names: &[&str]) -> String {
        let pairs = self.0.iter().filter(|(name, _)| !names.contains(&name.as_str()));
        form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
    }

    /// All fields as a value.
    ///
    /// # Errors
    /// When they do not fit.
    pub(super) fn to<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let query = self.query_without(&[]);
        serde_urlencoded::from_str(&query).map_err(|error| Problem::invalid(plain(&error.to_string())))
    }
}

/// Reads a span; a number alone is minutes.
fn span(text: &str) -> Option<Span> {
    match text.trim().parse() {
        Ok(minutes) => Some(Span::minutes(minutes)),
        Err(_) => text.parse().ok(),
    }
}

/// The fields in a query.
#[derive(Debug)]
pub(super) struct Query(pub(super) Fields);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(Fields::read(parts.uri.query().unwrap_or_default().as_bytes())))
    }
}

/// The fields in a body.
#[derive(Debug)]
pub(super) struct Form(pub(super) Fields);

impl FromRequest<Shared> for Form {
    type Rejection = Response;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, Response> {
        let body =
            tokio::time::timeout(crate::web::extract::SLOWEST_BODY, bytes::Bytes::from_request(request, app))
                .await;
        match body {
            Ok(Ok(body)) => Ok(Self(Fields::read(&body))),
            Ok(Err(rejection)) => Err(Failure::from(Problem::new(
                rejection.status(),
                "bad-form",
                "the form could not be read; it may be too long",
            ))
            .into_response()),
            Err(_) => Err(Failure::from(Problem::new(
                axum::http::StatusCode::REQUEST_TIMEOUT,
                "timeout",
                "the form took too long to arrive; send it again",
            ))
            .into_response()),
        }
    }
}

/// Tags as people write them: `site=berlin, canary`.
pub(super) fn tags(text: &str) -> BTreeMap<String, String> {
    let words = text.split([',', '\n']).map(str::trim).filter(|word| !word.is_empty());
    let tags = words.map(|word| {
        let Ok(tag) = word.parse::<Tag>();
        (tag.name, tag.value)
    });
    tags.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_empty_is_not_there() {
        let fields = Fields::read(b"a=1&b=&c=+x+y+&a=2&%C3%BC=%26");
        assert_eq!(fields.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((fields.get("b"), fields.text("c"), fields.get("ü")), (None, "x y", Some("&")));
        assert_eq!(fields.query_without(&["a"]), "c=x+y&%C3%BC=%26");
    }

    #[test]
    fn moments_are_spans_from_now_or_rfc_3339() {
        let read = |text: &str| {
            let now = Time(1_795_922_684_000);
            Fields(vec![("t".into(), text.into())]).moment("t", "Start in or at", now)
        };
        for text in ["2h", "120", "2026-11-29T05:24:44Z", "2026-11-29T06:24:44+01:00"] {
            assert_eq!(read(text).unwrap().unwrap().to_string(), "2026-11-29T05:24:44.000Z", "{text}");
        }
        for bad in ["x", "2026-11-29T05:24:44", "@1795922684", "1969-12-31T00:00:00Z"] {
            let detail = read(bad).unwrap_err().into_details().detail;
            assert!(detail.starts_with("Start in or at: "), "{detail}");
            assert!(detail.ends_with("or a span such as 2h or 3d"), "{detail}");
        }
    }

    #[test]
    fn spans_are_read_as_people_write_them() {
        let fields = |text: &str| Fields(vec![("t".into(), text.into())]);
        for (text, seconds) in
            [("90s", 90), ("15m", 900), ("15 min", 900), ("2h", 7_200), ("3d", 259_200), ("5", 300)]
        {
            assert_eq!(fields(text).span("t", "x").unwrap(), Some(Span::seconds(seconds)), "{text}");
        }
        for bad in ["x", "5y", "-1s", "99999999999999999999d"] {
            assert!(fields(bad).span("t", "x").is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_are_read_as_people_write_them() {
        let found = tags(" site = berlin, canary,,\nfloor=2 ");
        let wanted = [("canary", ""), ("floor", "2"), ("site", "berlin")];
        assert_eq!(found, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert!(tags(" , ").is_empty());
    }
}
