//! `otaru login` and `otaru logout`: which server, and as whom.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use otaru_api::Me;
use otaru_broker::client::Secret;
use serde_json::json;

use crate::client::http::Client;
use crate::client::login::{self, Login};
use crate::output::{Outcome, Output};
use crate::{in_clear, options, trust, ui};

const EXAMPLES: &str = "\
Examples:
  otaru login http://ota.example.com:8080                    asks for the token
  otaru login http://ota.example.com:8080 --token-file FILE
  echo $TOKEN | otaru login http://ota.example.com:8080
  otaru login https://ota.local:8443 --ca ca.pem             of a CA of one's own

Token and the path of --ca are kept in ~/.config/otaru/login.json, readable for you alone: one login, in place of the one
before. Several servers of one fleet are behind a load balancer, whose address it is; for a second fleet, OTARU_SERVER and
OTARU_TOKEN, or --server and --token-file, name it with each command. An administrator makes
tokens with `otaru token create`; the first one is printed when a server starts for the first time.
Is the last one lost? At the server's machine, while it is stopped: `otaru token create NAME --role admin --data DIR`.";

/// Remember a server and a token for it
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The server's address
    url: String,
    /// A file whose first line is the token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<Outcome> {
    let server = login::normal(&args.url)?;
    // Before it is asked for: who reads this can still think again.
    if let Some(warning) = in_clear::token(&server) {
        ui::warn(&warning);
    }
    let token = match &args.token_file {
        Some(path) => options::first_line(path)?,
        None => ask(&server)?,
    };
    let login = Login { server: server.clone(), token, ca: trust::ca_file()? };
    let me: Me = Client::new(login.clone())?.get("/me").await?;
    let path = login::keep(&login)?;
    let (name, role) = (&me.name, ui::clean(me.role.as_str()));
    if output.json {
        ui::event(json!({"event": "login", "server": server, "name": name, "role": role}));
    } else {
        let ca = login.ca.map(|ca| format!(", with the CAs of {}", ca.display())).unwrap_or_default();
        ui::line(&format!("{server}: \"{}\", {role}. Kept in {}{ca}.", ui::clean(name), path.display()));
    }
    Ok(Outcome::Good)
}

/// Forget the server and the token
#[derive(clap::Args)]
pub(crate) struct LogoutArgs {}

pub(crate) fn logout(output: Output) -> anyhow::Result<Outcome> {
    let forgotten = login::forget()?;
    match (output.json, forgotten) {
        (true, _) => ui::event(json!({"event": "logout", "forgotten": forgotten})),
        (false, true) => ui::line("Forgotten. The token itself is still good; `otaru token revoke` ends it."),
        (false, false) => ui::line("There was nothing to forget."),
    }
    Ok(Outcome::Good)
}

/// From the terminal without showing it, or from whatever standard input is.
fn ask(server: &str) -> anyhow::Result<Secret> {
    let token = if std::io::stdin().is_terminal() {
        let mut terminal = console::Term::stderr();
        write!(terminal, "API token for {server}: ")?;
        terminal.read_secure_line()?
    } else {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).context("cannot read the token")?;
        line
    };
    match token.trim() {
        "" => bail!("no token given"),
        token => Ok(Secret::new(token)),
    }
}
