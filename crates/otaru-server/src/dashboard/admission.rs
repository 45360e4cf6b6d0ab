//! Admission to pages: whoever is not logged in is sent to the login, and whose role may not do it is told so.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Redirect, Response};
use otaru_api::Role;

use super::cookies::{SESSION, cookie, is_script};
use super::notice::{COOKIE, Notice};
use super::page::Failure;
use super::visitor::Visitor;
use crate::access::sessions;
use crate::app::Shared;
use crate::problem::Problem;
use crate::web::login::logged_in;

impl FromRequestParts<Shared> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Response> {
        let since = app.events.told();
        let session = cookie(&parts.headers, SESSION).and_then(|text| sessions::key(&text));
        let found = match session {
            None => None,
            Some(key) => {
                let caller = sessions::verify(app, key).await;
                let caller = caller.map_err(|error| Failure::from(Problem::from(error)).into_response())?;
                caller.map(|caller| (caller, key))
            }
        };
        let Some((caller, session)) = found else { return Err(to_login(parts)) };
        logged_in(parts);
        let notice = cookie(&parts.headers, COOKIE).filter(|_| !is_script(&parts.headers));
        let notice = notice.and_then(|text| Notice::read(&text));
        Ok(Self { caller, session, notice, now: app.clock.now().0.cast_signed(), since })
    }
}

/// To the login, and from there back to where they wanted to go.
fn to_login(parts: &Parts) -> Response {
    let wanted = match parts.method {
        axum::http::Method::GET => parts.uri.path_and_query().map_or("/", |path| path.as_str()),
        _ => "/",
    };
    let to: String = form_urlencoded::Serializer::new(String::new()).append_pair("to", wanted).finish();
    Redirect::to(&if wanted == "/" { "/login".to_owned() } else { format!("/login?{to}") }).into_response()
}

/// A visitor who may change things.
#[derive(Debug, Clone)]
pub(super) struct OperatorVisitor(pub(super) Visitor);

impl FromRequestParts<Shared> for OperatorVisitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Response> {
        let visitor = Visitor::from_request_parts(parts, app).await?;
        match visitor.caller.require(Role::Operator) {
            Ok(()) => Ok(Self(visitor)),
            Err(problem) => Err(Failure::from(problem).into_response()),
        }
    }
}

/// A visitor who may do everything.
#[derive(Debug, Clone)]
pub(super) struct AdminVisitor(pub(super) Visitor);

impl FromRequestParts<Shared> for AdminVisitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Response> {
        let visitor = Visitor::from_request_parts(parts, app).await?;
        match visitor.caller.require(Role::Admin) {
            Ok(()) => Ok(Self(visitor)),
            Err(problem) => Err(Failure::from(problem).into_response()),
        }
    }
}
