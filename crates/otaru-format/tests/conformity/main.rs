//! Do other people's tools see the same in the same bytes?
//!
//! [`esptool`] is Espressif's flashing tool, [`idf_defs`] Espressif's partition tool and an otadata reader in
//! Python, [`idf_part`] the partition tables of esp-rs. [`images`] makes what is shown to them, [`peers`] finds
//! them; a tool that is not there is a skip that says so.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod esptool;
mod idf_defs;
mod idf_part;
mod images;
mod peers;
