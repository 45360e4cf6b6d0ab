//! Bounds of a broker: what strangers, each identity, and all together may hold. Everything that a peer can make grow is here.

use std::time::Duration;

/// Rate: a burst, then so many a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Events at once, after a quiet time.
    pub burst: u32,
    /// Events in each minute after that.
    pub per_minute: u32,
}

/// Holdings of an identity, of a group of identities, or of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Connections at the same time.
    pub connections: usize,
    /// Sessions, connected or not. At an identity's last one its session that is gone the longest makes room. Each brings 16 KiB of
    /// room for the subscriptions and wills of all of them: at least 256 KiB, at most 128 MiB, and twice that for all together. A
    /// subscription counts 384 bytes and twice its filter, and 512 more for each level of a filter with wildcards.
    pub sessions: usize,
    /// Bytes of messages that wait or are not acknowledged, counted for each receiver as if nothing was shared; a message counts
    /// 128 bytes more than its topic, properties and payload, and 4 for each subscription identifier. A total counts what each
    /// identity has above its [share](Bounds::queued_share); where it is used up, the largest session of the identity that has the
    /// most of it is ended.
    pub queued_bytes: usize,
    /// Bytes of retained messages, counted in the same way, for whoever published them.
    pub retained_bytes: usize,
}

/// Bounds of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Largest packet that it may send.
    pub packet_bytes: usize,
    /// Subscriptions of one session.
    pub subscriptions: usize,
    /// Connects.
    pub connects: Rate,
    /// Bytes of messages that wait which are its own: they count for no total, and no total that others have used up refuses them.
    /// All together may have that much for each identity beside what [`Settings::in_all`] says.
    pub queued_share: usize,
    /// Bytes of retained messages that no total refuses, neither that of its group nor that of all: for identities of which there are
    /// only so many, since as many times as much may be held beyond the totals.
    pub retained_share: usize,
    /// Holdings.
    pub quota: Quota,
}

/// Room for a few of the messages that a fleet has, so that one for all of its devices finds room with each.
const QUEUED_SHARE: usize = 4 << 10;

impl Default for Bounds {
    /// Bounds of a person's or a program's login: packets of 256 KiB, 100 subscriptions a session, 100 connects at once and 600 a
    /// minute, 100 connections, 100 sessions, 4 MiB queued and 4 KiB of them its own, 4 MiB retained and none of them.
    fn default() -> Self {
        Self {
            packet_bytes: 256 * 1024,
            subscriptions: 100,
            connects: Rate { burst: 100, per_minute: 600 },
            queued_share: QUEUED_SHARE,
            retained_share: 0,
            quota: Quota { connections: 100, sessions: 100, queued_bytes: 4 << 20, retained_bytes: 4 << 20 },
        }
    }
}

impl Bounds {
    /// Returns the bounds of a device: packets of 8 KiB, 16 subscriptions a session, 20 connects at once and 60 a minute, 4
    /// connections, 4 sessions, 256 KiB queued and 4 KiB of them its own, 32 KiB retained.
    pub fn device() -> Self {
        Self {
            packet_bytes: 8 * 1024,
            subscriptions: 16,
            connects: Rate { burst: 20, per_minute: 60 },
            queued_share: QUEUED_SHARE,
            retained_share: 0,
            quota: Quota { connections: 4, sessions: 4, queued_bytes: 256 << 10, retained_bytes: 32 << 10 },
        }
    }
}

/// Bounds of who has not logged in yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strangers {
    /// Sockets before login, in all.
    pub sockets: usize,
    /// Sockets before login of an address (IPv4) or a network of 64 bits (IPv6) that nobody takes from it. It may have more while
    /// there is room, so that many devices behind one address can come at once, but no more logins that are being decided on once all
    /// addresses together have them in half of the room. When all room is used, whoever has the most makes place: its oldest that has
    /// not said CONNECT.
    pub sockets_per_address: usize,
    /// Time from the first byte of the connection to the end of the login.
    pub time: Duration,
    /// Largest CONNECT, and so the most that is kept of half a one.
    pub connect_bytes: usize,
    /// Connections from one address that do not come to a login, or whose identity connects too often; more of them are sent away.
    pub failures_per_address: Rate,
}

/// Settings of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Bounds before login: 1,000 sockets, 64 of them for each address, 10 s, a CONNECT of 2 KiB, 2,000
    /// failures at once and 6,000 a minute of one address.
    pub strangers: Strangers,
    /// Holdings of all together: 100,000 connections, 200,000 sessions, 256 MiB queued, 256 MiB retained.
    pub in_all: Quota,
    /// Longest keep-alive; version 5 is told it, 3.1.1 cannot be: 60 s.
    pub max_keep_alive: Duration,
    /// Longest life of a session without a connection: 24 h.
    pub max_session_expiry: Duration,
    /// Unfinished messages of QoS 2 from one client of version 5, told as receive maximum: 64.
    pub receive_maximum: u16,
    /// The same for a client of 3.1.1, which cannot be told: 1,024.
    pub receive_maximum_311: u16,
    /// Unacknowledged messages to one client, unless it wants fewer: 64.
    pub send_maximum: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            strangers: Strangers {
                sockets: 1_000,
                sockets_per_address: 64,
                time: Duration::from_secs(10),
                connect_bytes: 2048,
                failures_per_address: Rate { burst: 2_000, per_minute: 6_000 },
            },
            in_all: Quota {
                connections: 100_000,
                sessions: 200_000,
                queued_bytes: 256 << 20,
                retained_bytes: 256 << 20,
            },
            max_keep_alive: Duration::from_secs(60),
            max_session_expiry: Duration::from_secs(24 * 3600),
            receive_maximum: 64,
            receive_maximum_311: 1024,
            send_maximum: 64,
        }
    }
}
