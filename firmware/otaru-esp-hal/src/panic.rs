//! A panic leaves its message for the next boot and restarts the chip.
#![forbid(unsafe_code)]

use core::panic::PanicInfo;

use heapless::String;
use otaru_device::text;

use crate::words;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let text: String<{ words::LEN }> = match info.location() {
        Some(at) => text::format(format_args!("{}:{}: {}", file_name(at.file()), at.line(), info.message())),
        None => text::format(format_args!("{}", info.message())),
    };
    words::leave(&text, true);
    esp_println::println!("\npanicked: {info}");
    esp_hal::system::software_reset()
}

/// A path's last two parts: the whole of a registry's would leave no room for the message.
fn file_name(path: &str) -> &str {
    let cut = path.rmatch_indices(['/', '\\']).nth(1).map_or(0, |(at, _)| at + 1);
    path.get(cut..).unwrap_or(path)
}
