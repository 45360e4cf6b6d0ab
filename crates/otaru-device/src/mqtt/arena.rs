//! The memory that incoming MQTT packets are read into: one fixed buffer, emptied after each packet.
//!
//! `rust-mqtt` hands out events that borrow its buffer for as long as the client lives, so emptying it is an
//! `unsafe` call there. The only such call of this crate is here; [`super::Connection`] is the only caller,
//! and it never lets an event out.

use rust_mqtt::buffer::BumpBuffer;

/// Empties the buffer.
///
/// The caller must have dropped every event and error that came out of the client since the last call.
#[expect(unsafe_code, reason = "the client's buffer cannot be reused without it")]
pub(super) fn empty(buffer: &mut BumpBuffer<'_>) {
    // SAFETY: `Connection::next` and `Connection::open` copy what they keep out of an event and drop it
    // before they call this; no reference into the buffer is left.
    unsafe { buffer.reset() }
}
