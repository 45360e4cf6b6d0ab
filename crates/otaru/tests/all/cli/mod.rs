//! The command line as its users meet it: the real binary, real sockets, real files.

mod compose;
mod delta;
mod demo;
mod errors;
mod files;
mod image;
mod power;
mod push;
mod release;
mod sim;
mod terminal;
mod units;
