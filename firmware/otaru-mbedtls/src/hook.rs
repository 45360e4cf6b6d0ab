//! Clocks that Mbed TLS asks: how late it is, and how long it has been running.

use mbedtls_rs::sys::hook::timer::{MbedtlsTimer, hook_timer};
use mbedtls_rs::sys::hook::wall_clock::{MbedtlsWallClock, hook_wall_clock};
use mbedtls_rs::sys::{mbedtls_ms_time_t, tm};

use crate::clock::{Calendar, WallClock};

/// Lets Mbed TLS ask this clock.
pub(crate) fn install(clock: &'static WallClock) {
    // SAFETY: a clock lives for ever and may be asked from anywhere. Mbed TLS reads hooks when it verifies, which is not before sessions
    // begin, and these begin after this call.
    unsafe {
        hook_timer(Some(clock));
        hook_wall_clock(Some(clock));
    }
}

impl MbedtlsTimer for WallClock {
    fn now(&self) -> mbedtls_ms_time_t {
        mbedtls_ms_time_t::try_from(self.uptime().as_millis()).unwrap_or(mbedtls_ms_time_t::MAX)
    }
}

impl MbedtlsWallClock for WallClock {
    fn instant(&self) -> Option<tm> {
        let now = Calendar::of(self.now())?;
        Some(tm {
            tm_year: now.year - 1900,
            tm_mon: now.month - 1,
            tm_mday: now.day,
            tm_hour: now.hour,
            tm_min: now.minute,
            tm_sec: now.second,
            ..tm::default()
        })
    }
}
