//! One file, or folder, a command.

pub(crate) mod backup;
pub(crate) mod broker;
pub(crate) mod cancel;
pub(crate) mod delta;
pub(crate) mod demo;
pub(crate) mod device_cert;
pub(crate) mod devices;
pub(crate) mod files;
pub(crate) mod healthy;
pub(crate) mod image;
pub(crate) mod inspect;
pub(crate) mod keygen;
pub(crate) mod login;
pub(crate) mod migrate;
pub(crate) mod push;
pub(crate) mod release;
pub(crate) mod resign;
pub(crate) mod rollout;
pub(crate) mod serve;
pub(crate) mod servers;
pub(crate) mod shell;
pub(crate) mod sim;
pub(crate) mod token;
pub(crate) mod verify;
pub(crate) mod watch;
