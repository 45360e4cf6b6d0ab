//! A server of time on loopback, which the emulated network lets the device reach (SNTP, RFC 4330).

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};

/// UDP port that servers of time have.
const PORT: u16 = 123;
const LEN: usize = 48;
/// Seconds from 1900, where NTP begins, to 1970.
const FROM_1900: u64 = 2_208_988_800;
/// Version 4, and a server answers.
const ANSWERS: u8 = 4 << 3 | 4;
/// A clock of its own.
const STRATUM: u8 = 1;

/// Answers for as long as the program runs; `false` where this user may not have the port, or somebody else has it.
pub(super) fn start() -> Result<bool> {
    let socket = match UdpSocket::bind((Ipv4Addr::LOCALHOST, PORT)) {
        Ok(socket) => socket,
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::AddrInUse) => {
            return Ok(false);
        }
        Err(error) => return Err(error).context("no port for a server of time"),
    };
    thread::spawn(move || {
        let mut question = [0; LEN];
        while let Ok((_, device)) = socket.recv_from(&mut question) {
            let _ = socket.send_to(&answer(&question, now()), device);
        }
    });
    Ok(true)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Answer to a question, with the time `now` in seconds since 1970.
fn answer(question: &[u8; LEN], now: u64) -> [u8; LEN] {
    let mut answer = [0; LEN];
    (answer[0], answer[1]) = (ANSWERS, STRATUM);
    // What the question has as the moment it was sent, the answer has as its origin.
    answer[24..32].copy_from_slice(&question[40..]);
    let stamp = ((now + FROM_1900) << 32).to_be_bytes();
    answer[32..40].copy_from_slice(&stamp);
    answer[40..].copy_from_slice(&stamp);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_its_question_and_the_time() {
        let mut question = [0; LEN];
        question[40..].copy_from_slice(b"question");
        let answer = answer(&question, 0);
        assert_eq!((answer[0], answer[1], &answer[24..32]), (0x24, 1, &b"question"[..]));
        // The first second of 1970, in those of 1900 (RFC 4330, 3).
        assert_eq!(answer[40..44], 0x83AA_7E80_u32.to_be_bytes());
    }
}
