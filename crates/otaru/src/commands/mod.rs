//! One file, or folder, a command.

pub(crate) mod broker;
pub(crate) mod demo;
pub(crate) mod files;
pub(crate) mod image;
pub(crate) mod push;
pub(crate) mod sim;
pub(crate) mod watch;
