//! Checks of API tokens, as every request has one.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use otaru_api::Timestamp;
use otaru_format::digest::Digest;
use otaru_rollout::{Span, Time};

use super::tokens::{COLUMNS, KIND, caller, token};
use crate::caller::Caller;
use crate::clock::Clock;
use crate::db::{Db, DbError, OptionalExtension as _, params};
use crate::problem::Problem;
use crate::secret;

/// Age up to which a token that was looked up is not looked up again.
const FRESH: Span = Span::seconds(10);
/// Interval at which a token's last use is recorded.
const NOTE_USE: Span = Span::minutes(1);
/// The most tokens that are remembered.
const REMEMBERED: usize = 10_000;

/// Reasons for which a token is not good. What it once was is told to nobody but who has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is none, or its secret is wrong.
    Unknown,
    /// It ended by itself, at this moment.
    Expired(Timestamp),
    /// Somebody ended it, at this moment.
    Revoked(Timestamp),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("this token is not known here"),
            Self::Expired(at) => write!(f, "this token expired at {at}"),
            Self::Revoked(at) => write!(f, "this token was revoked at {at}"),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::bad_token(refusal)
    }
}

/// Checks tokens, and remembers those that were looked up not long ago, so that requests do not cost a read each.
pub struct Tokens {
    db: Db,
    clock: Clock,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<String, CachedToken>,
    /// Number of times that one was forgotten: what was looked up before that may be what it was.
    forgotten: u64,
}

#[derive(Debug, Clone)]
struct CachedToken {
    hash: Digest,
    caller: Caller,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    looked_up: Time,
    noted: Option<Time>,
}

impl CachedToken {
    fn refusal(&self, now: Time) -> Option<Refusal> {
        match (self.revoked_at, self.expires_at) {
            (Some(at), _) => Some(Refusal::Revoked(at)),
            (None, Some(end)) if end <= now.into() => Some(Refusal::Expired(end)),
            _ => None,
        }
    }
}

impl Tokens {
    /// Checks the tokens in this database, by this clock.
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock, known: Mutex::default() }
    }

    /// Returns whose token this is, if it is good.
    ///
    /// # Errors
    /// When the database fails; that the token is not good is the inner result.
    pub async fn verify(&self, text: &str) -> Result<Result<Caller, Refusal>, DbError> {
        let Some(parts) = secret::parse(KIND, text) else { return Ok(Err(Refusal::Unknown)) };
        let (hash, id, now) = (parts.hash(), parts.id.to_owned(), self.clock.now());
        let forgotten = self.lock().forgotten;
        let Some(mut known) = self.find(&id, now).await?.filter(|known| known.hash == hash) else {
            return Ok(Err(Refusal::Unknown));
        };
        if let Some(refusal) = known.refusal(now) {
            return Ok(Err(refusal));
        }
        if known.noted.is_none_or(|noted| now.since(noted) >= NOTE_USE) {
            known.noted = Some(now);
            self.note_use(id.clone(), now);
        }
        let caller = known.caller.clone();
        self.keep(&id, known, forgotten);
        Ok(Ok(caller))
    }

    /// Whether a token that was good once still is.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_good(&self, id: &str) -> Result<bool, DbError> {
        Ok(self.caller(id).await?.is_some())
    }

    /// Returns whose token this is, if it is good; for somebody who proved the right to it before.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn caller(&self, id: &str) -> Result<Option<Caller>, DbError> {
        let (now, forgotten) = (self.clock.now(), self.lock().forgotten);
        let good = self.find(id, now).await?.filter(|known| known.refusal(now).is_none());
        Ok(good.map(|known| {
            let caller = known.caller.clone();
            self.keep(id, known, forgotten);
            caller
        }))
    }

    /// Forgets a token, so that its end counts at once.
    pub fn forget(&self, id: &str) {
        let mut known = self.lock();
        known.by_id.remove(id);
        known.forgotten += 1;
    }

    /// Forgets all tokens, so that the end of any counts at once.
    pub fn forget_all(&self) {
        let mut known = self.lock();
        known.by_id.clear();
        known.forgotten += 1;
    }

    /// Finds a token, good or not.
    async fn find(&self, id: &str, now: Time) -> Result<Option<CachedToken>, DbError> {
        match self.remembered(id, now) {
            Some(known) => Ok(Some(known)),
            None => self.look_up(id.to_owned(), now).await,
        }
    }

    fn remembered(&self, id: &str, now: Time) -> Option<CachedToken> {
        let known = self.lock().by_id.get(id).cloned()?;
        // Also looked up again when the clock was set back.
        (known.looked_up <= now && now.since(known.looked_up) < FRESH).then_some(known)
    }

    async fn look_up(&self, id: String, now: Time) -> Result<Option<CachedToken>, DbError> {
        self.db
            .read(move |tx| {
                let sql = format!("SELECT {COLUMNS}, hash FROM tokens WHERE id = ?");
                let found = tx
                    .prepare(&sql)
                    .query_row([id], |row| Ok((token(row)?, Digest(row.get(8)?))))
                    .optional()?;
                Ok(found.map(|(token, hash)| CachedToken {
                    hash,
                    expires_at: token.expires_at,
                    revoked_at: token.revoked_at,
                    looked_up: now,
                    noted: token.used_at.map(Time::from),
                    caller: caller(token),
                }))
            })
            .await
    }

    /// Remembers a token that was looked up when so many had been forgotten.
    fn keep(&self, id: &str, token: CachedToken, forgotten: u64) {
        let mut known = self.lock();
        if known.forgotten != forgotten {
            return;
        }
        if known.by_id.len() >= REMEMBERED && !known.by_id.contains_key(id) {
            known.by_id.clear();
        }
        known.by_id.insert(id.to_owned(), token);
    }

    /// Nobody waits for it.
    fn note_use(&self, id: String, now: Time) {
        let db = self.db.clone();
        tokio::spawn(async move {
            let noted = db.write(move |tx| {
                tx.execute("UPDATE tokens SET used_at = ? WHERE id = ?", params![now.0.cast_signed(), id])?;
                Ok::<_, DbError>(())
            });
            if let Err(error) = noted.await
                && !error.is_outage()
            {
                tracing::warn!(%error, "a token's use was not noted");
            }
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
