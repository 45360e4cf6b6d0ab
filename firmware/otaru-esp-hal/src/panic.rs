//! A panic leaves its message for the next boot and restarts the chip.
#![forbid(unsafe_code)]

use core::fmt::Write;
use core::panic::PanicInfo;

use heapless::String;

use crate::words;

/// A text that is cut where it no longer fits.
struct Cut(String<{ words::LEN }>);

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for letter in text.chars() {
            self.0.push(letter).map_err(|_| core::fmt::Error)?;
        }
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let mut text = Cut(String::new());
    let _ = match info.location() {
        Some(at) => write!(text, "{}:{}: {}", file_name(at.file()), at.line(), info.message()),
        None => write!(text, "{}", info.message()),
    };
    words::leave(&text.0, true);
    esp_println::println!("\npanicked: {info}");
    esp_hal::system::software_reset()
}

/// A path's last two parts: the whole of a registry's would leave no room for the message.
fn file_name(path: &str) -> &str {
    let cut = path.rmatch_indices(['/', '\\']).nth(1).map_or(0, |(at, _)| at + 1);
    path.get(cut..).unwrap_or(path)
}
