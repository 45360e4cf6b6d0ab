//! `otaru serve`: the fleet server.

mod acme;
mod artifacts;
mod broker_auth;
mod credentials;
mod listen;
mod tls;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use otaru_broker::client::{BrokerUrl, MqttVersion, Secret};
use otaru_rollout::Span;
use otaru_server::config::{Config, MqttConfig, PlainListeners};
use otaru_server::devices::bounds::Bounds;
use otaru_server::server::Server;
use serde_json::json;
use tokio::signal::unix::SignalKind;

use self::artifacts::ArtifactsArgs;
use self::broker_auth::BrokerAuthArgs;
use self::listen::Listen;
use self::tls::TlsArgs;
use crate::database::DatabaseArgs;
use crate::logging::Format;
use crate::options::is_given;
use crate::output::{Outcome, Output};
use crate::{in_clear, logging, options, signals, trust, ui};

const EXAMPLES: &str = "\
Examples:
  otaru serve --dev                                   to try it: virtual devices may come at once
  otaru serve --data /var/lib/otaru --signing-key release.pem --public-url http://ota.example.com
  otaru serve --tls-dev                               TLS with an authority of its own, for a network of yours
  otaru serve --acme ota.example.com --http off --mqtt-listen off      on the Internet, with a certificate by itself
  otaru serve --tls-cert fullchain.pem --tls-key privkey.pem --public-url https://ota.example.com:8443
  otaru serve --http 127.0.0.1:8080 --public-url https://example.com/ota --trusted-proxy 127.0.0.1    behind a proxy
  otaru serve --data /var/lib/otaru --mqtt mqtt://otaru@broker.lan --mqtt-password-file secret.txt
  otaru serve --data /var/lib/otaru --artifacts s3://firmware/otaru --s3-region eu-central-1 --s3-credentials s3.txt
  otaru serve --mqtt mqtt://otaru@localhost --mqtt-password-file secret.txt --broker-auth-listen 127.0.0.1:8090 \\
      --broker-auth-secret-file broker.txt            a broker that asks the server who may do what there

The first start prints an admin token, once: log in with it in a browser, or with `otaru login`.
If it is lost, stop the server and make another: `otaru token create NAME --role admin --data DIR`;
over PostgreSQL the server may run: `otaru token create NAME --role admin --database URL`.
People and scripts use tokens (`otaru token`), devices have logins of their own (`otaru devices add`)
or register with a fleet key (`otaru devices key`); with --dev, devices from this machine and from
private networks need none.

With --signing-key, images that are uploaded become signed release files, with patches from the
versions that devices run. Without it they are offered unsigned; releases signed elsewhere
(`otaru release`) are accepted as well.";

