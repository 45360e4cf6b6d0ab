//! MQTT as the broker reads it: any bytes are packets of a client, in both versions, or are refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    otaru_broker::fuzz_packets(bytes);
});
