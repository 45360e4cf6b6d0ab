//! Room for connections: each is an open file, and a process may have only so many.

use rustix::process::{Resource, getrlimit};

/// Files for the database, firmware, logs and what else is not a connection.
const OTHERS: u64 = 512;
/// The most connections to the HTTP listener. While there are few files it has a quarter of them, up to [`ENOUGH_HTTP`]; beyond that
/// the devices' connections come first, which stay, and it has one in [`SHARE_HTTP`].
const MOST_HTTP: u64 = 8_192;
const ENOUGH_HTTP: u64 = 1_024;
const SHARE_HTTP: u64 = 24;
/// The most connections to the broker, however many files there may be.
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
    let http = (files / 4).min((files / SHARE_HTTP).clamp(ENOUGH_HTTP, MOST_HTTP));
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
            assert!(files < 1_024 || http as u64 <= files / 4, "{files}: {http}");
        }
        for (files, http, mqtt) in [
            (1_024, 128, 384),
            (4_096, 896, 2_688),
            (20_000, 1_024, 18_464),
            (65_536, 2_709, 62_315),
            (262_144, 8_192, 100_000),
        ] {
            assert_eq!(split(files), Room { http, mqtt }, "of {files}, as docs/limits.md says");
        }
    }
}
