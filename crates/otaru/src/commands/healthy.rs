//! `otaru healthy`: whether a server can do its work; for containers and scripts.

use anyhow::{anyhow, bail};

use crate::client::error::problem;
use crate::client::http::no_tls;
use crate::client::login;
use crate::options::is_given;
use crate::output::{Outcome, Output};
use crate::{trust, ui};

/// Address of a server on this machine that was told no other.
const HERE: &str = "http://127.0.0.1:8080";

/// Check whether a server is healthy; no token needed
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  otaru healthy                                                       the server of `otaru login`
  otaru healthy http://ota.example.com:8080
  otaru healthy --alive http://127.0.0.1:8080 || systemctl restart otaru

Scripts and containers name the server that they mean. A server whose disk is full is alive and not ready: to restart it
does not help.")]
pub(crate) struct Args {
    /// The server's address; otherwise that of --server, the one of `otaru login`, or http://127.0.0.1:8080
    url: Option<String>,
    /// The same, as other commands take it
    #[arg(long, value_name = "URL", env = "OTARU_SERVER")]
    server: Option<String>,
    /// Check only that it responds
    #[arg(long)]
    alive: bool,
}

pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<Outcome> {
    if args.url.is_some() && is_given("server") {
        bail!("give the server's address once, with --server or without");
    }
    let given = args.url.or(args.server);
    let kept = match login::read() {
        // Whether a server that is named is healthy does not depend on a login that is damaged.
        Err(_) if given.is_some() => None,
        kept => kept?,
    };
    let server = match (given, &kept) {
        (Some(url), _) => login::normal(&url)?,
        (None, Some(login)) => login.server.clone(),
        (None, None) => HERE.to_owned(),
    };
    let (path, is) = if args.alive { ("healthz", "alive") } else { ("readyz", "ready") };
    let url = format!("{server}/{path}");
    let ca = kept.filter(|login| login.server == server).and_then(|login| login.ca);
    let tls = trust::for_requests(&server, ca.as_deref())?;
    let asked = tokio::task::spawn_blocking(move || {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(std::time::Duration::from_secs(5)))
            .http_status_as_error(false)
            .tls_config(tls);
        ureq::Agent::from(config.build()).get(&url).call()
    });
    let mut answer = asked.await?.map_err(|error| match no_tls(&server, &error) {
        Some(why) => anyhow!(why),
        None => anyhow::Error::new(error).context(format!("{server} does not answer")),
    })?;
    if !answer.status().is_success() {
        // It says why, unless somebody answers in its place.
        match problem(&mut answer) {
            Some(problem) => bail!("{server} is not {is}: {}", ui::clean(&problem.detail)),
            None => bail!("{server} is not {is}: it answered {}", answer.status()),
        }
    }
    if output.json {
        ui::event(serde_json::json!({"event": "healthy", "server": server}));
    } else {
        ui::line(&format!("{server} is {is}."));
    }
    Ok(Outcome::Good)
}
