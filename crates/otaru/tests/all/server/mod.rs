//! The fleet server as its users run it: the program, virtual devices, and everything that may go wrong.

mod acme;
mod alike;
mod asking_broker;
mod backup;
mod behind_proxies;
mod bucket;
mod chaos;
mod cluster;
mod deciding_broker;
mod first_token;
pub(crate) mod fleet;
mod fronts;
mod home_assistant;
mod late_broker;
mod logins;
mod memory;
mod migrate;
mod over_brokers;
pub(crate) mod proxies;
mod story;
mod strangers;
mod tls;
mod words;
