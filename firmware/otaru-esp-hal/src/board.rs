//! The chip as the agent sees it: why it started, its watchdog, its crash message, its restart.
#![forbid(unsafe_code)]

use core::convert::Infallible;
use core::fmt;
use core::time::Duration;

use embassy_time::Timer;
use esp_hal::peripherals::RTC_TIMER;
use esp_hal::rtc_cntl::{Rtc, RwdtStage, reset_reason};
use esp_hal::system::{Cpu, software_reset};
use otaru_device::format::chip::Chip;
use otaru_device::slots::SlotError;
use otaru_device::{Board, ResetReason, text};

use crate::{flash, memory, mmu, words};

/// The watchdog until the agent takes it over: ample time for the start and for hashing the image.
const START: Duration = Duration::from_secs(60);
/// Seconds between two lines of a program that can do nothing and says why.
const REPEAT: u64 = 10;

#[cfg(feature = "esp32")]
const CHIP: Chip = Chip::Esp32;
#[cfg(feature = "esp32s2")]
const CHIP: Chip = Chip::Esp32S2;
#[cfg(feature = "esp32s3")]
const CHIP: Chip = Chip::Esp32S3;
#[cfg(feature = "esp32c3")]
const CHIP: Chip = Chip::Esp32C3;
#[cfg(feature = "esp32c6")]
const CHIP: Chip = Chip::Esp32C6;

/// A chip of the ESP32 family. The watchdog is the RTC's: it runs on a clock of its own and resets everything, and once
/// armed it is never stopped.
pub struct EspBoard<'d> {
    rtc: Rtc<'d>,
    reason: ResetReason,
    running: u32,
    refused_before: bool,
}

impl<'d> EspBoard<'d> {
    /// Arms the watchdog, so make this the first thing after `esp_hal::init`. [`otaru_device::begin`] takes it over, and the
    /// running agent feeds it; what runs without the agent must do so itself.
    pub fn new(timer: RTC_TIMER<'d>) -> Self {
        let mut board = Self {
            rtc: Rtc::new(timer),
            reason: ResetReason::Other,
            running: mmu::running_address(),
            refused_before: words::take_refused(),
        };
        board.arm_watchdog(START);
        board.reason = reason(words::take_panicked());
        board
    }

    /// Ends a start that found no slots. It says why for a minute, then restarts: flash may answer the next time, and a
    /// bootloader that goes back by itself gets its chance. Where a restart does not help, as with a partition table of another
    /// kind, there is only one, and it says why again and again.
    pub async fn refuse<E: fmt::Debug>(&mut self, error: &SlotError<E>) -> ! {
        let reason = format_args!("{error}");
        if error.is_lasting() {
            if self.refused_before {
                loop {
                    self.say(&reason).await;
                }
            }
            words::refuse();
        }
        self.give_up(Duration::from_secs(60), reason).await
    }

    /// Says why nothing can be done, then restarts, and leaves the reason for the next boot. On trial each such start
    /// counts, and the old image returns after a few.
    pub async fn give_up(&mut self, after: Duration, reason: fmt::Arguments<'_>) -> ! {
        for _ in 0..(after.as_secs() / REPEAT).max(1) {
            self.say(&reason).await;
        }
        words::leave(&text::format::<{ words::LEN }>(reason), false);
        software_reset()
    }

    async fn say(&mut self, reason: &fmt::Arguments<'_>) {
        log::error!("{reason}");
        for _ in 0..REPEAT {
            self.feed_watchdog();
            Timer::after(embassy_time::Duration::from_secs(1)).await;
        }
    }
}

impl Board for EspBoard<'_> {
    fn reset_reason(&self) -> ResetReason {
        self.reason
    }

    fn running_address(&self) -> u32 {
        self.running
    }

    fn chip(&self) -> Chip {
        CHIP
    }

    fn chip_revision(&self) -> Option<u16> {
        let revision = esp_hal::efuse::chip_revision();
        Some(u16::from(revision.major) * 100 + u16::from(revision.minor))
    }

    fn flash_size(&self) -> Option<u32> {
        flash::size()
    }

    fn encrypts_flash(&self) -> bool {
        esp_hal::efuse::flash_encryption()
    }

    fn arm_watchdog(&mut self, timeout: Duration) {
        let micros = u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX);
        self.rtc.rwdt.set_timeout(RwdtStage::Stage0, esp_hal::time::Duration::from_micros(micros));
        self.rtc.rwdt.enable();
        self.rtc.rwdt.feed();
    }

    fn feed_watchdog(&mut self) {
        self.rtc.rwdt.feed();
    }

    fn take_crash_message<'b>(&mut self, buf: &'b mut [u8]) -> Option<&'b str> {
        let text = words::take()?;
        let len = text.len().min(buf.len());
        buf[..len].copy_from_slice(&text[..len]);
        let valid = match core::str::from_utf8(&buf[..len]) {
            Ok(_) => len,
            Err(error) => error.valid_up_to(),
        };
        core::str::from_utf8(&buf[..valid]).ok()
    }

    fn leave_message(&mut self, text: &str) {
        words::leave(text, false);
    }

    fn free_heap(&self) -> Option<u32> {
        memory::free_heap()
    }

    fn free_stack(&self) -> Option<u32> {
        memory::free_stack()
    }

    async fn reset(&mut self) -> Infallible {
        software_reset()
    }
}

/// Why this boot happened. The core that the bootloader starts tells, on chips with two as well.
fn reason(panicked: bool) -> ResetReason {
    let number = reset_reason(Cpu::ProCpu).map_or(0, |reason| reason as u32);
    ResetReason::of_rom(number, panicked)
}
