//! A broker's side of a connection, in both versions of MQTT: whatever it sends, a device reads on or ends the connection.
#![no_main]

use critical_section as _;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((pieces, bytes)) = input.split_first() else { return };
    let understood = otaru_device::fuzz::mqtt(*pieces, bytes);
    // Nothing is made up: a packet has two bytes at least.
    assert!(understood.bytes + 2 * understood.packets <= bytes.len());
    // In pieces of another length it means the same.
    assert_eq!(otaru_device::fuzz::mqtt(pieces | 0x7F, bytes), understood);
});
