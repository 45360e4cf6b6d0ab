//! Bounds of the embedded broker, by who somebody is. Those of strangers and of all together are the defaults of `otaru-broker`.

use otaru_broker::{Bounds, Group, Quota, Rate, Settings};

use super::access::Identity;

/// Bounds of an identity.
pub(super) fn of(identity: &Identity) -> Bounds {
    match identity {
        Identity::Server => server(),
        // Tools without a client id share one identity on this machine.
        Identity::Token { .. } | Identity::Local(_) => Bounds::default(),
        Identity::Device(_) => Bounds::device(),
    }
}

/// The server hears every device, and keeps what Home Assistant is to find: half of what all may have.
fn server() -> Bounds {
    let default = Bounds::default();
    Bounds {
        subscriptions: 1_000,
        connects: Rate { burst: 1_000, per_minute: 6_000 },
        quota: Quota { queued_bytes: 128 << 20, retained_bytes: 128 << 20, ..default.quota },
        ..default
    }
}

/// Everybody who came with one fleet key: as many as one may register, 64 MiB queued and 64 MiB retained among them.
pub(super) fn group(fleet_key: String) -> Group {
    let quota =
        Quota { connections: 100_000, sessions: 100_000, queued_bytes: 64 << 20, retained_bytes: 64 << 20 };
    Group { name: fleet_key, quota }
}

/// Settings of a broker in a process with room for so many connections.
pub(super) fn settings(room: usize) -> Settings {
    let default = Settings::default();
    let in_all = Quota { connections: room.min(default.in_all.connections), ..default.in_all };
    let strangers = otaru_broker::Strangers {
        // Who has not logged in yet takes no place of who has.
        sockets: default.strangers.sockets.min(room / 4).max(16),
        ..default.strangers
    };
    Settings { in_all, strangers, ..default }
}
