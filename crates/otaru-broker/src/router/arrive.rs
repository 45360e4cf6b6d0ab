//! Arrival of a client that was let in: its session is made or taken up, another connection of the same client is ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::account::{AccountId, Full, Resource};
use super::due::Ending;
use super::ids::{Link, SessionId};
use super::login::Ticket;
use super::message::StoredWill;
use super::session::{Connection, Session};
use super::state::Router;
use crate::codec::connect::Connect;
use crate::codec::writer::Manner;
use crate::policy::{Admission, Policy};
use crate::reason::Reason;
use crate::settings::Settings;
use crate::signal::Signal;
use crate::version::Version;

/// Beginning of a client id that is made up here; a number follows.
const ASSIGNED_PREFIX: &str = "auto-";
/// Bytes of the longest one: the number has 20 digits at most.
pub(crate) const ASSIGNED_ID: usize = ASSIGNED_PREFIX.len() + 20;

/// Terms of a connection that was let in.
#[derive(Debug)]
pub(crate) struct Accepted<I> {
    pub(crate) link: Link,
    pub(crate) identity: Arc<I>,
    pub(crate) client: Arc<str>,
    /// Whether the client id was made up here.
    pub(crate) assigned: bool,
    pub(crate) session_present: bool,
    /// Whether another connection was ended for it.
    pub(crate) takeover: bool,
    /// Seconds; 0 for none.
    pub(crate) keep_alive: u16,
    pub(crate) session_expiry: u32,
    pub(crate) manner: Manner,
    /// Largest packet that it may send.
    pub(crate) packet_bytes: usize,
}

/// Returns in which manner a client wants to be answered.
pub(crate) fn manner(connect: &Connect<'_>) -> Manner {
    Manner {
        version: connect.version,
        largest: connect.maximum_packet_size.map_or(usize::MAX, |bytes| bytes as usize),
        reasons: connect.problem_information,
    }
}

fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

/// Returns the keep-alive that counts. Version 3.1.1 cannot be told another than its own.
fn keep_alive(connect: &Connect<'_>, settings: &Settings) -> u16 {
    let longest = u16::try_from(settings.max_keep_alive.as_secs()).unwrap_or(u16::MAX);
    match connect.version {
        Version::V311 => connect.keep_alive,
        Version::V5 if connect.keep_alive == 0 => longest,
        Version::V5 => connect.keep_alive.min(longest),
    }
}

impl From<Full> for Reason {
    fn from(full: Full) -> Self {
        match full {
            Full::Own | Full::Group => Self::QuotaExceeded,
            Full::All => Self::ServerBusy,
        }
    }
}

impl<P: Policy> Router<P> {
    /// Lets a client in.
    ///
    /// # Errors
    /// When its identity ended since the login began, and at bounds.
    pub(crate) fn arrive(
        &mut self,
        ticket: &Ticket,
        admission: &Admission<P::Identity>,
        connect: &Connect<'_>,
        signal: Arc<Signal>,
        now: Instant,
    ) -> Result<Accepted<P::Identity>, Reason> {
        self.logins.finish(ticket, Some(&admission.identity))?;
        let (account, left) = self.accounts.open(admission, now);
        let result = self.admit(account, admission, connect, signal, now);
        self.watch_account(account, now);
        if let Some(left) = left {
            self.watch_account(left, now);
        }
        result
    }

