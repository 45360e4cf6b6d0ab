//! Who calls: an API token, its role, and what that role may do.

use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use crate::access::tokens;
use crate::app::Shared;
use crate::http::Stranger;

/// What a token may do; each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// See everything but secrets.
    Viewer,
    /// Also change devices, upload releases and run rollouts.
    Operator,
    /// Also tokens, fleet keys and device credentials.
    Admin,
}

impl Role {
    /// The role of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Viewer, Self::Operator, Self::Admin].into_iter().find(|role| role.as_str() == name)
    }

    /// Its name, the same as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A caller whose token is good. As an extractor it lets nobody else in.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The token's id; nothing secret.
    pub token: String,
    /// What its owner called it: for the audit log.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

impl Caller {
    /// Goes on only if the caller may do at least what `role` may.
    ///
    /// # Errors
    /// [`Problem::forbidden`].
    pub fn require(&self, role: Role) -> Result<(), Problem> {
        if self.role >= role { Ok(()) } else { Err(Problem::forbidden(role)) }
    }
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(header) = header else { return Err(Problem::unauthorized()) };
        let token = header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let refusal = match token {
            None => None,
            Some((_, token)) => match tokens::verify(app, token.trim()).await? {
                Ok(caller) => {
                    logged_in(parts);
                    return Ok(caller);
                }
                Err(refusal) => Some(refusal),
            },
        };
        app.failed_logins.count(peer(parts), app.clock.now())?;
        Err(refusal.map_or_else(Problem::unauthorized, Problem::bad_token))
    }
}

/// A caller who may do what operators may; whoever may not is told so before anything else of the request is looked at.
#[derive(Debug, Clone)]
pub struct Operator(pub Caller);

impl FromRequestParts<Shared> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, app).await?;
        caller.require(Role::Operator)?;
        Ok(Self(caller))
    }
}

/// A caller who may do everything.
#[derive(Debug, Clone)]
pub struct Admin(pub Caller);

impl FromRequestParts<Shared> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, app).await?;
        caller.require(Role::Admin)?;
        Ok(Self(caller))
    }
}

/// Who is at the other end, as far as it is known.
pub fn peer(parts: &Parts) -> IpAddr {
    parts.extensions.get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0)
}

/// Whoever sent this has logged in, and counts among the strangers at their address no more.
pub fn logged_in(parts: &Parts) {
    if let Some(stranger) = parts.extensions.get::<Stranger>() {
        stranger.is_known();
    }
}

/// The address of a request's sender: that of the connection, or what a trusted proxy says.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);
