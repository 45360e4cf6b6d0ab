//! The device that a subcommand is about, and the server that knows it.

use serde::de::DeserializeOwned;

use crate::client::args::ServerArgs;
use crate::client::http::Client;
use crate::client::search::misspelt;
use crate::percent::escape;

#[derive(clap::Args)]
pub(super) struct One {
    /// Id of the device
    pub(super) id: String,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

impl One {
    /// Has the server do something with the device; where there is no such device, the error says what may have been meant.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        ask: impl AsyncFnOnce(&Client) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let client = self.server.client()?;
        match ask(&client).await {
            Ok(done) => Ok(done),
            Err(error) => Err(misspelt(&client, std::slice::from_ref(&self.id), error).await),
        }
    }

    /// The path of this part of the device in the API.
    pub(super) fn path(&self, part: &str) -> String {
        format!("/devices/{}{part}", escape(&self.id))
    }
}
