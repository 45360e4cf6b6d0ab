//! Packets of MQTT 5 and 3.1.1, as a broker and a client read and write them: bytes in, borrowed packets out, nothing kept.
//!
//! One file a family of packets. `packet.rs` and `writer.rs` are the broker's side, `server_packet.rs` and `request.rs` the client's. Nothing here allocates by a length that a peer only claims.

pub(crate) mod ack;
pub(crate) mod connack;
pub(crate) mod connect;
pub(crate) mod encode;
pub(crate) mod fault;
pub(crate) mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub(crate) mod packet;
pub(crate) mod properties;
pub(crate) mod publish;
pub(crate) mod reader;
pub(crate) mod request;
pub(crate) mod server_packet;
pub(crate) mod subscribe;
pub(crate) mod told;
pub(crate) mod topic;
pub(crate) mod writer;
