//! State that all tasks of a broker share, and a socket's stay in it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, Semaphore};

use super::dismissal::{DISMISSALS, Dismissal, FAREWELLS};
use super::door::{Door, Origin, Standing};
use crate::channel::ChannelHandle;
use crate::policy::Policy;
use crate::reason::Reason;
use crate::router::Router;
use crate::settings::Settings;
use crate::signal::Signal;

/// Returns the present moment, which tests may halt.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Bytes of a client id in the log: those of the longest name of a device.
const LOGGED_ID: usize = 64;

/// Returns as much of a client id as the log shows; none of an empty one.
fn beginning(client: &str) -> Option<&str> {
    client.get(..client.floor_char_boundary(LOGGED_ID)).filter(|shown| !shown.is_empty())
}

/// State of one broker.
pub(super) struct Shared<P: Policy> {
    pub(super) policy: Arc<P>,
    pub(super) settings: Settings,
    router: Mutex<Routing<P>>,
    door: Mutex<Door>,
    /// Permits for those who are not taken in and may still hear why.
    pub(super) dismissals: Arc<Semaphore>,
    /// Permits for those who are gone and are waited for until they have taken their last packet.
    pub(super) farewells: Semaphore,
    /// Wakes the timekeeper when something is due earlier than it knows.
    pub(super) sooner: Notify,
    pub(super) stopped: Notify,
    stopping: AtomicBool,
}

/// The router, and the moment for which the timekeeper has set its alarm.
struct Routing<P: Policy> {
    router: Router<P>,
    alarm: Option<Instant>,
}

/// Returns what a lock guards. A task that panicked did so between two whole changes, or has taken only its own connection along.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<P: Policy> Shared<P> {
    pub(super) fn new(policy: Arc<P>, settings: Settings) -> Self {
        let router = Router::new(Arc::clone(&policy), settings, now());
        Self {
            policy,
            settings,
            router: Mutex::new(Routing { router, alarm: None }),
            door: Mutex::new(Door::new(settings)),
            dismissals: Arc::new(Semaphore::new(DISMISSALS)),
            farewells: Semaphore::new(FAREWELLS),
            sooner: Notify::new(),
            stopped: Notify::new(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Does something with the router, for a short time.
    pub(super) fn route<T>(&self, work: impl FnOnce(&mut Router<P>) -> T) -> T {
        let mut routing = locked(&self.router);
        let result = work(&mut routing.router);
        let is_sooner = match (routing.router.next_due(), routing.alarm) {
            (Some(due), Some(alarm)) => due < alarm,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if is_sooner {
            routing.alarm = routing.router.next_due();
        }
        drop(routing);
        if is_sooner {
            self.sooner.notify_one();
        }
        result
    }

    /// Does what is due; returns when to come back at the latest.
    pub(super) fn tick(&self) -> Option<Instant> {
        let mut routing = locked(&self.router);
        routing.alarm = routing.router.tick(now());
        routing.alarm
    }

    pub(super) fn door<T>(&self, work: impl FnOnce(&mut Door) -> T) -> T {
        work(&mut locked(&self.door))
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.stopped.notify_waiters();
    }

    /// Writes a line about a refusal to the log, unless there was one within the last second. The client id is empty where it was not told.
    pub(super) fn note_refusal(&self, peer: SocketAddr, client: &str, reason: &dyn fmt::Display) {
        if let Some(count) = self.door(|door| door.refuse(now())) {
            // As text, which logs escape: anybody may have chosen it.
            let client = beginning(client);
            tracing::info!(%peer, client, %reason, count, "MQTT connections were refused");
        }
    }
}

/// A socket's stay: it counts at the door until this is dropped.
pub(super) struct Visit<P: Policy> {
    pub(super) shared: Arc<Shared<P>>,
    pub(super) signal: Arc<Signal>,
    pub(super) peer: SocketAddr,
    pub(super) channel: ChannelHandle,
    /// Whether the peer is a proxy that may name another.
    pub(super) is_proxy: bool,
    /// Proxy that has named the peer.
    pub(super) proxy: Option<Box<SocketAddr>>,
    standing: Standing,
}

impl<P: Policy> Visit<P> {
    /// Takes a socket in.
    ///
    /// # Errors
    /// When it is to be sent away, or even to be closed at once.
    pub(super) fn begin(shared: &Arc<Shared<P>>, peer: SocketAddr) -> Result<Self, Option<Dismissal>> {
        let signal = Arc::new(Signal::default());
        let entered = match shared.is_stopping() {
            true => Err(Reason::ServerShuttingDown),
            false => shared.door(|door| door.enter(Origin::from(peer.ip()), &signal, now())),
        };
        match entered {
            Ok(pass) => {
                let (shared, channel) = (Arc::clone(shared), ChannelHandle::default());
                let standing = Standing::Silent(pass);
                Ok(Self { shared, signal, peer, channel, is_proxy: false, proxy: None, standing })
            }
            Err(reason) => {
                shared.note_refusal(peer, "", &reason);
                Err(Dismissal::begin(&shared.dismissals, reason))
            }
        }
    }

    /// Notes that it has said CONNECT.
    ///
    /// # Errors
    /// When it had to make place for another, or too many logins of its address are being decided on.
    pub(super) fn hear(&mut self) -> Result<(), Reason> {
        if let Standing::Silent(pass) = self.standing {
            self.shared.door(|door| door.hear(self.peer.ip().into(), pass))?;
            self.standing = Standing::Deciding;
        }
        Ok(())
    }

    /// Notes that a proxy has brought it from another address, for which it counts from now on.
    ///
    /// # Errors
    /// When it is to be sent away.
    pub(super) fn come_from(&mut self, sender: SocketAddr) -> Result<(), Reason> {
        let (proxy, standing, signal) = (Origin::from(self.peer.ip()), self.standing, &self.signal);
        let sender = SocketAddr::new(sender.ip().to_canonical(), sender.port());
        self.proxy = Some(Box::new(std::mem::replace(&mut self.peer, sender)));
        let entered = self.shared.door(|door| {
            door.part(proxy, standing);
            door.forgive(proxy);
            door.enter(sender.ip().into(), signal, now())
        });
        self.standing = entered.map_or(Standing::Gone, Standing::Silent);
        entered.map(drop)
    }

    /// Gives its place free before its last packet is written. While the broker stops it is waited for until then.
    pub(super) fn leave(&mut self) {
        if !self.shared.is_stopping() {
            let standing = std::mem::replace(&mut self.standing, Standing::Gone);
            self.shared.door(|door| door.part(self.peer.ip().into(), standing));
        }
    }

    /// Counts it as one who has logged in, after it was heard.
    pub(super) fn admit(&mut self) {
        self.shared.door(|door| door.admit(self.peer.ip().into()));
        self.standing = Standing::Guest;
    }

    /// Notes that its connect was no failure of its address: nothing refused it, or nobody could decide.
    pub(super) fn forgive(&self) {
        self.shared.door(|door| door.forgive(self.peer.ip().into()));
    }
}

impl<P: Policy> Drop for Visit<P> {
    fn drop(&mut self) {
        let origin = self.peer.ip().into();
        self.shared.door(|door| door.part(origin, self.standing));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_shows_the_beginning_of_a_client_id() {
        assert_eq!(beginning(""), None);
        assert_eq!(beginning("lamp"), Some("lamp"));
        let long = format!("{}ä{}", "x".repeat(63), "y".repeat(9_000));
        assert_eq!(beginning(&long), Some("x".repeat(63).as_str()));
    }
}
