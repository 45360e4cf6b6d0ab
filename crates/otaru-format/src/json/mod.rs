//! JSON (RFC 8259) of commands and reports, read and written in place: no allocation, no recursion.
//!
//! A library reads it into types and costs a chip 4 KB of code more. What is read is one object of texts, whole numbers and
//! flags; values of other kinds are checked and passed over, so that later versions may add fields.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use reader::{BadJson, Object, Text, Value};
pub(crate) use writer::Writer;