    fn admit(
        &mut self,
        account: AccountId,
        admission: &Admission<P::Identity>,
        connect: &Connect<'_>,
        signal: Arc<Signal>,
        now: Instant,
    ) -> Result<Accepted<P::Identity>, Reason> {
        if !self.accounts.take_connect(account, now) {
            return Err(Reason::ConnectionRateExceeded);
        }
        if connect.will.as_ref().is_some_and(|will| !self.policy.may_publish(&admission.identity, will.topic))
        {
            return Err(Reason::NotAuthorized);
        }
        let (client, assigned) = self.client(account, connect)?;
        let takeover = self.replace(account, &client, connect.clean, now);
        let will = connect.will.as_ref().map(|will| Box::new(StoredWill::from(will)));
        let will_bytes = will.as_ref().map_or(0, |will| will.cost());
        self.accounts.charge(account, Resource::Connections, 1, 1)?;
        let charged = self.accounts.charge(account, Resource::Subscribed, will_bytes, 1);
        let (id, session_present) = charged
            .map_err(|_| Reason::QuotaExceeded)
            .and_then(|()| {
                self.session_for(account, &client, now).inspect_err(|_| {
                    self.accounts.release(account, Resource::Subscribed, will_bytes);
                })
            })
            .inspect_err(|_| self.accounts.release(account, Resource::Connections, 1))?;
        drop(self.take_will(id));
        let link = Link { session: id, connection: self.next_number() };
        let manner = manner(connect);
        let most = whole_seconds(self.settings.max_session_expiry);
        let session_expiry = connect.session_expiry.min(most);
        let window = connect.receive_maximum.min(self.settings.send_maximum).max(1).into();
        if let Some(session) = self.sessions.get_mut(&id) {
            session.connection = Some(Connection { number: link.connection, signal, manner, window });
            session.expiry = session_expiry;
            session.will = will;
            session.subscribed += will_bytes;
        }
        self.cancel_due(id);
        if session_present {
            self.review_subscriptions(id);
        }
        Ok(Accepted {
            link,
            identity: self.accounts.identity(account).ok_or(Reason::Unspecified)?,
            client,
            assigned,
            session_present,
            takeover,
            keep_alive: keep_alive(connect, &self.settings),
            session_expiry,
            manner,
            packet_bytes: admission.bounds.packet_bytes,
        })
    }

    /// Returns the client id, and whether it is made up here.
    fn client(&mut self, account: AccountId, connect: &Connect<'_>) -> Result<(Arc<str>, bool), Reason> {
        if !connect.client.is_empty() {
            return Ok((connect.client.into(), false));
        }
        if connect.version == Version::V311 && !connect.clean {
            return Err(Reason::ClientIdentifierNotValid);
        }
        loop {
            let client: Arc<str> = format!("{ASSIGNED_PREFIX}{}", self.next_number()).into();
            if !self.clients.contains_key(&(account, client.clone())) {
                return Ok((client, true));
            }
        }
    }

    /// Ends another connection of the same client, and its session if the new one is clean. Returns whether a connection was ended.
    fn replace(&mut self, account: AccountId, client: &Arc<str>, clean: bool, now: Instant) -> bool {
        let Some(id) = self.clients.get(&(account, client.clone())).copied() else { return false };
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        let takeover = session.connection.is_some();
        if let Some(connection) = &session.connection {
            connection.signal.end(Reason::SessionTakenOver);
            self.leave(id, now);
        }
        if clean {
            self.end_session(id, Ending::WithWill, now);
        }
        takeover
    }

    /// Takes up the client's session or makes one.
    fn session_for(
        &mut self,
        account: AccountId,
        client: &Arc<str>,
        now: Instant,
    ) -> Result<(SessionId, bool), Reason> {
        if let Some(id) = self.clients.get(&(account, client.clone())) {
            return Ok((*id, true));
        }
        if let Err(full) = self.accounts.charge(account, Resource::Sessions, 1, 1) {
            self.make_room(account, now).ok_or(full)?;
            self.accounts.charge(account, Resource::Sessions, 1, 1)?;
        }
        let id = SessionId(self.next_number());
        self.clients.insert((account, client.clone()), id);
        self.sessions.insert(id, Box::new(Session::new(id, account, client.clone(), now)));
        self.accounts.add_session(account, id);
        Ok((id, false))
    }

    /// Ends the session of an identity that is without a connection for the longest.
    fn make_room(&mut self, account: AccountId, now: Instant) -> Option<()> {
        let sessions = self.accounts.sessions(account).iter();
        let gone = sessions.filter_map(|id| {
            let session = self.sessions.get(id)?;
            session.connection.is_none().then_some((session.left, *id))
        });
        let (_, id) = gone.min()?;
        self.end_session(id, Ending::WithWill, now);
        Some(())
    }

    /// Drops those subscriptions of a session that its identity may no longer have.
    fn review_subscriptions(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let Some(identity) = self.accounts.identity(session.account) else { return };
        let barred: Vec<_> = session
            .filters
            .iter()
            .filter(|filter| !self.policy.may_subscribe(&identity, filter))
            .cloned()
            .collect();
        for filter in barred {
            self.drop_subscription(id, &filter);
        }
    }
}
