//! The budget of the chip that this firmware is built for.

#[cfg(feature = "esp32")]
pub(crate) use crate::budget::ESP32 as BUDGET;
#[cfg(feature = "esp32c3")]
pub(crate) use crate::budget::ESP32C3 as BUDGET;
#[cfg(feature = "esp32c6")]
pub(crate) use crate::budget::ESP32C6 as BUDGET;
#[cfg(feature = "esp32s2")]
pub(crate) use crate::budget::ESP32S2 as BUDGET;
#[cfg(feature = "esp32s3")]
pub(crate) use crate::budget::ESP32S3 as BUDGET;
