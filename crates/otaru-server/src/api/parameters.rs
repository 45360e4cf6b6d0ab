//! Parameters in URLs: one that an operation's description does not have is refused. It was misspelt, or is for another version of the
//! server; left out, a list would have what nobody asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa::openapi::{OpenApi, RefOr};

use crate::problem::Problem;
use crate::similar::did_you_mean;
use crate::text::cut;

/// Bytes of a name that are repeated to whoever gave it.
const LONGEST: usize = 64;

/// Names of the parameters of every operation, by its method and path.
#[derive(Debug, Clone)]
pub(super) struct Parameters(Arc<BTreeMap<String, BTreeSet<String>>>);

impl Parameters {
    /// Reads them in the API's description.
    pub(super) fn of(document: &OpenApi) -> Self {
        let mut all = BTreeMap::new();
        for (path, item) in &document.paths.paths {
            let operations = by_method(item).into_iter();
            let operations = operations.filter_map(|(method, operation)| Some((method, operation.as_ref()?)));
            all.extend(operations.map(|(method, operation)| (key(method, path), in_query(operation))));
        }
        Self(Arc::new(all))
    }

    /// Looks for a parameter in a query that the operation does not have.
    ///
    /// # Errors
    /// When there is one, with the names that there are.
    fn check(&self, method: &str, path: &str, query: &str) -> Result<(), Problem> {
        // No operation is known there: what is answered says so.
        let Some(known) = self.0.get(&key(method, path)) else { return Ok(()) };
        let mut given = form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name);
        match given.find(|name| !known.contains(name.as_ref())) {
            None => Ok(()),
            Some(name) => Err(unknown(&name, known)),
        }
    }
}

/// Returns the operations of a path, those that there are and those that are not.
pub(super) fn by_method(item: &PathItem) -> [(&'static str, &Option<Operation>); 5] {
    [
        ("GET", &item.get),
        ("POST", &item.post),
        ("PATCH", &item.patch),
        ("PUT", &item.put),
        ("DELETE", &item.delete),
    ]
}

fn key(method: &str, path: &str) -> String {
    format!("{method} {path}")
}

fn in_query(operation: &Operation) -> BTreeSet<String> {
    let parameters = operation.parameters.iter().flatten();
    let names = parameters.filter_map(|parameter| match parameter {
        RefOr::T(parameter) => {
            matches!(parameter.parameter_in, ParameterIn::Query).then(|| parameter.name.clone())
        }
        RefOr::Ref(_) => None,
    });
    names.collect()
}

fn unknown(name: &str, known: &BTreeSet<String>) -> Problem {
    let mut shown = name.to_owned();
    cut(&mut shown, LONGEST);
    if known.is_empty() {
        return Problem::invalid(format!("`{shown}` is no parameter here: this takes none"));
    }
    let names: Vec<&str> = known.iter().map(String::as_str).collect();
    let meant = match did_you_mean(name, names.iter().copied()) {
        meant if meant.is_empty() => ".".to_owned(),
        meant => meant,
    };
    Problem::invalid(format!("`{shown}` is no parameter here{meant} There are: {}", names.join(", ")))
}

/// Refuses requests with parameters that are not known.
pub(super) async fn known_only(
    State(parameters): State<Parameters>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
    // Answered as GET, without the body.
    let method = if request.method() == "HEAD" { "GET" } else { request.method().as_str() };
    match parameters.check(method, path, request.uri().query().unwrap_or_default()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}
