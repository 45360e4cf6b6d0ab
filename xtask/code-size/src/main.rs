//! A program with one decoder, or one part of a verification, or none, and nothing else. It is never run.
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
        verify(black_box(&input), black_box(&mut output));
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

#[cfg(feature = "delta")]
fn decode(input: &mut [u8], output: &mut [u8]) {
    use core::future::Future as _;
    use core::pin::pin;
    use core::task::{Context, Waker};
    static mut WORKSPACE: otaru_delta::Workspace = otaru_delta::Workspace::new();
    struct Host<'a>(&'a mut [u8], &'a mut [u8]);
    impl otaru_delta::Host for Host<'_> {
        type Error = u8;
        async fn read_patch(&mut self, buf: &mut [u8]) -> Result<usize, u8> {
            black_box((&self.0, buf));
            Ok(black_box(1))
        }
        async fn read_old(&mut self, offset: u32, buf: &mut [u8]) -> Result<(), u8> {
            black_box((&self.0, offset, buf));
            Ok(())
        }
        async fn read_new(&mut self, offset: u32, buf: &mut [u8]) -> Result<(), u8> {
            black_box((&self.1, offset, buf));
            Ok(())
        }
        async fn write_new(&mut self, bytes: &[u8]) -> Result<(), u8> {
            black_box((&self.1, bytes));
            Ok(())
        }
    }
    // SAFETY: there is one thread and this is not called by itself.
    let workspace = unsafe { &mut *(&raw mut WORKSPACE) };
    let mut host = Host(input, output);
    let mut future = pin!(otaru_delta::apply(&mut host, workspace, |_| Ok(())));
    while black_box(future.as_mut().poll(&mut Context::from_waker(Waker::noop()))).is_pending() {}
}

#[cfg(not(any(feature = "lzma", feature = "delta", feature = "deflate", feature = "heatshrink", feature = "lz4")))]
fn decode(input: &[u8], output: &mut [u8]) {
    black_box((input, output));
}

/// Every part of verifying a release that there is.
fn verify(input: &[u8; 64], output: &mut [u8; 64]) {
    black_box((input, &output));
    #[cfg(feature = "sha256")]
    {
        use sha2::Digest as _;
        output[..32].copy_from_slice(&sha2::Sha256::digest(black_box(input)));
    }
    #[cfg(feature = "manifest")]
    {
        use otaru_format::release::{Envelope, Manifest};
        if let Ok(envelope) = Envelope::parse(black_box(input)) {
            envelope.signed_bytes(&mut |piece| _ = black_box(piece));
            if let Ok(manifest) = Manifest::parse(envelope.payload()) {
                let first = manifest.payloads().next().and_then(|payload| payload.frame(&manifest, black_box(0)));
                _ = black_box((manifest.block(black_box(0)), first));
            }
        }
    }
    #[cfg(feature = "ed25519")]
    {
        use ed25519_dalek::{Signature, VerifyingKey};
        if let Ok(key) = VerifyingKey::from_bytes(&black_box([9; 32]))
            && !key.is_weak()
            && let Ok(mut verifier) = key.verify_stream(&Signature::from_bytes(black_box(input)))
        {
            verifier.update(black_box(&input[..]));
            output[0] = u8::from(verifier.finalize_and_verify().is_ok());
        }
    }
    #[cfg(feature = "ed25519-compact")]
    {
        use ed25519_compact::{PublicKey, Signature};
        let key = PublicKey::new(black_box([9; 32]));
        if let Ok(mut verifier) = key.verify_incremental(&Signature::new(black_box(*input))) {
            verifier.absorb(black_box(&input[..]));
            output[0] = u8::from(verifier.verify().is_ok());
        }
    }
}
