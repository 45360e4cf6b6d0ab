//! Flash offset of the running program, as the flash MMU has it.
//!
//! otadata only says what was chosen. Should the chosen image be bad, the bootloader starts another one, and only
//! the mapping it made tells which.

/// Flash pages are 64 KiB, unless a chip's MMU can be set to others.
const PAGE: u32 = 0x1_0000;

unsafe extern "C" {
    /// The application descriptor (`esp_app_desc!`).
    #[link_name = "esp_app_desc"]
    static APP_DESC: u8;
}

/// Bytes before the descriptor in an image: the image's header and its first segment's (ESP-IDF
/// `esp_app_format.h`).
const BEFORE_DESCRIPTOR: u32 = 24 + 8;

/// Flash offset of the running program's partition; 0 if its descriptor is not mapped from flash.
pub(crate) fn running_address() -> u32 {
    // Only its address is taken, nothing is read.
    let address = (&raw const APP_DESC).addr() as u32;
    match physical(address) {
        Some(descriptor) => descriptor.saturating_sub(BEFORE_DESCRIPTOR),
        None => 0,
    }
}

/// The MMU's first entry for data in flash, the address it stands for, and how many entries may follow
/// (ESP-IDF `ext_mem_defs.h` of each chip).
#[cfg(feature = "esp32")]
const DATA: (u32, u32, u32) = (0, 0x3F40_0000, 64);
#[cfg(feature = "esp32s2")]
const DATA: (u32, u32, u32) = (0x80, 0x3F00_0000, 64);
#[cfg(feature = "esp32s3")]
const DATA: (u32, u32, u32) = (0, 0x3C00_0000, 512);
#[cfg(feature = "esp32c3")]
const DATA: (u32, u32, u32) = (0, 0x3C00_0000, 128);
#[cfg(feature = "esp32c6")]
const DATA: (u32, u32, u32) = (0, 0x4200_0000, 256);

/// The flash offset behind an address.
#[cfg(not(feature = "esp32c6"))]
fn physical(address: u32) -> Option<u32> {
    let (first, base, count) = DATA;
    let offset = address.checked_sub(base)?;
    let index = Some(offset / PAGE).filter(|index| *index < count)?;
    let table = esp_hal::peripherals::MMU_TABLE::regs();
    let entry = table.entry((first + index) as usize).read();
    let page = u32::from(entry.paddr().bits());
    (!entry.invalid().bit()).then_some(page * PAGE + offset % PAGE)
}

/// The flash offset behind an address. This MMU shows one entry at a time and has pages of several sizes.
#[cfg(feature = "esp32c6")]
fn physical(address: u32) -> Option<u32> {
    let (first, base, count) = DATA;
    let spi = esp_hal::peripherals::SPI0::regs();
    let page_size = PAGE >> spi.mmu_power_ctrl().read().spi_mmu_page_size().bits();
    let offset = address.checked_sub(base)?;
    let index = Some(offset / page_size).filter(|index| *index < count)?;
    // SAFETY: the index is one of the MMU's entries; selecting one changes no mapping.
    spi.mmu_item_index().write(|w| unsafe { w.mmu_item_index().bits(first + index) });
    let entry = spi.mmu_item_content().read();
    let page = u32::from(entry.paddr().bits());
    entry.valid().bit().then_some(page * page_size + offset % page_size)
}
