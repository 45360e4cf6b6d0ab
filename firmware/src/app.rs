//! The application that a user sees: the LED, and a heartbeat on MQTT. Replace it with something useful.

use embassy_time::{Duration, Timer};
use esp_hal::gpio::Output;
#[cfg(feature = "agent")]
use otaru_device::{Health, Unhealthy};
#[cfg(feature = "agent")]
use otaru_esp_hal::memory;

#[cfg(feature = "agent")]
use crate::chip::BUDGET;

/// Bytes of stack that a healthy image has never used.
#[cfg(feature = "agent")]
const SPARE_STACK: u32 = 16 * 1024;
/// Bytes of heap that a healthy image has always had.
#[cfg(feature = "agent")]
const SPARE_HEAP: u32 = 8 * 1024;

/// This firmware's version, also in its application descriptor.
pub(crate) const VERSION: &str = env!("OTARU_FIRMWARE_VERSION");

/// Blinks once a second.
#[embassy_executor::task]
pub(crate) async fn blink(mut led: Output<'static>) {
    loop {
        led.toggle();
        Timer::after(Duration::from_millis(500)).await;
    }
}

/// The application's opinion on a new image, once the broker took its report.
#[cfg(feature = "agent")]
pub(crate) struct AppHealth;

#[cfg(feature = "agent")]
impl Health for AppHealth {
    async fn check(&mut self) -> Result<(), Unhealthy> {
        if cfg!(behaviour = "block_check") {
            crate::misbehave::hang();
        }
        if cfg!(behaviour = "unhealthy") {
            return Err("unhealthy on purpose".into());
        }
        // An update goes deeper than anything before it: whoever cannot hold one could never be replaced over the air.
        let (size, stack) = (memory::stack_size(), memory::free_stack().unwrap_or(0));
        if size < BUDGET.stack || stack < SPARE_STACK {
            return Err(Unhealthy::new(format_args!("too little stack: {stack} of {size} bytes left")));
        }
        match memory::free_heap() {
            Some(heap) if heap < SPARE_HEAP => {
                Err(Unhealthy::new(format_args!("too little heap: {heap} bytes left")))
            }
            _ => Ok(()),
        }
    }
}
