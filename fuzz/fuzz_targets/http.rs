//! An answer of a web server, head and body: whatever it is, it is read or refused, and no byte is made up.
#![no_main]

use critical_section as _;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((pieces, bytes)) = input.split_first() else { return };
    let body = otaru_device::fuzz::http(*pieces, bytes);
    assert!(body.is_none_or(|len| len <= bytes.len()));
});
