//! HTTP that the API and the dashboard share: what requests bring, who sends them, and answers that go on.

pub mod extract;
pub mod login;
pub(crate) mod notes;
pub(crate) mod stream;
pub mod upload;
