//! Traits for what the agent needs of a chip and of the firmware around it, and nobody else has a trait for.

use core::convert::Infallible;
use core::fmt;
use core::time::Duration;

use heapless::String;
use otaru_format::chip::Chip;

use crate::text;

/// Time. On a chip this is `embassy-time`; in the simulator it may run faster than the wall clock.
pub trait Clock {
    /// Time since the device started. Never goes back.
    fn now(&self) -> Duration;
    /// Resolves after `duration`; other work goes on meanwhile.
    async fn sleep(&self, duration: Duration);
}

/// Why the chip started, as far as its reset-reason register tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ResetReason {
    /// Power was applied.
    PowerOn,
    /// The software asked for it.
    Software,
    /// The software panicked or took an exception.
    Panic,
    /// A watchdog fired.
    Watchdog,
    /// The supply voltage dipped.
    Brownout,
    /// The chip woke from deep sleep.
    DeepSleep,
    /// A computer at the other end of USB, or a debugger, asked for it.
    Usb,
    /// Anything else.
    Other,
}

impl ResetReason {
    /// The name used in status reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PowerOn => "power_on",
            Self::Software => "software",
            Self::Panic => "panic",
            Self::Watchdog => "watchdog",
            Self::Brownout => "brownout",
            Self::DeepSleep => "deep_sleep",
            Self::Usb => "usb",
            Self::Other => "other",
        }
    }

    /// The reason behind the number that the ROM of every chip of the ESP32 family gives (`esp_rom/include/*/rom/rtc.h` of
    /// ESP-IDF; the names differ from chip to chip). A panic restarts by software: what it left tells it apart.
    pub const fn of_rom(number: u32, panicked: bool) -> Self {
        match number {
            0x01 => Self::PowerOn,
            0x03 | 0x0C if panicked => Self::Panic,
            0x03 | 0x0C => Self::Software,
            0x05 => Self::DeepSleep,
            // Timer groups 0 and 1, the RTC's, and the super watchdog; of the core, the CPU or everything.
            0x07..=0x09 | 0x0B | 0x0D | 0x10..=0x12 => Self::Watchdog,
            // The supply dipped; or a glitch on it, or on the clock that hangs on it.
            0x0F | 0x13 | 0x17 | 0x19 => Self::Brownout,
            // The serial port and JTAG on USB, and JTAG on pins: somebody flashes or debugs.
            0x15 | 0x16 | 0x18 => Self::Usb,
            // An exception within an exception: the core locked up.
            0x1A => Self::Panic,
            _ => Self::Other,
        }
    }

    /// Whether the cause was outside, so that the program that ran before is not to blame.
    pub const fn is_outside(self) -> bool {
        matches!(self, Self::PowerOn | Self::Brownout | Self::Usb)
    }

    /// Whether the program that ran before went down by itself.
    pub const fn is_crash(self) -> bool {
        matches!(self, Self::Panic | Self::Watchdog)
    }

    /// A number that never changes its meaning, for storage; 255 is kept for erased flash.
    pub const fn number(self) -> u8 {
        match self {
            Self::Other => 0,
            Self::PowerOn => 1,
            Self::Software => 2,
            Self::Panic => 3,
            Self::Watchdog => 4,
            Self::Brownout => 5,
            Self::DeepSleep => 6,
            Self::Usb => 7,
        }
    }

    /// The reason with this number.
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::PowerOn,
            2 => Self::Software,
            3 => Self::Panic,
            4 => Self::Watchdog,
            5 => Self::Brownout,
            6 => Self::DeepSleep,
            7 => Self::Usb,
            _ => Self::Other,
        }
    }
}

