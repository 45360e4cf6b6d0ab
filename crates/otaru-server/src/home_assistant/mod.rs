//! Home Assistant: every device appears there by itself, as an `update` entity with progress and an install button.
//!
//! It is MQTT discovery (home-assistant.io/integrations/mqtt, /integrations/update.mqtt): for each device a description is kept
//! under `homeassistant/update/<id>/config`, and its state under `{base}/home-assistant/<device>/state`; Home Assistant says
//! `install` on `{base}/home-assistant/<device>/install`, which makes a rollout for that device. It uses the same broker as the
//! devices; with the embedded one it logs in with an API token as its password.
//!
//! [`entity`] says what is published, [`choice`] which release, [`run`] when.

pub mod choice;
pub mod entity;
pub mod run;

/// The prefix that Home Assistant listens to, unless it was set up otherwise.
pub const PREFIX: &str = "homeassistant";
