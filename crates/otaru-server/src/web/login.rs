//! Logins of requests: nobody whose token is not good, or whose role may not do it, comes further than this.

use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use otaru_api::Role;

use crate::app::Shared;
use crate::caller::Caller;
use crate::http::{Peer, Stranger};
use crate::problem::Problem;

impl FromRequestParts<Shared> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(header) = header else { return Err(Problem::unauthorized()) };
        let token = header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let refusal = match token {
            None => None,
            Some((_, token)) => match app.tokens.verify(token.trim()).await? {
                Ok(caller) => {
                    logged_in(parts);
                    return Ok(caller);
                }
                Err(refusal) => Some(refusal),
            },
        };
        app.login_rates.failed.count(peer(parts), app.clock.now())?;
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

/// Returns the address at the other end, as far as it is known.
pub fn peer(parts: &Parts) -> IpAddr {
    parts.extensions.get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0)
}

/// Whoever sent this has logged in, and counts among the strangers at their address no more.
pub fn logged_in(parts: &Parts) {
    if let Some(stranger) = parts.extensions.get::<Stranger>() {
        stranger.is_known();
    }
}