/// Run the fleet server: dashboard, API, downloads and an MQTT broker
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Folder of database and firmware. With --database it has what is this server's own
    #[arg(long, value_name = "DIR", default_value = "otaru-data", env = "OTARU_DATA")]
    data: PathBuf,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    artifacts: ArtifactsArgs,
    /// Address of dashboard, API and downloads in plain HTTP; port 0 picks a free one, `off` is for TLS only
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:8080")]
    http: Listen,
    /// Address of the embedded broker; `off` is for TLS only
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:1883")]
    mqtt_listen: Listen,
    #[command(flatten)]
    tls: TlsArgs,
    /// Use this broker instead of an embedded one: `mqtt://[USER[:PASSWORD]@]HOST[:PORT]`, or `mqtts://` for TLS
    #[arg(long, value_name = "URL", env = "OTARU_MQTT", hide_env_values = true)]
    mqtt: Option<Secret>,
    /// Version of MQTT that is spoken with --mqtt; auto is 5, and 3.1.1 where that broker does not speak it
    #[arg(long, value_name = "VERSION", env = "OTARU_MQTT_VERSION", default_value_t, value_parser = options::mqtt_version())]
    mqtt_version: MqttVersion,
    /// A file whose first line is the password for --mqtt
    #[arg(long, value_name = "FILE", requires = "mqtt")]
    mqtt_password_file: Option<PathBuf>,
    /// PEM file of the CAs that the broker of --mqtt may be of; otherwise as --ca
    #[arg(long, value_name = "PEM", requires = "mqtt")]
    mqtt_ca: Option<PathBuf>,
    /// PEM file of the certificate to show to the broker of --mqtt; otherwise as --client-cert
    #[arg(long, value_name = "PEM", requires_all = ["mqtt", "mqtt_key"])]
    mqtt_cert: Option<PathBuf>,
    /// PEM file of that certificate's key
    #[arg(long, value_name = "PEM", requires = "mqtt_cert")]
    mqtt_key: Option<PathBuf>,
    #[command(flatten)]
    broker_auth: BrokerAuthArgs,
    /// Prefix of the devices' topics
    #[arg(long, value_name = "TOPIC", env = "OTARU_BASE", default_value = otaru_format::topic::DEFAULT_BASE)]
    base: String,
    /// Beginning of links, where others reach this server under another address: `http://HOST[:PORT][/PATH]`; with --acme, https:// and
    /// the first domain.
    /// With https:// behind a proxy, devices are sent to http:// on the same host's port 80
    #[arg(long, value_name = "URL", env = "OTARU_PUBLIC_URL")]
    public_url: Option<String>,
    /// A proxy whose X-Forwarded-For and -Proto are believed; may be given several times
    #[arg(long, value_name = "IP")]
    trusted_proxy: Vec<IpAddr>,
    /// A proxy before the embedded broker whose PROXY header is believed; may be given several times
    #[arg(long, value_name = "IP")]
    mqtt_proxy: Vec<IpAddr>,
    /// Take releases that were signed elsewhere only if this key signed them; may be given several times
    #[arg(long, value_name = "PUB.pem")]
    trusted_key: Vec<PathBuf>,
    /// Sign uploaded images with this key (`otaru keygen`)
    #[arg(long, value_name = "KEY.pem", env = "OTARU_KEY")]
    signing_key: Option<PathBuf>,
    /// Let unknown devices connect without a login, from this machine and private networks
    #[arg(long)]
    dev: bool,
    /// Largest number of devices; retired ones do not count
    #[arg(long, value_name = "N", default_value_t = Bounds::default().devices, value_parser = clap::value_parser!(u64).range(1..))]
    max_devices: u64,
    /// Largest number of new devices that come with one fleet key in an hour
    #[arg(long, value_name = "N", default_value_t = Bounds::default().per_fleet_key_and_hour, value_parser = clap::value_parser!(u32).range(1..))]
    max_registrations: u32,
    /// Serve Prometheus metrics here, such as 127.0.0.1:9090; the path is /metrics
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<SocketAddr>,
    /// Let devices appear in Home Assistant, through MQTT discovery; PREFIX is what it listens to
    #[arg(long, value_name = "PREFIX", num_args = 0..=1, require_equals = true,
          default_missing_value = otaru_server::home_assistant::PREFIX)]
    home_assistant: Option<String>,
    /// Time from the wish to stop to the end, such as 10s, in which `/readyz` says so and requests are answered still: for a load balancer
    #[arg(long, value_name = "SPAN", default_value = "0s")]
    drain: Span,
    /// Format of logs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    log_format: Format,
}

/// Tells about the options once the server runs.
struct Announced {
    dev: bool,
    /// Option that says to `otaru token` where the database is.
    place: String,
}

pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<Outcome> {
    logging::serve(args.log_format, output.verbose);
    options::raise_file_limit(1 << 20);
    let announced = Announced { dev: args.dev, place: args.place() };
    let drain = Duration::from_millis(args.drain.0);
    let mut server = Server::start(args.config()?).await?;
    if let Err(error) = announce(&server, &announced, output) {
        let had_token = server.first_token().is_some();
        server.stop().await;
        match had_token {
            true => bail!("the admin token could not be shown: {error}; the next start makes another"),
            // As for any other command whose output nobody reads.
            false => return Ok(Outcome::Good),
        }
    }
    server.token_was_shown().await?;
    let stopped = run_until_stopped(&mut server).await;
    if stopped.is_none() && !drain.is_zero() {
        server.leave();
        log::info!("not ready any more; it ends in {} s, or with another Ctrl-C at once", drain.as_secs());
        tokio::select! {
            () = tokio::time::sleep(drain) => {}
            () = signals::stop_but_for_hangup() => {}
        }
    }
    server.stop().await;
    match stopped {
        None => Ok(Outcome::Good),
        Some(why) => bail!("the server ended: {why}"),
    }
}

