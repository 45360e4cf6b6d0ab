//! Mbed TLS's memory, counted.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::c_void;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use mbedtls_rs::sys::mbedtls_platform_set_calloc_free;

/// Room before what is handed out, for its size.
const HEAD: usize = 16;

static USED: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);
/// Bytes that may be in use together.
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Counts from now on; before anything of the library is used.
pub(crate) fn count() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: both functions live for ever and fit each other, and nothing has been allocated before.
        let set = unsafe { mbedtls_platform_set_calloc_free(Some(calloc), Some(free)) };
        assert_eq!(set, 0);
    });
}

/// Bytes in use.
pub(crate) fn used() -> usize {
    USED.load(Ordering::SeqCst)
}

/// Largest number of bytes in use since the last call.
pub(crate) fn most() -> usize {
    MOST.swap(used(), Ordering::SeqCst)
}

/// Lets no more than this be in use.
pub(crate) fn limit(bytes: usize) {
    LIMIT.store(bytes, Ordering::SeqCst);
}

fn layout(bytes: usize) -> Option<Layout> {
    Layout::from_size_align(bytes.checked_add(HEAD)?, HEAD).ok()
}

unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    let bytes = count.saturating_mul(size);
    let Some(layout) = layout(bytes) else { return std::ptr::null_mut() };
    if used().saturating_add(bytes) > LIMIT.load(Ordering::SeqCst) {
        return std::ptr::null_mut();
    }
    // SAFETY: the layout has room for the head, which is aligned for a usize.
    unsafe {
        let place = alloc_zeroed(layout);
        if place.is_null() {
            return std::ptr::null_mut();
        }
        place.cast::<usize>().write(bytes);
        let used = USED.fetch_add(bytes, Ordering::SeqCst) + bytes;
        MOST.fetch_max(used, Ordering::SeqCst);
        place.add(HEAD).cast()
    }
}

unsafe extern "C" fn free(place: *mut c_void) {
    if place.is_null() {
        return;
    }
    // SAFETY: it comes from `calloc` above, whose head tells the size.
    unsafe {
        let place = place.cast::<u8>().sub(HEAD);
        let bytes = place.cast::<usize>().read();
        USED.fetch_sub(bytes, Ordering::SeqCst);
        if let Some(layout) = layout(bytes) {
            dealloc(place, layout);
        }
    }
}
