//! Options that say where the server is, and as whom to call it.

use anyhow::bail;
use otaru_broker::client::Secret;

use super::http::Client;
use super::login::{self, Login};
use crate::{in_clear, options, ui};

/// Options for the server. Without them, those that `otaru login` remembers.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct ServerArgs {
    /// The server, such as `http://ota.example.com:8080`; otherwise the one of `otaru login`
    #[arg(long, value_name = "URL", env = "OTARU_SERVER", help_heading = "Server")]
    pub(crate) server: Option<String>,
    /// A file whose first line is an API token; otherwise the token of `otaru login`
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    pub(crate) token_file: Option<std::path::PathBuf>,
    /// An API token; better in the environment or a file, where others cannot see it
    #[arg(long, value_name = "TOKEN", env = "OTARU_TOKEN", hide_env_values = true, help_heading = "Server")]
    token: Option<Secret>,
}

impl ServerArgs {
    /// A client for it.
    ///
    /// # Errors
    /// When it is not known where the server is, or as whom to call it.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let kept = login::read()?;
        let url = match (&self.server, &kept) {
            (Some(url), _) => login::normal(url)?,
            (None, Some(login)) => login.server.clone(),
            (None, None) => bail!("which server? `otaru login URL` remembers one, --server names one"),
        };
        // Whoever the caller is, the server is the same.
        let ca = kept.as_ref().filter(|login| login.server == url).and_then(|login| login.ca.clone());
        let token = match (&self.token, &self.token_file, kept) {
            (Some(_), Some(_), _) if options::is_given("token") => {
                bail!("give --token or --token-file, not both")
            }
            // A file is always typed; a token may be what the environment says.
            (_, Some(path), _) => options::first_line(path)?,
            (Some(token), None, _) => token.clone(),
            // A token is for the server that it was given for.
            (None, None, Some(login)) if login.server == url => login.token,
            (None, None, _) => {
                bail!(
                    "no token for {url}; `otaru login {url}` asks for one, --token-file and OTARU_TOKEN give one"
                )
            }
        };
        // Who logged in was warned then.
        let is_kept = self.server.is_none() && self.token.is_none() && self.token_file.is_none();
        if let Some(warning) = in_clear::token(&url).filter(|_| !is_kept) {
            ui::warn(&warning);
        }
        Client::new(Login { server: url, token, ca })
    }
}
