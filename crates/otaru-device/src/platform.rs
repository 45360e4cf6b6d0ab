//! A device as the agent sees it: the kinds of its parts, and the parts themselves.

use embedded_nal_async::{Dns, TcpConnect};
use embedded_storage_async::nor_flash::MultiwriteNorFlash;
use rand_core::RngCore;

use crate::board::{Board, Clock, Health, Link};
use crate::tls::Tls;

/// The kinds of a device's parts. Nothing of it is ever made: it names what [`Parts`] holds.
pub trait Platform {
    /// Sockets and names.
    type Net: TcpConnect + Dns;
    /// TLS; [`NoTls`](crate::NoTls) for none.
    type Tls: Tls;
    /// Time.
    type Clock: Clock;
    /// The whole flash chip.
    type Flash: MultiwriteNorFlash;
    /// The chip.
    type Board: Board;
    /// Wi-Fi.
    type Link: Link;
    /// The application's health check.
    type Health: Health;
    /// Randomness for jitter, and for an epoch of the memory.
    type Rng: RngCore + Clone;
}

/// Parts of a device that the agent works with, besides its [`Workspace`](crate::Workspace).
pub struct Parts<'a, P: Platform> {
    /// Sockets and names.
    pub net: &'a P::Net,
    /// TLS.
    pub tls: &'a P::Tls,
    /// Time.
    pub clock: &'a P::Clock,
    /// The whole flash chip.
    pub flash: P::Flash,
    /// The chip.
    pub board: P::Board,
    /// Wi-Fi.
    pub link: P::Link,
    /// The application's health check.
    pub health: P::Health,
    /// Randomness for jitter, and for an epoch of the memory: not the same at every start, or a memory that was lost, or a device
    /// that has none, numbers its reports as before and they pass for old ones.
    pub rng: P::Rng,
}

impl<P: Platform> core::fmt::Debug for Parts<'_, P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}
