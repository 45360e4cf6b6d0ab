//! A request that makes something, sent twice, makes it once.
//!
//! An answer is kept in the transaction that made the thing: either both are there, or neither is.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use otaru_format::digest::Digest;
use otaru_rollout::{Span, Time};
use serde::Serialize;
use serde_json::Value;

use crate::caller::Caller;
use crate::db::{Connection, Db, DbError, OptionalExtension as _, params};
use crate::problem::Problem;

/// Time for which answers are kept.
const KEPT: Span = Span::hours(24);

/// An answer to a request that made something.
#[derive(Debug, Clone)]
pub struct Answer {
    status: StatusCode,
    body: Value,
    /// Secret that is said this once, and kept nowhere: a field of the body and its value.
    secret: Option<(&'static str, String)>,
}

impl Answer {
    /// Something was made.
    pub fn created(body: &impl Serialize) -> Self {
        Self::with(StatusCode::CREATED, body)
    }

    /// An answer with this status.
    pub fn with(status: StatusCode, body: &impl Serialize) -> Self {
        Self { status, body: serde_json::to_value(body).unwrap_or_default(), secret: None }
    }

    /// The same with remarks for people, if there are any.
    #[must_use]
    pub fn and_remarks(mut self, remarks: &[String]) -> Self {
        if let Some(body) = self.body.as_object_mut().filter(|_| !remarks.is_empty()) {
            body.insert("remarks".to_owned(), remarks.into());
        }
        self
    }

    /// The same with a field that is said this once.
    #[must_use]
    pub fn and_secretly(self, field: &'static str, text: String) -> Self {
        Self { secret: Some((field, text)), ..self }
    }
}

impl IntoResponse for Answer {
    fn into_response(mut self) -> Response {
        if let (Some((field, text)), Some(body)) = (self.secret, self.body.as_object_mut()) {
            body.insert(field.to_owned(), text.into());
        }
        (self.status, axum::Json(self.body)).into_response()
    }
}

/// A request that may come again.
#[derive(Debug, Clone)]
pub struct Once {
    key: Option<String>,
    actor: String,
    request: Digest,
}

impl Once {
    /// This request: what is asked for is `what` of `body`.
    pub fn new(key: Option<String>, caller: &Caller, what: &str, body: &impl Serialize) -> Self {
        let body = serde_json::to_string(body).unwrap_or_default();
        let request = Digest::of(format!("{what}\n{body}").as_bytes());
        Self { key, actor: caller.token.clone(), request }
    }

    /// Carries it out, or gives the answer it got before.
    ///
    /// # Errors
    /// Those of `make`; when the key was used for something else; when the answer had a secret.
    pub async fn run(
        self,
        db: &Db,
        now: Time,
        make: impl Fn(&Connection, Time) -> Result<Answer, Problem> + Send + 'static,
    ) -> Result<Answer, Problem> {
        Ok(self.run_with(db, now, move |tx, now| Ok((make(tx, now)?, ()))).await?.0)
    }

    /// Carries it out, and returns what came of it besides the answer; gives the answer it got before, and nothing besides.
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub async fn run_with<T: Send + 'static>(
        self,
        db: &Db,
        now: Time,
        make: impl Fn(&Connection, Time) -> Result<(Answer, T), Problem> + Send + 'static,
    ) -> Result<(Answer, Option<T>), Problem> {
        db.write(move |tx| self.in_transaction(tx, now, &make)).await
    }

    fn in_transaction<T>(
        &self,
        tx: &Connection,
        now: Time,
        make: &impl Fn(&Connection, Time) -> Result<(Answer, T), Problem>,
    ) -> Result<(Answer, Option<T>), Problem> {
        if let Some(key) = &self.key
            && let Some(before) = self.before(tx, key, now)?
        {
            return Ok((before?, None));
        }
        let (answer, besides) = make(tx, now)?;
        let Some(key) = &self.key else { return Ok((answer, Some(besides))) };
        // A body that misses something cannot be given again.
        let body = if answer.secret.is_some() { String::new() } else { answer.body.to_string() };
        tx.prepare(
            "INSERT INTO idempotency (actor, key, request, status, body, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (actor, key) DO UPDATE SET request = ?3, status = ?4, body = ?5, at = ?6",
        )
        .execute(params![
            self.actor,
            key,
            self.request.0,
            answer.status.as_u16(),
            body,
            now.0.cast_signed()
        ])?;
        Ok((answer, Some(besides)))
    }

    fn before(
        &self,
        tx: &Connection,
        key: &str,
        now: Time,
    ) -> Result<Option<Result<Answer, Problem>>, DbError> {
        let since = now.0.saturating_sub(KEPT.0).cast_signed();
        let sql = "SELECT request, status, body FROM idempotency WHERE actor = ? AND key = ? AND at >= ?";
        let found: Option<([u8; 32], u16, String)> = tx
            .prepare(sql)
            .query_row(params![self.actor, key, since], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((request, status, body)) = found else { return Ok(None) };
        if Digest(request) != self.request {
            let text = "this `Idempotency-Key` was used for another request; use a new one for each";
            return Ok(Some(Err(Problem::invalid(text))));
        }
        if body.is_empty() {
            let text = "this was made already, and its secret is shown once only; revoke it and make another, or give the device another password";
            return Ok(Some(Err(Problem::conflict(text))));
        }
        let status =
            StatusCode::from_u16(status).map_err(|error| DbError::corrupt("idempotency.status", error))?;
        let body =
            serde_json::from_str(&body).map_err(|error| DbError::corrupt("idempotency.body", error))?;
        Ok(Some(Ok(Answer { status, body, secret: None })))
    }
}

/// Forgets answers that are older than they are kept for.
pub fn prune(tx: &Connection, now: Time) -> Result<usize, DbError> {
    let since = now.0.saturating_sub(KEPT.0).cast_signed();
    tx.execute("DELETE FROM idempotency WHERE at < ?", [since])
}
