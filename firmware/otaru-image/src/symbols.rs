//! Symbols of a linked firmware.

use object::read::elf::ElfFile32;
use object::{Object as _, ObjectSymbol as _};

/// Returns the size of the firmware's variables of this name, 0 if there is none.
pub(crate) fn variable(program: &ElfFile32<'_>, name: &str) -> u64 {
    let is_it = |symbol: &str| symbol.contains("otaru_firmware") && symbol.contains(name);
    program.symbols().filter(|symbol| symbol.name().is_ok_and(is_it)).map(|symbol| symbol.size()).sum()
}
