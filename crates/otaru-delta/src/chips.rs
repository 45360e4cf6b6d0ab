//! The chips' processors, and where they see which memory.

use core::ops::Range;

use otaru_format::chip::Chip;

/// Kind of machine code that an image holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Processor {
    /// Xtensa LX6 and LX7 with windowed calls.
    Xtensa,
    /// RV32IMC and its like.
    RiscV,
}

/// Address ranges of a chip's memories, as far as addresses in an image lead there.
#[derive(Debug, Clone)]
pub(crate) struct MemoryMap {
    /// Instruction set.
    pub(crate) processor: Processor,
    /// RAM for data. What an image does not load there, such as `.bss`, moves all the same.
    pub(crate) ram: Range<u32>,
    /// The mask ROM, where nothing moves.
    pub(crate) rom: Range<u32>,
    /// Range of flash and RAM for instruction fetches alone; empty where data is seen at the same place.
    #[cfg_attr(not(feature = "encode"), expect(dead_code, reason = "patches say which segments hold code"))]
    pub(crate) code: Range<u32>,
}

/// The memory map of a chip.
///
/// Source: ESP-IDF, `components/soc/<chip>/include/soc/soc.h`: `ram` is from `SOC_DRAM_LOW` to `SOC_DRAM_HIGH`, `rom`
/// from `SOC_IROM_MASK_LOW` to `SOC_IROM_MASK_HIGH`, `code` from `SOC_IRAM_LOW` (of the ESP32, from its cache, which is
/// below it) to `SOC_IROM_HIGH`. From the ESP32-C6 on, one address leads to a byte for instructions and data.
pub(crate) const fn memory_map(chip: Chip) -> Option<MemoryMap> {
    use Processor::{RiscV, Xtensa};
    let (processor, ram, rom, code) = match chip {
        Chip::Esp32 => (Xtensa, 0x3FFA_E000..0x4000_0000, 0x4000_0000..0x4007_0000, 0x4007_0000..0x4040_0000),
        Chip::Esp32S2 => {
            (Xtensa, 0x3FFB_0000..0x4000_0000, 0x4000_0000..0x4002_0000, 0x4002_0000..0x4080_0000)
        }
        Chip::Esp32S3 => {
            (Xtensa, 0x3FC8_8000..0x3FD0_0000, 0x4000_0000..0x4006_0000, 0x4037_0000..0x4400_0000)
        }
        Chip::Esp32C2 => {
            (RiscV, 0x3FCA_0000..0x3FCE_0000, 0x4000_0000..0x4009_0000, 0x4037_C000..0x4240_0000)
        }
        Chip::Esp32C3 => {
            (RiscV, 0x3FC8_0000..0x3FCE_0000, 0x4000_0000..0x4006_0000, 0x4037_C000..0x4280_0000)
        }
        Chip::Esp32C5 => (RiscV, 0x4080_0000..0x4086_0000, 0x4000_0000..0x4005_0000, 0..0),
        Chip::Esp32C6 => (RiscV, 0x4080_0000..0x4088_0000, 0x4000_0000..0x4005_0000, 0..0),
        Chip::Esp32C61 => (RiscV, 0x4080_0000..0x4085_0000, 0x4000_0000..0x4004_0000, 0..0),
        Chip::Esp32H2 => (RiscV, 0x4080_0000..0x4085_0000, 0x4000_0000..0x4002_0000, 0..0),
        Chip::Esp32P4 => (RiscV, 0x4FF0_0000..0x4FFC_0000, 0x4FC0_0000..0x4FC2_0000, 0..0),
        _ => return None,
    };
    Some(MemoryMap { processor, ram, rom, code })
}
