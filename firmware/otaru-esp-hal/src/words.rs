//! Last words: a text in RTC memory, which keeps it over every reset but a loss of power.
//!
//! A magic number and a CRC tell a text from what stands there by chance.
#![forbid(unsafe_code)]

use esp_hal::ram;
use heapless::Vec;
use portable_atomic::{AtomicU32, Ordering};

/// Longest text; the agent reports no more.
pub(crate) const LEN: usize = 128;
const MAGIC: u32 = u32::from_le_bytes(*b"OTAR");

const AT_MAGIC: usize = 0;
const AT_PANIC: usize = 1;
const AT_LEN: usize = 2;
const AT_CRC: usize = 3;
const AT_TEXT: usize = 4;
const WORDS: usize = AT_TEXT + LEN / 4;

/// Atomics, because a panic may come at any moment. Whole words, because that is what RTC memory has.
#[ram(unstable(rtc_fast, persistent))]
static RTC: [AtomicU32; WORDS] = [const { AtomicU32::new(0) }; WORDS];

/// Leaves a text for the next boot; what does not fit is cut.
pub(crate) fn leave(text: &str, panicked: bool) {
    let mut end = text.len().min(LEN);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let bytes = &text.as_bytes()[..end];
    // Invalid while it is written.
    RTC[AT_MAGIC].store(0, Ordering::Relaxed);
    for (word, four) in RTC[AT_TEXT..].iter().zip(bytes.chunks(4)) {
        let mut padded = [0; 4];
        padded[..four.len()].copy_from_slice(four);
        word.store(u32::from_le_bytes(padded), Ordering::Relaxed);
    }
    RTC[AT_PANIC].store(u32::from(panicked), Ordering::Relaxed);
    RTC[AT_LEN].store(end as u32, Ordering::Relaxed);
    RTC[AT_CRC].store(crc32(bytes), Ordering::Relaxed);
    RTC[AT_MAGIC].store(MAGIC, Ordering::SeqCst);
}

/// Whether the last boot ended in a panic. Says so once: the text stays, but the next boot is another one.
pub(crate) fn take_panicked() -> bool {
    let panicked = peek().is_some() && RTC[AT_PANIC].load(Ordering::Relaxed) == 1;
    RTC[AT_PANIC].store(0, Ordering::Relaxed);
    panicked
}

/// Takes the text.
pub(crate) fn take() -> Option<Vec<u8, LEN>> {
    let text = peek();
    RTC[AT_MAGIC].store(0, Ordering::Relaxed);
    text
}

fn peek() -> Option<Vec<u8, LEN>> {
    if RTC[AT_MAGIC].load(Ordering::SeqCst) != MAGIC {
        return None;
    }
    let mut text = Vec::new();
    for word in &RTC[AT_TEXT..] {
        text.extend_from_slice(&word.load(Ordering::Relaxed).to_le_bytes()).ok()?;
    }
    let len = usize::try_from(RTC[AT_LEN].load(Ordering::Relaxed)).ok().filter(|len| *len <= LEN)?;
    text.truncate(len);
    (crc32(&text) == RTC[AT_CRC].load(Ordering::Relaxed)).then_some(text)
}

/// CRC-32 (ISO-HDLC), bit by bit: a table would cost more than it saves on 128 bytes.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}
