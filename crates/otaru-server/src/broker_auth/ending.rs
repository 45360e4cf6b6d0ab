//! Connections of client ids whose credentials have ended: each is looked for until none can be there any more, a bounded number of times.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::logins::{EndedClient, Logins};
use super::management::{Connection, Management, ManagementError};

/// The pause between looks that went well.
const PAUSE: Duration = Duration::from_secs(1);
/// Looks by user name: one more, for a connection that was about to come.
const LOOKS_BY_NAME: u32 = 2;
/// Looks by list, for a connection that RabbitMQ does not list yet: it does so after five seconds.
const LOOKS_BY_LIST: u32 = 8;
/// The pause after the first look that failed; it doubles from one to the next.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(16);
/// Looks that may fail.
const FAILURES: u32 = 10;
/// The most client ids that wait for their end.
const WAITING: usize = 200_000;
/// Requests at the same time.
const AT_ONCE: usize = 8;

/// A client id whose connections are to be ended.
#[derive(Debug, Clone)]
struct Ending {
    username: Option<String>,
    due: Instant,
    looks: u32,
    failures: u32,
}

/// Ways in which connections are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ways {
    by_name: bool,
    by_list: bool,
}

/// Names of connections by client id.
type Listed = HashMap<String, Vec<String>>;

/// Client ids whose connections are to be ended.
pub(super) struct Endings {
    management: Management,
    logins: Arc<Logins>,
    waiting: Mutex<HashMap<String, Ending>>,
    wake: Notify,
}

impl Endings {
    /// Ends connections by way of this management, of those that have no other login since.
    pub(super) fn new(management: Management, logins: Arc<Logins>) -> Self {
        Self { management, logins, waiting: Mutex::default(), wake: Notify::new() }
    }

    /// Has the connections of these ended.
    pub(super) fn add(&self, clients: Vec<EndedClient>) {
        let (mut waiting, now) = (self.lock(), Instant::now());
        let mut left = 0;
        for EndedClient { client, username } in clients {
            if waiting.len() >= WAITING && !waiting.contains_key(&client) {
                left += 1;
                continue;
            }
            waiting.insert(client, Ending { username, due: now, looks: 0, failures: 0 });
        }
        drop(waiting);
        if left > 0 {
            tracing::error!(left, "too many logins have ended for the broker to be told of all; restart it");
        }
        self.wake.notify_one();
    }

