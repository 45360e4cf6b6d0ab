//! State of the router, and what its parts share.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::account::{AccountId, Accounts};
use super::ids::{Link, SessionId};
use super::login::{Logins, Ticket};
use super::message::{Routing, WillToSend};
use super::retained::Retained;
use super::session::Session;
use super::stats::Stats;
use super::subscriptions::{Subscription, Subscriptions};
use crate::policy::Policy;
use crate::reason::Reason;
use crate::settings::Settings;

/// Something that is due at a moment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// The will of a session.
    Will(SessionId),
    /// The end of a session without a connection.
    Session(SessionId),
    /// The end of a retained message's life.
    Retained(Arc<str>),
    /// Another look whether there is room for the retained messages of a session.
    Room(SessionId),
    /// A look at an account that held nothing.
    Account(AccountId),
    /// Messages and wills that were left over.
    Backlog,
}

/// Time after which an account that holds nothing is closed, so that its rate of connects counts on.
const ACCOUNT_LINGERS: Duration = Duration::from_secs(60);

/// Accounts that hold nothing and are kept. Each may have a name of 64 KiB.
const IDLE_ACCOUNTS: usize = 1_000;

/// All that a broker knows beside its sockets.
pub(crate) struct Router<P: Policy> {
    pub(super) policy: Arc<P>,
    pub(super) settings: Settings,
    pub(super) accounts: Accounts<P::Identity>,
    pub(super) logins: Logins<P::Identity>,
    pub(super) sessions: HashMap<SessionId, Box<Session>>,
    pub(super) clients: HashMap<(AccountId, Arc<str>), SessionId>,
    pub(super) subscriptions: Subscriptions,
    pub(super) retained: Retained,
    pub(super) due: BTreeSet<(Instant, Due)>,
    /// Accounts that held nothing, with the moment at which they are looked at again; some may be in use since.
    pub(super) idle: VecDeque<(Instant, AccountId)>,
    pub(super) last_number: u64,
    pub(super) subscribed: usize,
    pub(super) dropped: u64,
    /// Messages on their way to their receivers.
    pub(super) underway: VecDeque<Routing>,
    /// Whether it is noted that there is more to work off.
    pub(super) is_backlog_due: bool,
    /// Memory for the receivers of the next message.
    pub(super) receivers: Vec<(SessionId, Subscription)>,
    /// Wills to publish before the router is left. One may end connections whose wills come behind it.
    pub(super) wills: VecDeque<WillToSend>,
    /// Accounts for which a session was ended to make room for the message that is being routed: of an identity, or of all.
    pub(super) ended_for: HashSet<AccountId>,
}

impl<P: Policy> Router<P> {
    pub(crate) fn new(policy: Arc<P>, settings: Settings, now: Instant) -> Self {
        Self {
            policy,
            settings,
            accounts: Accounts::new(settings.in_all, now),
            logins: Logins::default(),
            sessions: HashMap::new(),
            clients: HashMap::new(),
            subscriptions: Subscriptions::default(),
            retained: Retained::default(),
            due: BTreeSet::new(),
            idle: VecDeque::new(),
            last_number: 0,
            subscribed: 0,
            dropped: 0,
            underway: VecDeque::new(),
            is_backlog_due: false,
            receivers: Vec::new(),
            wills: VecDeque::new(),
            ended_for: HashSet::new(),
        }
    }

    /// Returns the session that a connection holds.
    ///
    /// # Errors
    /// When the connection was ended, as its signal says, too.
    pub(super) fn held(&mut self, link: Link) -> Result<&mut Session, Reason> {
        let session = self.sessions.get_mut(&link.session).map(|session| &mut **session);
        session.filter(|session| session.is_held_by(link)).ok_or(Reason::SessionTakenOver)
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Begins a login.
    pub(crate) fn begin_login(&mut self) -> Ticket {
        self.logins.begin()
    }

    /// Gives up a login.
    pub(crate) fn abandon_login(&mut self, ticket: &Ticket) {
        // It has no identity that could have ended.
        let _ = self.logins.finish(ticket, None);
    }

    /// Notes that an account may have become idle. Of very many the oldest is closed, and its rate of connects forgotten.
    pub(super) fn watch_account(&mut self, id: AccountId, now: Instant) {
        if !self.accounts.watch_if_idle(id) {
            return;
        }
        let Some(at) = now.checked_add(ACCOUNT_LINGERS) else { return };
        self.due.insert((at, Due::Account(id)));
        self.idle.push_back((at, id));
        while self.idle.len() > IDLE_ACCOUNTS
            && let Some((at, oldest)) = self.idle.pop_front()
        {
            if self.due.remove(&(at, Due::Account(oldest)))
                && let Some(above) = self.accounts.close_if_idle(oldest, None)
            {
                self.watch_account(above, now);
            }
        }
    }

    /// Counts what there is.
    pub(crate) fn stats(&self) -> Stats {
        let used = self.accounts.in_all();
        Stats {
            strangers: 0,
            logins: self.logins.len(),
            connections: used.connections,
            sessions: used.sessions,
            subscriptions: self.subscribed,
            subscribed_bytes: used.subscribed_bytes,
            retained: self.retained.len(),
            retained_bytes: used.retained_bytes,
            queued_bytes: used.queued_bytes,
            accounts: self.accounts.len(),
            dropped: self.dropped,
        }
    }
}
