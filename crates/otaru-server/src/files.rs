//! Room for connections: each is an open file, and a process may have only so many.

use rustix::process::{Resource, getrlimit};

/// Files for the database, firmware, logs and what else is not a connection.
const OTHERS: u64 = 512;
/// The most connections of either kind, however many files there may be.
const MOST_HTTP: u64 = 8_192;
const MOST_MQTT: u64 = 100_000;

/// Connections at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// To the HTTP listener.
    pub http: usize,
    /// To the embedded broker.
    pub mqtt: usize,
}

/// Connections that this process has room for. A listener that runs out of files turns everybody away; one that counts turns away who is too many.
pub fn room() -> Room {
    split(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}

fn split(files: u64) -> Room {
    let files = files.saturating_sub(OTHERS).max(64);
    let http = (files / 4).min(MOST_HTTP);
    let mqtt = (files - http).min(MOST_MQTT);
    let number = |count| usize::try_from(count).unwrap_or(usize::MAX);
    Room { http: number(http), mqtt: number(mqtt) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_never_more_room_than_files() {
        for files in [0, 256, 1_024, 20_000, 1 << 20, u64::MAX] {
            let Room { http, mqtt } = split(files);
            assert!(http >= 16 && mqtt >= 48, "{files}: {http} {mqtt}");
            assert!(files < 1_024 || (http + mqtt) as u64 + OTHERS <= files, "{files}: {http} {mqtt}");
        }
        assert_eq!(split(20_000), Room { http: 4_872, mqtt: 14_616 });
    }
}
