//! Asking a server how late it is: SNTP (RFC 4330), one question and its answer.
//!
//! Nobody signs the answer, so whoever is on the way can lie. A device takes no moment that is before its firmware was built, and needs
//! the time
//! for nothing but dates in certificates.

/// UDP port of a server of time (IANA).
pub const PORT: u16 = 123;

/// Bytes of a question, and of what is read of an answer.
pub const LEN: usize = 48;

/// Seconds from the beginning of 1900, where NTP begins, to that of 1970.
const FROM_1900: u64 = 2_208_988_800;
/// Seconds of an era of NTP: its seconds have 32 bits. The second era begins in 2036.
const ERA: u64 = 1 << 32;

/// Latest moment that eras are told apart by.
const LATEST: u64 = 1 << 40;

/// Version 4, mode 3: a client asks.
const ASKS: u8 = 4 << 3 | 3;
/// Mode 4: a server answers.
const ANSWERS: u8 = 4;

/// Reason that an answer is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadAnswer {
    /// Too short, or not a server's.
    NoAnswer,
    /// To another question than ours.
    NotOurs,
    /// The server does not know the time, or wants to be left alone.
    Unknown,
}

/// The question; `nonce` are random bits by which the answer is told from others' (RFC 4330, 5: the transmit timestamp).
pub fn question(nonce: u64) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    bytes[0] = ASKS;
    bytes[LEN - 8..].copy_from_slice(&nonce.to_be_bytes());
    bytes
}

/// Seconds since 1970 by the server's answer to the question with this nonce. `past` is a moment that is past, which tells NTP's eras
/// apart.
///
/// # Errors
/// Returns an error if it is no answer to that question, or has no time in it.
pub fn answer(bytes: &[u8], nonce: u64, past: u64) -> Result<u64, BadAnswer> {
    let bytes = bytes.first_chunk::<LEN>().ok_or(BadAnswer::NoAnswer)?;
    let [kind, stratum, ..] = *bytes;
    let (leap, version, mode) = (kind >> 6, kind >> 3 & 7, kind & 7);
    if mode != ANSWERS || !(1..=4).contains(&version) {
        return Err(BadAnswer::NoAnswer);
    }
    if timestamp(bytes, 24) != nonce {
        return Err(BadAnswer::NotOurs);
    }
    let sent = timestamp(bytes, 40);
    // A stratum of 0 is a "kiss of death" (RFC 5905, 7.4), one above 15 and a leap of 3 that it is not synchronised.
    if leap == 3 || !(1..=15).contains(&stratum) || sent == 0 {
        return Err(BadAnswer::Unknown);
    }
    Ok(in_era(sent >> 32, past))
}

/// The moment with these seconds of NTP that is nearest to `past`.
fn in_era(seconds: u64, past: u64) -> u64 {
    let past = past.min(LATEST) + FROM_1900;
    let moment = past - past % ERA + seconds;
    let moment = match moment {
        _ if moment + ERA / 2 < past => moment + ERA,
        // A server whose clock is behind is behind, and not a century ahead.
        _ if moment > past + ERA / 2 && moment >= ERA => moment - ERA,
        _ => moment,
    };
    moment.saturating_sub(FROM_1900)
}

fn timestamp(bytes: &[u8; LEN], at: usize) -> u64 {
    let place = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
    place.map_or(0, |eight| u64::from_be_bytes(*eight))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: u64 = 0x0123_4567_89AB_CDEF;
    const BUILD: u64 = 1_780_000_000;

    /// An answer with this moment, in seconds since 1970.
    fn from_server(moment: u64) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        (bytes[0], bytes[1]) = (4 << 3 | ANSWERS, 2);
        bytes[24..32].copy_from_slice(&NONCE.to_be_bytes());
        bytes[40..].copy_from_slice(&(((moment + FROM_1900) % ERA) << 32 | 7).to_be_bytes());
        bytes
    }

    #[test]
    fn a_question_is_a_client_s_and_says_nothing_but_its_nonce() {
        let bytes = question(NONCE);
        assert_eq!(bytes[0], 0x23);
        assert_eq!(bytes[40..], NONCE.to_be_bytes());
        assert!(bytes[1..40].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn an_answer_tells_the_time_in_either_era() {
        for moment in [BUILD, BUILD + 1, 2_085_978_495, 2_085_978_496, 3_900_000_000] {
            assert_eq!(answer(&from_server(moment), NONCE, BUILD), Ok(moment));
        }
        // A server that is behind is not a century ahead, also where another era has begun meanwhile.
        assert_eq!(answer(&from_server(2_085_000_000), NONCE, 2_086_000_000), Ok(2_085_000_000));
        assert_eq!(answer(&from_server(BUILD - 86_400), NONCE, BUILD), Ok(BUILD - 86_400));
    }

    #[test]
    fn what_is_no_answer_to_our_question_is_refused() {
        let with = |at: usize, byte: u8| {
            let mut bytes = from_server(BUILD);
            bytes[at] = byte;
            answer(&bytes, NONCE, BUILD)
        };
        assert_eq!(answer(&from_server(BUILD)[..LEN - 1], NONCE, BUILD), Err(BadAnswer::NoAnswer));
        assert_eq!(answer(&[], NONCE, BUILD), Err(BadAnswer::NoAnswer));
        for kind in [ASKS, 4 << 3 | 5, 4 << 3 | 6, 4, 5 << 3 | ANSWERS] {
            assert_eq!(with(0, kind), Err(BadAnswer::NoAnswer), "{kind:#x}");
        }
        assert_eq!(with(31, 0), Err(BadAnswer::NotOurs));
        assert_eq!(answer(&question(NONCE), NONCE, BUILD), Err(BadAnswer::NoAnswer), "our own question");
        assert_eq!(with(0, 3 << 6 | 4 << 3 | ANSWERS), Err(BadAnswer::Unknown));
        for stratum in [0, 16, 255] {
            assert_eq!(with(1, stratum), Err(BadAnswer::Unknown), "stratum {stratum}");
        }
        let mut silent = from_server(BUILD);
        silent[40..].fill(0);
        assert_eq!(answer(&silent, NONCE, BUILD), Err(BadAnswer::Unknown));
    }

    #[test]
    fn any_bytes_are_taken() {
        for byte in 0..=255 {
            let _ = answer(&[byte; LEN + 20], u64::from_be_bytes([byte; 8]), u64::MAX);
        }
    }
}
