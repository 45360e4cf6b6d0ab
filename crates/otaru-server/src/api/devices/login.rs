//! A device's new login, as it is answered.

use serde::Serialize;

/// A device's new login.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::api) struct Login {
    /// Its user name and MQTT client id
    pub(in crate::api) username: String,
    /// Its password; it is shown this once
    pub(in crate::api) password: String,
}
