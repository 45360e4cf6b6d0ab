//! Client ids that have logged in at somebody else's broker: whose each one is. Which of them are connected only the broker knows.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use quick_cache::unsync::Cache;

use crate::mqtt::access::Identity;

/// The most client ids that are remembered, as many as there are devices at most. A device whose client id was forgotten is looked up; a
/// token logs in anew.
const REMEMBERED: usize = 200_000;
/// Client ids for which there is memory from the beginning.
const FIRST: usize = 1_000;

/// Somebody who logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Login {
    /// User name of the login.
    pub(super) username: Option<String>,
    /// Identity that the client id belongs to.
    pub(super) identity: Identity,
}

/// Standing of a client id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has logged in.
    In(Login),
    /// Its credential has ended since, and nobody has logged in with another.
    Ended,
}

/// Client id whose credential has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EndedClient {
    /// Client id.
    pub(super) client: String,
    /// User name of its login, where that is known.
    pub(super) username: Option<String>,
}

/// Client ids that have logged in.
pub(super) struct Logins(Mutex<Inner>);

struct Inner {
    by_client: Cache<String, Standing>,
    /// Number of times that credentials ended: a login that was decided on before is decided on again.
    ends: u64,
}

impl Default for Logins {
    fn default() -> Self {
        let by_client = Cache::with(
            FIRST,
            REMEMBERED as u64,
            quick_cache::UnitWeighter,
            quick_cache::DefaultHashBuilder::default(),
            quick_cache::unsync::DefaultLifecycle::default(),
        );
        Self(Mutex::new(Inner { by_client, ends: 0 }))
    }
}

impl Logins {
    /// Returns the standing of a client id, if it is remembered.
    pub(super) fn get(&self, client: &str) -> Option<Standing> {
        self.lock().by_client.get(client).cloned()
    }

    /// Whether the credential of a client id has ended, and nobody has logged in with another.
    pub(super) fn is_ended(&self, client: &str) -> bool {
        matches!(self.lock().by_client.peek(client), Some(Standing::Ended))
    }

    /// Returns how often credentials have ended so far.
    pub(super) fn ends(&self) -> u64 {
        self.lock().ends
    }

    /// Notes a login that was decided on when credentials had ended so often; not if others have since.
    #[must_use]
    pub(super) fn note(&self, client: &str, login: Login, ends: u64) -> bool {
        let mut inner = self.lock();
        if inner.ends != ends {
            return false;
        }
        inner.by_client.insert(client.to_owned(), Standing::In(login));
        true
    }

    /// Notes that credentials have ended. Returns the client ids that may have connections with them.
    pub(super) fn end(&self, ended: &[Identity]) -> Vec<EndedClient> {
        let mut inner = self.lock();
        inner.ends += 1;
        let mut clients: Vec<EndedClient> = Vec::new();
        let names: BTreeSet<&String> = ended
            .iter()
            .filter_map(|identity| match identity {
                Identity::Device(name) | Identity::Local(name) => Some(name),
                Identity::Server | Identity::Token { .. } => None,
            })
            .collect();
        for name in names {
            let username = match inner.by_client.peek(name) {
                Some(Standing::In(Login { identity: Identity::Token { .. } | Identity::Server, .. })) => {
                    continue;
                }
                Some(Standing::In(login)) => login.username.clone(),
                Some(Standing::Ended) | None => None,
            };
            inner.by_client.insert(name.clone(), Standing::Ended);
            clients.push(EndedClient { client: name.clone(), username });
        }
        clients.extend(inner.end_tokens(ended));
        clients
    }

    /// Returns the tokens that have logged in.
    pub(super) fn tokens(&self) -> BTreeSet<String> {
        let inner = self.lock();
        let ids = inner.by_client.iter().filter_map(|(_, standing)| token(standing));
        ids.map(str::to_owned).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn end_tokens(&mut self, ended: &[Identity]) -> Vec<EndedClient> {
        let ids: HashSet<&str> = ended
            .iter()
            .filter_map(|identity| match identity {
                Identity::Token { id, .. } => Some(id.as_str()),
                _ => None,
            })
            .collect();
        if ids.is_empty() {
            return Vec::new();
        }
        let of_these = |(client, standing): (&String, &Standing)| match standing {
            Standing::In(login) if token(standing).is_some_and(|id| ids.contains(id)) => {
                Some(EndedClient { client: client.clone(), username: login.username.clone() })
            }
            _ => None,
        };
        let clients: Vec<EndedClient> = self.by_client.iter().filter_map(of_these).collect();
        for ended in &clients {
            self.by_client.insert(ended.client.clone(), Standing::Ended);
        }
        clients
    }
}

/// Returns the id of the token that a client id logged in with.
fn token(standing: &Standing) -> Option<&str> {
    match standing {
        Standing::In(Login { identity: Identity::Token { id, .. }, .. }) => Some(id),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use otaru_api::Role;

    use super::*;

    fn device(name: &str) -> Login {
        Login { username: Some("x".into()), identity: Identity::Device(name.into()) }
    }

    fn person(id: &str) -> Login {
        let identity = Identity::Token { id: id.into(), role: Role::Viewer };
        Login { username: Some("me".into()), identity }
    }

    #[test]
    fn a_credential_that_ends_takes_its_client_ids_along_and_no_others() {
        let logins = Logins::default();
        for (client, login) in
            [("lamp", device("lamp")), ("hall", device("hall")), ("a", person("1")), ("b", person("2"))]
        {
            assert!(logins.note(client, login, 0));
        }
        let ended = logins.end(&[Identity::Device("lamp".into()), Identity::Local("lamp".into())]);
        assert_eq!(ended, [EndedClient { client: "lamp".into(), username: Some("x".into()) }]);
        let ended = logins.end(&Role::ALL.map(|role| Identity::Token { id: "1".into(), role }));
        assert_eq!(ended, [EndedClient { client: "a".into(), username: Some("me".into()) }]);
        assert!(logins.is_ended("lamp") && logins.is_ended("a"));
        assert_eq!(logins.get("hall"), Some(Standing::In(device("hall"))));
        assert_eq!(logins.tokens(), ["2".to_owned()].into());
    }

    #[test]
    fn a_login_that_was_decided_on_before_a_credential_ended_is_not_noted() {
        let logins = Logins::default();
        let ends = logins.ends();
        logins.end(&[Identity::Device("lamp".into())]);
        assert!(!logins.note("lamp", device("lamp"), ends));
        assert!(logins.is_ended("lamp"));
        assert!(logins.note("lamp", device("lamp"), logins.ends()));
        assert!(!logins.is_ended("lamp"));
    }

    #[test]
    fn client_ids_do_not_fill_the_memory() {
        let logins = Logins::default();
        for number in 0..REMEMBERED + 10_000 {
            assert!(logins.note(&format!("c{number}"), person("1"), 0));
        }
        assert!(logins.lock().by_client.len() <= REMEMBERED);
    }
}
