//! Packets of MQTT 5 and 3.1.1 as a broker reads and writes them: bytes in, borrowed packets out, nothing kept.
//!
//! One file a family of packets. Nothing here allocates by a length that a peer only claims.

pub(crate) mod ack;
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
pub(crate) mod subscribe;
pub(crate) mod topic;
pub(crate) mod writer;
