//! A program with one decoder, or none, and nothing else. It is never run.
#![no_std]
#![no_main]

use core::alloc::{GlobalAlloc, Layout};
use core::hint::black_box;
use core::panic::PanicInfo;

/// For crates that could allocate and do not here.
struct Nothing;

// SAFETY: null is what an allocator returns that has nothing to give.
unsafe impl GlobalAlloc for Nothing {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static NOTHING: Nothing = Nothing;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    let (mut input, mut output) = ([0_u8; 64], [0_u8; 64]);
    loop {
        decode(black_box(&mut input), black_box(&mut output));
        // Both copies of memory are there, so that no decoder is charged for them.
        black_box(&mut input).copy_from_slice(black_box(&mut output));
        let len = black_box(7);
        black_box(&mut output).copy_within(..len, len);
        black_box(&mut output)[..len].fill(black_box(1));
    }
}

#[cfg(feature = "lzma")]
fn decode(input: &[u8], output: &mut [u8]) {
    static mut WORKSPACE: otaru_lzma::Workspace = otaru_lzma::Workspace::new();
    // SAFETY: there is one thread and this is not called by itself.
    let workspace = unsafe { &mut *(&raw mut WORKSPACE) };
    let mut decoder = otaru_lzma::Decoder::new(workspace, black_box(64));
    while let Ok(step) = decoder.decode(black_box(input)) {
        black_box(step);
    }
    output[0] = u8::from(black_box(decoder.finish()).is_ok());
}

#[cfg(feature = "deflate")]
fn decode(input: &[u8], output: &mut [u8]) {
    let mut decoder = miniz_oxide::inflate::core::DecompressorOxide::new();
    black_box(miniz_oxide::inflate::core::decompress(&mut decoder, input, output, 0, black_box(0)));
}

#[cfg(feature = "heatshrink")]
fn decode(input: &[u8], output: &mut [u8]) {
    if let Ok(config) = heatshrink::Config::new(black_box(11), black_box(4)) {
        let _ = black_box(heatshrink::decode(input, output, &config));
    }
}

#[cfg(feature = "lz4")]
fn decode(input: &[u8], output: &mut [u8]) {
    let _ = black_box(lz4_flex::block::decompress_into(input, output));
}

#[cfg(not(any(feature = "lzma", feature = "deflate", feature = "heatshrink", feature = "lz4")))]
fn decode(input: &[u8], output: &mut [u8]) {
    black_box((input, output));
}
