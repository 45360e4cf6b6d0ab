//! The broker as its user holds it.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use super::connection::serve;
use super::listener::listen;
use super::shared::{Shared, Visit, now};
use super::timekeeper::keep_time;
use super::wire::Wire;
use crate::channel::ChannelHandle;
use crate::policy::Policy;
use crate::reason::Reason;
use crate::router::{Ended, Stats};
use crate::settings::Settings;

/// A broker. Copies are of the same broker; it runs until it is [stopped](Self::stop).
pub struct Broker<P: Policy>(Arc<Shared<P>>);

impl<P: Policy> Clone for Broker<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Manner in which [`Broker::end`] ends connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndOptions {
    /// Reason that clients of version 5 are told; those that are logging in are told what comes nearest among the reasons for that.
    pub reason: Reason,
    /// Whether wills are published; else they are forgotten.
    pub publish_wills: bool,
}

impl Default for EndOptions {
    /// "Ended by administration", without wills.
    fn default() -> Self {
        Self { reason: Reason::AdministrativeAction, publish_wills: false }
    }
}

/// Identities that are ended while all others wait.
const AT_ONCE: usize = 64;

/// Time that connections have to end when the broker stops.
const FAREWELL: Duration = Duration::from_secs(2);

impl<P: Policy> Broker<P> {
    /// Makes a broker, within a tokio runtime.
    pub fn new(policy: P, settings: Settings) -> Self {
        let shared = Arc::new(Shared::new(Arc::new(policy), settings));
        tokio::spawn(keep_time(Arc::downgrade(&shared)));
        Self(shared)
    }

    /// Takes connections from a listener until the broker stops.
    pub fn listen(&self, listener: TcpListener) -> impl Future<Output = ()> + Send + 'static {
        self.listen_behind(listener, [])
    }

    /// Takes connections from a listener until the broker stops. A peer with the address of one of these proxies may say first who is
    /// behind it, in version 1 or 2 of the PROXY protocol; then that address counts. Of any other peer such a header is no CONNECT.
    pub fn listen_behind(
        &self,
        listener: TcpListener,
        proxies: impl IntoIterator<Item = IpAddr>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let proxies = proxies.into_iter().map(|ip| ip.to_canonical()).collect();
        listen(Arc::clone(&self.0), listener, proxies, |stream, _| (stream, ChannelHandle::default()))
    }

    /// Takes connections from a listener until the broker stops, and puts something around each stream, such as TLS. The handle says what
    /// came of that. Nothing may be waited for meanwhile: a handshake is for the first who reads the stream, so that it lies within the
    /// time and the bounds of a login.
    pub fn listen_with<S, W>(
        &self,
        listener: TcpListener,
        wrap: W,
    ) -> impl Future<Output = ()> + Send + 'static
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        W: Fn(TcpStream, SocketAddr) -> (S, ChannelHandle) + Send + 'static,
    {
        listen(Arc::clone(&self.0), listener, [].into(), wrap)
    }

    /// Serves one connection, of whatever kind, until it ends.
    pub fn serve<S>(&self, stream: S, peer: SocketAddr) -> impl Future<Output = ()> + Send + 'static
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let visit = Visit::begin(&self.0, peer);
        async move {
            match visit {
                Ok(visit) => serve(visit, stream).await,
                Err(Some(dismissal)) => Box::pin(dismissal.serve(Wire::new(stream), false)).await,
                Err(None) => {}
            }
        }
    }

    /// Ends all connections and sessions of the identities that `ended` describes, and keeps out whoever is logging in as one of them
    /// now. From its return on they have no rights; their sockets close within a second. Returns how many connections it ended.
    pub fn end(
        &self,
        ended: impl Fn(&P::Identity) -> bool + Send + Sync + 'static,
        options: EndOptions,
    ) -> usize {
        let ended: Ended<P::Identity> = Arc::new(ended);
        let holders = self.0.route(|router| {
            router.bar(Arc::clone(&ended), options.reason);
            router.holders(&ended)
        });
        self.end_each(&holders, options)
    }

    /// Does the same for these identities, at a cost that depends on them alone and not on how many others there are.
    pub fn end_identities(&self, ended: impl IntoIterator<Item = P::Identity>, options: EndOptions) -> usize {
        let ended: Arc<HashSet<P::Identity>> = Arc::new(ended.into_iter().collect());
        let described = Arc::clone(&ended);
        self.0.route(|router| router.bar(Arc::new(move |who| described.contains(who)), options.reason));
        let ended: Vec<_> = ended.iter().cloned().collect();
        self.end_each(&ended, options)
    }

    /// Ends identities, some at a time, so that nobody waits for all of them.
    fn end_each(&self, ended: &[P::Identity], options: EndOptions) -> usize {
        let end = |some: &[P::Identity]| {
            self.0.route(|router| router.end(some, options.reason, options.publish_wills, now()))
        };
        ended.chunks(AT_ONCE).map(end).sum()
    }

    /// Forgets the retained messages whose topics begin with `prefix`, without telling anybody. Returns how many there were.
    pub fn forget_retained(&self, prefix: &str) -> usize {
        self.0.route(|router| router.forget_retained(prefix, now()))
    }

    /// Counts what the broker holds.
    pub fn stats(&self) -> Stats {
        let stats = self.0.route(|router| router.stats());
        Stats { strangers: self.0.door(|door| door.strangers()), ..stats }
    }

    /// Returns the policy.
    pub fn policy(&self) -> &P {
        &self.0.policy
    }

    /// Stops: nobody is taken in any longer, all connections end with "server shutting down" and their wills. Returns when all are
    /// gone, or after two seconds.
    pub async fn stop(&self) {
        self.0.stop();
        self.0.door(|door| door.close(Reason::ServerShuttingDown));
        self.end(|_| true, EndOptions { reason: Reason::ServerShuttingDown, publish_wills: true });
        let deadline = now() + FAREWELL;
        while self.0.door(|door| door.present()) > 0 && now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