    /// Ends connections, for ever.
    pub(super) async fn run(&self) {
        let mut failing = false;
        loop {
            let (due, next) = self.due(Instant::now());
            if due.is_empty() {
                let later = async {
                    match next {
                        Some(next) => sleep_until(next).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = later => {}
                }
                continue;
            }
            let error = self.look(due).await;
            match &error {
                Some(error) if !failing => {
                    tracing::warn!(%error, "connections of logins that have ended stay at the broker; trying again");
                }
                None if failing => tracing::info!("connections at the broker can be ended again"),
                _ => {}
            }
            failing = error.is_some();
        }
    }

    /// Takes those that are due, and the moment at which the next one is. Whoever has logged in anew took the old connection away.
    fn due(&self, now: Instant) -> (Vec<EndedClient>, Option<Instant>) {
        let mut waiting = self.lock();
        waiting.retain(|client, _| self.logins.is_ended(client));
        let due = waiting.iter().filter(|(_, ending)| ending.due <= now);
        let due = due.map(|(client, ending)| EndedClient {
            client: client.clone(),
            username: ending.username.clone(),
        });
        (due.collect(), waiting.values().map(|ending| ending.due).filter(|due| *due > now).min())
    }

    /// Looks for the connections of these and ends them. Returns an error, if there was one.
    async fn look(&self, due: Vec<EndedClient>) -> Option<ManagementError> {
        let listed = match due.iter().any(|ended| self.ways(ended).by_list) {
            true => self.management.connections().await.map(by_client),
            false => Ok(Listed::new()),
        };
        let ended = stream::iter(due).map(|ended| {
            let listed = listed.as_ref().ok();
            async move {
                let outcome = self.end(&ended, listed).await;
                (ended.client, outcome)
            }
        });
        let outcomes: Vec<_> = ended.buffer_unordered(AT_ONCE).collect().await;
        let (mut error, mut given_up) = (listed.err(), 0);
        for (client, outcome) in outcomes {
            let is_done = matches!(outcome, Ok(true));
            error = outcome.err().or(error);
            given_up += usize::from(self.note(&client, is_done, Instant::now()));
        }
        if given_up > 0 {
            tracing::error!(
                given_up,
                "connections of logins that have ended could not be ended at the broker; end them there by hand"
            );
        }
        error
    }

    /// Ends the connections of a client id. Tells whether all of them could be looked for.
    async fn end(&self, ended: &EndedClient, listed: Option<&Listed>) -> Result<bool, ManagementError> {
        let (client, ways) = (&ended.client, self.ways(ended));
        if ways.by_name {
            self.management.end_user(client).await?;
        }
        if !ways.by_list {
            return Ok(true);
        }
        let Some(listed) = listed else { return Ok(false) };
        for name in listed.get(client).into_iter().flatten() {
            self.management.end_connection(name).await?;
        }
        Ok(true)
    }

    /// Returns how the connections of a client id are found. A user name that is a device's alone finds all of them, also those that are not
    /// listed yet.
    fn ways(&self, ended: &EndedClient) -> Ways {
        let EndedClient { client, username } = ended;
        let by_name = username.as_ref().is_none_or(|name| name == client) && !self.management.is_own(client);
        Ways { by_name, by_list: !by_name || username.is_none() }
    }

    /// Notes what came of a look; returns whether it was the last one and failed.
    fn note(&self, client: &str, is_done: bool, now: Instant) -> bool {
        let mut waiting = self.lock();
        let Some(ending) = waiting.get_mut(client) else { return false };
        let pause = match is_done {
            true => {
                ending.looks += 1;
                let ended = EndedClient { client: client.to_owned(), username: ending.username.clone() };
                let looks = if self.ways(&ended).by_list { LOOKS_BY_LIST } else { LOOKS_BY_NAME };
                Some(PAUSE).filter(|_| ending.looks < looks)
            }
            false => {
                ending.failures += 1;
                let pause = FIRST_PAUSE.saturating_mul(1 << (ending.failures - 1).min(16)).min(LONGEST_PAUSE);
                Some(pause).filter(|_| ending.failures < FAILURES)
            }
        };
        match pause {
            Some(pause) => {
                ending.due = now + pause;
                false
            }
            None => {
                waiting.remove(client);
                !is_done
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Ending>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn by_client(connections: Vec<Connection>) -> Listed {
    let mut listed = Listed::new();
    for connection in connections {
        if let Some(client) = connection.client() {
            listed.entry(client.to_owned()).or_default().push(connection.name);
        }
    }
    listed
}

#[cfg(test)]
mod tests {
    use otaru_broker::client::{Login, Secret};
    use otaru_tls::Trust;

    use super::super::logins;
    use super::*;
    use crate::config::BrokerManagement;
    use crate::mqtt::access::Identity;

    fn endings() -> (Endings, Arc<Logins>) {
        let login = Login { username: "ends".into(), password: Secret::new("s3cret") };
        let config = BrokerManagement { url: "http://127.0.0.1:1".into(), login, trust: Trust::default() };
        let logins = Arc::new(Logins::default());
        (Endings::new(Management::new(&config, Some("otaru".into())).unwrap(), Arc::clone(&logins)), logins)
    }

    #[tokio::test]
    async fn an_end_is_tried_so_often_and_then_given_up() {
        let (endings, logins) = endings();
        endings.add(logins.end(&[Identity::Device("lamp".into())]));
        let (due, next) = endings.due(Instant::now());
        assert_eq!((due.len(), next), (1, None));
        assert!(endings.look(due).await.is_some(), "nobody listens there");
        let now = Instant::now();
        let failures = (2..100).find(|_| endings.note("lamp", false, now));
        assert_eq!(failures, Some(FAILURES));
        assert!(endings.lock().is_empty());
    }

    #[tokio::test]
    async fn an_end_is_looked_at_again_for_connections_that_come_late() {
        for (username, looks) in [("lamp", LOOKS_BY_NAME), ("factory", LOOKS_BY_LIST)] {
            let (endings, logins) = endings();
            let login = logins::Login {
                username: Some(username.to_owned()),
                identity: Identity::Device("lamp".into()),
            };
            assert!(logins.note("lamp", login, logins.ends()));
            endings.add(logins.end(&[Identity::Device("lamp".into())]));
            let mut now = Instant::now();
            for _ in 1..looks {
                assert!(!endings.note("lamp", true, now));
                assert!(endings.due(now).0.is_empty());
                now += PAUSE;
                assert_eq!(endings.due(now).0.len(), 1);
            }
            assert!(!endings.note("lamp", true, now));
            assert!(endings.lock().is_empty(), "that was all");
        }
    }

    #[tokio::test]
    async fn the_servers_own_user_name_ends_nobody() {
        let (endings, _) = endings();
        for (client, username, by_name, by_list) in [
            ("lamp", Some("lamp"), true, false),
            ("lamp", Some("factory"), false, true),
            ("lamp", None, true, true),
            ("otaru", Some("otaru"), false, true),
            ("otaru", None, false, true),
        ] {
            let ended = EndedClient { client: client.into(), username: username.map(str::to_owned) };
            assert_eq!(endings.ways(&ended), Ways { by_name, by_list }, "{ended:?}");
        }
    }

    #[tokio::test]
    async fn those_that_wait_for_their_end_have_a_bound() {
        let (endings, _) = endings();
        let client = |number: usize| EndedClient { client: number.to_string(), username: None };
        endings.add((0..WAITING + 10).map(client).collect());
        assert_eq!(endings.lock().len(), WAITING);
    }
}
