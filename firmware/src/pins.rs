//! Pins of the LED and the BOOT button on the usual boards. For another board, change this file.
//!
//! An addressable LED, as on Espressif's newer development kits, does not blink by this.

/// The LED's pin.
macro_rules! led {
    ($chip:ident) => {{
        #[cfg(any(feature = "esp32", feature = "esp32s3"))]
        let pin = $chip.GPIO2;
        #[cfg(feature = "esp32s2")]
        let pin = $chip.GPIO15;
        #[cfg(any(feature = "esp32c3", feature = "esp32c6"))]
        let pin = $chip.GPIO8;
        esp_hal::gpio::Output::new(pin, esp_hal::gpio::Level::Low, esp_hal::gpio::OutputConfig::default())
    }};
}

/// The BOOT button's pin: the strapping pin of each chip, so every board has it. It reads low while it is held.
macro_rules! button {
    ($chip:ident) => {{
        #[cfg(any(feature = "esp32", feature = "esp32s2", feature = "esp32s3"))]
        let pin = $chip.GPIO0;
        #[cfg(any(feature = "esp32c3", feature = "esp32c6"))]
        let pin = $chip.GPIO9;
        let config = esp_hal::gpio::InputConfig::default().with_pull(esp_hal::gpio::Pull::Up);
        esp_hal::gpio::Input::new(pin, config)
    }};
}

pub(crate) use {button, led};
