//! Versions of MQTT: [`setting`] is what people ask for, [`choice`] what is spoken next by what a broker said so far.

mod choice;
mod setting;

pub use choice::{Next, Outcome, TRY_5_AGAIN, VersionChoice};
pub use setting::{BadMqttVersion, MqttVersion, Version};
