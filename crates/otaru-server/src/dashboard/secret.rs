//! The page with a secret, which is shown this once.

use askama::Template;

use super::shell::{Section, Shell};

/// A secret that is shown this once.
#[derive(Template)]
#[template(path = "secret.html")]
pub(super) struct SecretPage {
    pub(super) shell: Shell,
    pub(super) heading: String,
    pub(super) text: String,
    /// Use of the secret.
    pub(super) explanation: &'static str,
    /// Remark on what is to be done beside.
    pub(super) remark: Option<&'static str>,
    pub(super) back: String,
}
