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

/// Everybody who came with one fleet key: as many as one may register, 64 MiB queued, and 192 MiB retained among them, which is 2 KiB
/// for each of as many.
pub(super) fn group(fleet_key: String) -> Group {
    let quota =
        Quota { connections: 100_000, sessions: 100_000, queued_bytes: 64 << 20, retained_bytes: 192 << 20 };
    Group { name: fleet_key, quota }
}

/// Room for connections before login, where there is little room in all: enough for a whole fleet that comes back at once, since a
/// login takes milliseconds.
const FEW_STRANGERS: usize = 256;

/// Settings of a broker in a process with room for so many connections, those before login included.
pub(super) fn settings(room: usize) -> Settings {
    let default = Settings::default();
    let sockets = (room / 64).clamp(FEW_STRANGERS, default.strangers.sockets).min(room / 4).max(16);
    let connections = room.saturating_sub(sockets).min(default.in_all.connections);
    Settings {
        in_all: Quota { connections, ..default.in_all },
        strangers: otaru_broker::Strangers { sockets, ..default.strangers },
        ..default
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_and_those_who_logged_in_fit_the_room_together() {
        for room in [64, 384, 4_096, 18_464, 100_000] {
            let settings = settings(room);
            let (inside, outside) = (settings.in_all.connections, settings.strangers.sockets);
            assert!(inside + outside <= room && inside >= outside, "{room}: {inside} {outside}");
        }
        for (room, outside, inside) in [
            (384, 96, 288),
            (2_688, 256, 2_432),
            (18_464, 288, 18_176),
            (62_315, 973, 61_342),
            (100_000, 1_000, 99_000),
        ] {
            let settings = settings(room);
            let split = (settings.strangers.sockets, settings.in_all.connections);
            assert_eq!(split, (outside, inside), "of {room}, as docs/limits.md says");
        }
    }
}