/// Runs until somebody wants the end, or the server cannot go on: then with the reason. A hangup has the certificate looked at.
async fn run_until_stopped(server: &mut Server) -> Option<String> {
    let mut hangups = server.https().and_then(|_| signals::Hangups::listen());
    loop {
        let hung_up = async {
            match &mut hangups {
                Some(hangups) => hangups.next().await,
                None => signals::one(SignalKind::hangup()).await,
            }
        };
        tokio::select! {
            () = signals::stop_but_for_hangup() => return None,
            () = hung_up => {}
            why = server.failed() => return Some(why),
        }
        // Without TLS there is nothing to read again: it ends, as with a terminal that closes.
        hangups.as_ref()?;
        server.reload_certificate();
    }
}

impl Args {
    fn place(&self) -> String {
        match self.database.options() {
            Some(options) => options,
            None => format!("--data {}", self.data.display()),
        }
    }

    fn config(self) -> anyhow::Result<Config> {
        options::check_topic("--base", &self.base)?;
        if let Some(prefix) = &self.home_assistant {
            options::check_topic("--home-assistant", prefix)?;
        }
        if let Some(url) = &self.public_url {
            check_public(url)?;
        }
        let plain = PlainListeners { http: self.http.0.is_some(), mqtt: self.mqtt_listen.0.is_some() };
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mqtt_listen = self.mqtt_listen.0.unwrap_or(nowhere);
        Ok(Config {
            mqtt: match &self.mqtt {
                Some(_) if is_given("mqtt_listen") && is_given("mqtt") => {
                    bail!("give --mqtt or --mqtt-listen, not both: with --mqtt there is no embedded broker")
                }
                Some(_) if is_given("mqtt_listen") && self.broker_auth.is_wanted() => {
                    bail!(
                        "--broker-auth-listen is for a broker of your own (--mqtt); the embedded one asks nobody"
                    )
                }
                // The environment names a broker; what was typed wins.
                Some(_) if is_given("mqtt_listen") => embedded(mqtt_listen, self.mqtt_proxy),
                Some(_) if !self.mqtt_proxy.is_empty() => {
                    bail!("--mqtt-proxy is for the embedded broker; with --mqtt there is none")
                }
                Some(url) => {
                    let mut url = broker(url, self.mqtt_password_file.as_deref())?;
                    let identity = self.mqtt_cert.as_deref().zip(self.mqtt_key.as_deref());
                    url.trust = trust::read(trust::of_this_run(), self.mqtt_ca.as_deref(), identity)?;
                    let auth = self.broker_auth.config(&url)?.map(Box::new);
                    MqttConfig::External { url: url.with_version(self.mqtt_version), auth }
                }
                None if is_given("mqtt_version") => {
                    bail!("--mqtt-version is for a broker of your own (--mqtt); the embedded one needs none")
                }
                None => embedded(mqtt_listen, self.mqtt_proxy),
            },
            public_url: self.public_url.or_else(|| self.tls.public_url()),
            tls: self.tls.config(plain)?,
            data: self.data,
            database: self.database.settings()?,
            download_memory: self.artifacts.download_memory(),
            artifacts: self.artifacts.config()?,
            http: self.http.0.unwrap_or(nowhere),
            base: self.base,
            trusted_proxies: self.trusted_proxy,
            dev: self.dev,
            guests: false,
            signing_key: self.signing_key,
            trusted_keys: self.trusted_key,
            device_limits: Bounds {
                devices: self.max_devices,
                per_fleet_key_and_hour: self.max_registrations,
                ..Bounds::default()
            },
            upload_limits: otaru_server::releases::UploadLimits::default(),
            http_limits: otaru_server::http::Limits::default(),
            metrics: self.metrics,
            home_assistant: self.home_assistant,
        })
    }
}

