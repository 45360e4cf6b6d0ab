//! The release that a subcommand is about, and the server that has it.

use otaru_api::{Answer, Release};

use crate::client::args::ServerArgs;
use crate::client::http::Client;
use crate::client::releases::{Yanked, find};

#[derive(clap::Args)]
pub(super) struct One {
    /// Id of the release, or `PRODUCT@VERSION`
    release: String,
    #[command(flatten)]
    server: ServerArgs,
}

impl One {
    /// Returns the server's client, and the release, yanked or not.
    ///
    /// # Errors
    /// When there is no such release, or several are called so.
    pub(super) async fn find(&self) -> anyhow::Result<(Client, Answer<Release>)> {
        let client = self.server.client()?;
        let release = find(&client, &self.release, Yanked::Taken).await?;
        Ok((client, release))
    }
}
