//! Last words: a text in RTC memory, which keeps it over every reset but a loss of power.
//!
//! A magic number and a CRC tell a text from what stands there by chance. It stands at a fixed address: the firmware
//! that reads it is another one than wrote it, and a linker may put a variable anywhere.

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
const AT_REFUSED: usize = AT_TEXT + LEN / 4;
const WORDS: usize = AT_REFUSED + 1;

/// The last 256 bytes of RTC fast memory, as data is read from it (the chips' technical reference manuals, "System and
/// Memory"; 8 KiB, the ESP32-C6's low-power memory 16 KiB).
const ADDRESS: usize = if cfg!(feature = "esp32") {
    0x3FF8_1F00
} else if cfg!(feature = "esp32s2") {
    0x3FF9_FF00
} else if cfg!(feature = "esp32s3") {
    0x600F_FF00
} else if cfg!(feature = "esp32c6") {
    0x5000_3F00
} else {
    0x5000_1F00
};
const _: () = assert!(WORDS * 4 <= 256);

/// Atomics, because a panic may come at any moment. Whole words, because that is what RTC memory has.
fn rtc() -> &'static [AtomicU32; WORDS] {
    // SAFETY: This memory is always there, the address is aligned, any bytes are valid atomics, and nothing else makes a
    // reference to it: the linker fills RTC memory from its start and has far more room than it is given.
    unsafe { &*(ADDRESS as *const [AtomicU32; WORDS]) }
}

/// Leaves a text for the next boot; what does not fit is cut.
pub(crate) fn leave(text: &str, panicked: bool) {
    let mut end = text.len().min(LEN);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let bytes = &text.as_bytes()[..end];
    // Invalid while it is written.
    rtc()[AT_MAGIC].store(0, Ordering::Relaxed);
    for (word, four) in rtc()[AT_TEXT..AT_REFUSED].iter().zip(bytes.chunks(4)) {
        let mut padded = [0; 4];
        padded[..four.len()].copy_from_slice(four);
        word.store(u32::from_le_bytes(padded), Ordering::Relaxed);
    }
    rtc()[AT_PANIC].store(u32::from(panicked), Ordering::Relaxed);
    rtc()[AT_LEN].store(end as u32, Ordering::Relaxed);
    rtc()[AT_CRC].store(crc32(bytes), Ordering::Relaxed);
    rtc()[AT_MAGIC].store(MAGIC, Ordering::SeqCst);
}

/// Whether the last boot ended in a panic. Says so once: the text stays, but the next boot is another one.
pub(crate) fn take_panicked() -> bool {
    let panicked = peek().is_some() && rtc()[AT_PANIC].load(Ordering::Relaxed) == 1;
    rtc()[AT_PANIC].store(0, Ordering::Relaxed);
    panicked
}

/// Notes that this start ended in a refusal to run.
pub(crate) fn refuse() {
    rtc()[AT_REFUSED].store(MAGIC, Ordering::SeqCst);
}

/// Whether the last start ended so. Says it once.
pub(crate) fn take_refused() -> bool {
    let refused = rtc()[AT_REFUSED].load(Ordering::SeqCst) == MAGIC;
    rtc()[AT_REFUSED].store(0, Ordering::SeqCst);
    refused
}

/// Takes the text.
pub(crate) fn take() -> Option<Vec<u8, LEN>> {
    let text = peek();
    rtc()[AT_MAGIC].store(0, Ordering::Relaxed);
    text
}

fn peek() -> Option<Vec<u8, LEN>> {
    if rtc()[AT_MAGIC].load(Ordering::SeqCst) != MAGIC {
        return None;
    }
    let mut text = Vec::new();
    for word in &rtc()[AT_TEXT..AT_REFUSED] {
        text.extend_from_slice(&word.load(Ordering::Relaxed).to_le_bytes()).ok()?;
    }
    let len = usize::try_from(rtc()[AT_LEN].load(Ordering::Relaxed)).ok().filter(|len| *len <= LEN)?;
    text.truncate(len);
    (crc32(&text) == rtc()[AT_CRC].load(Ordering::Relaxed)).then_some(text)
}

/// CRC-32 (ISO-HDLC), bit by bit: a table would cost more than it saves on 128 bytes.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}
