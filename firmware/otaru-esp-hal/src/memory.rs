//! Memory that is left: of the main stack, and of the heap.
//!
//! The stack is painted at the start, so that the words which still have their paint were never used. An emulator or a
//! debugger sees the same: [`PAINT`] from the word above the symbol `__stack_chk_guard` upwards.

use core::ptr;

use portable_atomic::{AtomicBool, Ordering};

/// The value of a word of stack that was never used.
pub const PAINT: u32 = 0xC5C5_C5C5;
/// Bytes below the painter's frame that it leaves alone: Xtensa cores keep registers of the caller there.
const SLACK: usize = 256;

static PAINTED: AtomicBool = AtomicBool::new(false);

/// Returns the addresses of the stack's lowest word above the guard, and of its end.
fn bounds() -> (usize, usize) {
    unsafe extern "C" {
        static __stack_chk_guard: u32;
        static _stack_start_cpu0: u32;
    }
    ((&raw const __stack_chk_guard).addr() + size_of::<u32>(), (&raw const _stack_start_cpu0).addr())
}

/// Paints what is below the caller's frame. Once, early: whatever was used before is not counted.
#[inline(never)]
pub(crate) fn paint_stack() {
    let here = 0_u32;
    let (bottom, _) = bounds();
    for address in (bottom..(&raw const here).addr().saturating_sub(SLACK)).step_by(size_of::<u32>()) {
        // SAFETY: The linker keeps the words from the guard up for the stack, and it grows downwards: nothing alive is
        // below this frame. An interrupt meanwhile is over when the painting goes on.
        unsafe { ptr::with_exposed_provenance_mut::<u32>(address).write_volatile(PAINT) }
    }
    PAINTED.store(true, Ordering::Relaxed);
}

/// Returns the size of the main stack in bytes.
pub fn stack_size() -> u32 {
    let (bottom, top) = bounds();
    u32::try_from(top.saturating_sub(bottom)).unwrap_or(0)
}

/// Returns how many bytes of the main stack were never used since the start; `None` in a firmware that does not begin
/// with [`main!`](crate::main).
pub fn free_stack() -> Option<u32> {
    let (bottom, top) = bounds();
    // SAFETY: Memory of the stack, read as it happens to be.
    let is_painted =
        |at: &usize| unsafe { ptr::with_exposed_provenance::<u32>(*at).read_volatile() } == PAINT;
    let words = (bottom..top).step_by(size_of::<u32>()).take_while(is_painted).count();
    let bytes = u32::try_from(words * size_of::<u32>()).ok();
    bytes.filter(|_| PAINTED.load(Ordering::Relaxed))
}

/// Returns the fewest bytes of heap that were free since the start; `None` without the feature `heap`.
pub fn free_heap() -> Option<u32> {
    #[cfg(feature = "heap")]
    {
        let heap = esp_alloc::HEAP.stats();
        u32::try_from(heap.size.saturating_sub(heap.max_usage)).ok()
    }
    #[cfg(not(feature = "heap"))]
    None
}