fn embedded(listen: SocketAddr, behind: Vec<IpAddr>) -> MqttConfig {
    let mut config = MqttConfig::embedded(listen);
    if let MqttConfig::Embedded { proxies, .. } = &mut config {
        *proxies = behind;
    }
    config
}

fn broker(url: &Secret, password_file: Option<&std::path::Path>) -> anyhow::Result<BrokerUrl> {
    let mut url: BrokerUrl = url.expose().parse().context("--mqtt")?;
    if let Some(path) = password_file {
        url.password = Some(options::first_line(path)?);
    }
    if let Some(warning) = in_clear::broker_password(&url) {
        log::warn!("{warning}");
    }
    Ok(url)
}

/// Links in pages, redirects and commands begin with it, so it has nothing that would have to be escaped.
fn check_public(url: &str) -> anyhow::Result<()> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:[]".contains(&byte);
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && rest.bytes().all(plain) => {}
        _ => bail!("--public-url is http://HOST[:PORT][/PATH], or the same with https://"),
    }
    let path = otaru_server::address::path(url);
    if otaru_server::address::is_own(path) {
        bail!("--public-url: {path} begins as pages of the dashboard do; choose another path, such as /ota");
    }
    Ok(())
}

/// Says where everything is, and shows the first token.
///
/// # Errors
/// When the token cannot be written: then nobody has seen it.
fn announce(server: &Server, args: &Announced, output: Output) -> std::io::Result<()> {
    let (base, mqtt, token) = (server.public_base(), server.mqtt_url(), server.first_token());
    let text = |address: Option<SocketAddr>| address.map(|address| address.to_string());
    if output.json {
        let listening = ui::timed(json!({
            "event": "listening", "url": base, "http": server.http().to_string(), "mqtt": mqtt.to_string(),
            "https": text(server.https()), "mqtts": text(server.mqtts()),
            "ca": server.authority_file().map(|file| file.display().to_string()), "metrics": server.metrics().map(|address| address.to_string()),
            "broker_auth": text(server.broker_auth()), "dev": args.dev, "token": token,
        }));
        return ui::print(&listening.to_string());
    }
    ui::line(&format!("Otaru at {base}    the dashboard; the API: {base}/api/docs"));
    ui::line(&format!("MQTT  at {}", server.app().broker()));
    if server.https().is_some() {
        for line in tls::lines(server) {
            ui::line(&line);
        }
    }
    if let Some(address) = server.metrics() {
        ui::line(&format!("Metrics at http://{address}/metrics"));
    }
    if let Some(address) = server.broker_auth() {
        ui::line(&format!("The broker asks at {address} who may do what there"));
    }
    if args.dev {
        ui::line("--dev: devices from this machine and private networks need no login.");
    }
    match token {
        Some(token) => show_token(token, server)?,
        None => {
            let first =
                if args.place.starts_with("--database") { "Make" } else { "Stop the server and make" };
            ui::line(&format!("Log in with a token that you have. Is it lost? {first} another:"));
            ui::line(&format!("  otaru token create NAME --role admin {}", args.place));
        }
    }
    ui::line("Ctrl-C ends it.");
    Ok(())
}

fn show_token(token: &str, server: &Server) -> std::io::Result<()> {
    let base = server.public_base();
    let ca = server.authority_file().filter(|_| base.starts_with("https://"));
    let ca = ca.map(|file| format!(" --ca {}", file.display())).unwrap_or_default();
    ui::line("");
    if server.is_token_made_again() {
        ui::line(
            "The server was ended before it showed its first admin token. That one is revoked; this is another.",
        );
    }
    ui::line("The admin token. It is shown this once; keep it:");
    ui::print(&format!("  {token}"))?;
    ui::line("");
    ui::line("Log in with it in a browser, or on this machine or another:");
    ui::line(&format!("  otaru login {base}{ca}"));
    ui::line("  otaru release upload firmware.bin --rollout");
    ui::line("");
    Ok(())
}