/// The chip: reset, watchdog, and a few words of memory that survive a reset.
pub trait Board {
    /// Why this boot happened.
    fn reset_reason(&self) -> ResetReason;
    /// Flash offset of the partition this program runs from, in bytes.
    fn running_address(&self) -> u32;
    /// The chip this program runs on.
    fn chip(&self) -> Chip;
    /// Revision of the chip as image headers have it: major × 100 + minor. `None` where it is unknown, and then not compared.
    fn chip_revision(&self) -> Option<u16> {
        None
    }
    /// Bytes of the flash chip. `None` where they are unknown, and then not compared.
    fn flash_size(&self) -> Option<u32> {
        None
    }
    /// Starts a watchdog that resets the chip unless fed within `timeout`. It is never stopped again.
    fn arm_watchdog(&mut self, timeout: Duration);
    /// Postpones the watchdog by its whole timeout.
    fn feed_watchdog(&mut self);
    /// Whether the chip encrypts its flash, which the agent cannot: [`crate::begin`] refuses then.
    fn encrypts_flash(&self) -> bool {
        false
    }
    /// Takes the message the program left before it went down, if any (RTC memory).
    fn take_crash_message<'b>(&mut self, buf: &'b mut [u8]) -> Option<&'b str>;
    /// Leaves a message for the next boot. Kept over a reset, not over a loss of power.
    fn leave_message(&mut self, text: &str);
    /// Returns the fewest bytes of heap that were free since the start; `None` where that is not known.
    fn free_heap(&self) -> Option<u32> {
        None
    }
    /// Returns the bytes of stack that were never used since the start; `None` where that is not known.
    fn free_stack(&self) -> Option<u32> {
        None
    }
    /// Restarts the chip. Does not return.
    async fn reset(&mut self) -> Infallible;
}

/// The network could not be joined this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LinkError;

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the network could not be joined")
    }
}

impl core::error::Error for LinkError {}

/// The way to the network: Wi-Fi on a chip.
pub trait Link {
    /// Whether the device is joined and has an address.
    fn is_up(&self) -> bool;
    /// Tries to join once.
    ///
    /// # Errors
    /// [`LinkError`] when it did not work this time; the agent waits and tries again.
    async fn reconnect(&mut self) -> Result<(), LinkError>;
    /// Stops and starts the radio, and nothing else: called when the network could not be joined for 15 minutes. May do
    /// nothing where the firmware looks after its radio itself.
    async fn restart(&mut self) {}
    /// Called once in each start, when the broker took a report: what network and broker were told works.
    fn reached_broker(&mut self) {}
    /// Returns the signal strength of the network in dBm, where that is known; for reports.
    fn rssi(&self) -> Option<i8> {
        None
    }
}

/// The application's own opinion on whether the new image is fit to stay.
pub trait Health {
    /// Called during a trial, once the broker took a report from the new image.
    ///
    /// # Errors
    /// The reason, in a short text for the operator; the image is rolled back and the text reported.
    async fn check(&mut self) -> Result<(), Unhealthy>;
}

/// Reason that an image is not fit to stay: `"the sensor is silent".into()`, or [`Unhealthy::new`] with numbers in it. Texts of more
/// than 64 bytes are cut.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Unhealthy(pub(crate) String<64>);

impl Unhealthy {
    /// Writes the reason, as by `format_args!`.
    pub fn new(reason: fmt::Arguments<'_>) -> Self {
        Self(text::format(reason))
    }
}

impl From<&str> for Unhealthy {
    fn from(reason: &str) -> Self {
        Self(text::cut(reason))
    }
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Unhealthy {}

/// An application without an opinion: reaching the broker is enough.
#[derive(Debug, Clone, Copy, Default)]
pub struct AlwaysHealthy;

impl Health for AlwaysHealthy {
    async fn check(&mut self) -> Result<(), Unhealthy> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_by_the_roms_numbers() {
        let outside = [0x01, 0x0F, 0x13, 0x15, 0x16, 0x17, 0x18, 0x19];
        let crash = [0x07, 0x08, 0x09, 0x0B, 0x0D, 0x10, 0x11, 0x12, 0x1A];
        for number in 0..=0x40 {
            let reason = ResetReason::of_rom(number, false);
            assert_eq!(reason.is_outside(), outside.contains(&number), "{number:#x}");
            assert_eq!(reason.is_crash(), crash.contains(&number), "{number:#x}");
        }
        for software in [0x03, 0x0C] {
            assert_eq!(ResetReason::of_rom(software, false), ResetReason::Software);
            assert_eq!(ResetReason::of_rom(software, true), ResetReason::Panic);
        }
        // Power that goes after a panic is power: the panic's restart was another start.
        assert_eq!(ResetReason::of_rom(0x01, true), ResetReason::PowerOn);
        assert_eq!(ResetReason::of_rom(0x05, false), ResetReason::DeepSleep);
    }
}
