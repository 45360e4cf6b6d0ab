//! Bounds of the embedded broker, by who somebody is. Those of strangers and of all together are the defaults of `otaru-broker`.

use otaru_broker::{Bounds, Group, Quota, Rate, Settings};

use super::access::{FleetKeyUse, Identity};

/// Bounds of an identity. A device that the registry knows has a share of what is retained that nobody else can use up.
pub(super) fn of(identity: &Identity, is_registered: bool) -> Bounds {
    match identity {
        Identity::Server => server(),
        // Tools without a client id share one identity on this machine.
        Identity::Token { .. } | Identity::Local(_) => Bounds::default(),
        Identity::Device(_) if is_registered => Bounds { retained_share: RETAINED_EACH, ..Bounds::device() },
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

/// Bytes that may wait for the devices of a fleet key: so many, and for each device about half of what an offer counts, as most are
/// there and one that is not gets its offer when it comes.
const QUEUED: usize = 2 << 20;
const QUEUED_EACH: usize = 256;
/// Bytes that they may retain beside what is each one's own.
const RETAINED: usize = 2 << 20;
/// Bytes that a device may retain whatever others of its key do: half as much again as its report and its presence count.
const RETAINED_EACH: usize = 1_280;

/// Everybody who came with one fleet key. What may wait for them together grows with those that are registered, of which there are only
/// so many in an hour: whoever has the key and makes up names does not fill the memory with them.
pub(super) fn group(fleet_key: FleetKeyUse) -> Group {
    const DEVICES: u64 = 100_000;
    let devices = usize::try_from(fleet_key.devices.min(DEVICES)).unwrap_or(0);
    let quota = Quota {
        connections: 100_000,
        sessions: 100_000,
        queued_bytes: QUEUED + QUEUED_EACH * devices,
        retained_bytes: RETAINED,
    };
    Group { name: fleet_key.id, quota }
}

/// Room for connections before login, where there is little room in all: enough for a whole fleet that comes back at once, since a
/// login takes milliseconds.
const FEW_STRANGERS: usize = 256;

/// Returns the settings of a broker in a process with room for so many connections, those before login included.
pub fn settings(room: usize) -> Settings {
    let default = Settings::default();
    let sockets = (room / 64).clamp(FEW_STRANGERS, default.strangers.sockets).min(room / 4).max(16);
    let connections = room.saturating_sub(sockets).min(default.in_all.connections);
    Settings {
        in_all: Quota { connections, ..default.in_all },
        strangers: otaru_broker::Strangers {
            sockets,
            sockets_per_address: default.strangers.sockets_per_address.min(sockets / 4),
            ..default.strangers
        },
        ..default
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_a_fleet_key_hold_together_as_much_as_so_many_need() {
        let quota = |devices| group(FleetKeyUse { id: "key".into(), devices }).quota;
        // A fleet that one person has keeps whatever it likes; 50,000 devices have their reports and offers.
        assert!(quota(1).retained_bytes > 40 * Bounds::device().quota.retained_bytes);
        let own = of(&Identity::Device("lamp".into()), true).retained_share;
        assert!(own >= 1_024 && quota(50_000).queued_bytes >= 50_000 * 256);
        // As many as one may make up in an hour stay below 20 MiB.
        assert!(
            quota(10_000).retained_bytes + 10_000 * own < 15 << 20 && quota(10_000).queued_bytes < 5 << 20
        );
        assert_eq!(quota(u64::MAX), quota(100_000));
    }

    #[test]
    fn strangers_and_those_who_logged_in_fit_the_room_together() {
        for room in [64, 384, 4_096, 18_464, 100_000] {
            let settings = settings(room);
            let (inside, outside) = (settings.in_all.connections, settings.strangers.sockets);
            assert!(inside + outside <= room && inside >= outside, "{room}: {inside} {outside}");
            assert!(settings.strangers.sockets_per_address <= outside / 4, "{room}: an address is not all");
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
