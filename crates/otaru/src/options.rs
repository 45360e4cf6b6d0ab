//! Options that several commands share: the broker, its login, the topic prefix, sizes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Once, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::ArgMatches;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::parser::ValueSource;
use otaru_format::topic::{DEFAULT_BASE, Topics};
use otaru_format::url::{AllowedHost, NO_ALLOWED_HOST};

use otaru_broker::client::{BrokerUrl, Login, MqttVersion, Secret};
use otaru_rollout::{BadSpan, Span};

use crate::trust;

/// The options that stand on the command line itself, by their ids.
static GIVEN: OnceLock<BTreeSet<String>> = OnceLock::new();

/// Notes which options stand on the command line, and not in the environment.
pub(crate) fn note_given(matches: &ArgMatches) {
    let mut given = BTreeSet::new();
    let mut level = Some(matches);
    while let Some(matches) = level {
        let ids = matches.ids().map(clap::Id::as_str);
        let typed = |id: &&str| matches.value_source(id) == Some(ValueSource::CommandLine);
        given.extend(ids.filter(typed).map(str::to_owned));
        level = matches.subcommand().map(|(_, matches)| matches);
    }
    GIVEN.get_or_init(|| given);
}

/// Whether this option was typed. What was typed wins over what the environment says.
pub(crate) fn is_given(id: &str) -> bool {
    GIVEN.get().is_some_and(|given| given.contains(id))
}

/// A login on the command line, in the environment or in a file.
#[derive(clap::Args)]
pub(crate) struct LoginArgs {
    /// User name at the broker
    #[arg(long, value_name = "NAME", env = "OTARU_USERNAME")]
    username: Option<String>,
    /// Password at the broker; better in the environment or a file, where others cannot see it
    #[arg(long, env = "OTARU_PASSWORD", hide_env_values = true, value_name = "PASSWORD")]
    password: Option<Secret>,
    /// A file whose first line is the password
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl LoginArgs {
    /// User name and password, each if given.
    fn read(&self) -> anyhow::Result<(Option<String>, Option<Secret>)> {
        let password = match &self.password_file {
            Some(_) if is_given("password") => bail!("give --password or --password-file, not both"),
            Some(path) => Some(first_line(path)?),
            None => self.password.clone(),
        };
        Ok((self.username.clone(), password))
    }

    /// A whole login, or none.
    pub(crate) fn whole(&self) -> anyhow::Result<Option<Login>> {
        match self.read()? {
            (None, None) => Ok(None),
            (Some(username), Some(password)) => Ok(Some(Login { username, password })),
            (Some(_), None) => {
                bail!("--username needs a password: --password-file, OTARU_PASSWORD or --password")
            }
            (None, Some(_)) => bail!(
                "a password is given (--password-file, --password or OTARU_PASSWORD) but no user name; add --username"
            ),
        }
    }
}

/// The first line of a file that holds a secret.
pub(crate) fn first_line(path: &Path) -> anyhow::Result<Secret> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read the file {}", path.display()))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Secret::new(line)),
        _ => bail!("the first line of {} is empty; what it should hold goes there", path.display()),
    }
}

/// Options for the broker and its topics.
#[derive(clap::Args)]
pub(crate) struct BrokerArgs {
    /// The broker: `mqtt://[USER:PASSWORD@]HOST[:PORT]`, or `mqtts://` for TLS
    #[arg(
        long,
        value_name = "URL",
        env = "OTARU_BROKER",
        hide_env_values = true,
        default_value = "mqtt://127.0.0.1:1883"
    )]
    broker: Secret,
    /// Version of MQTT; auto is 5, and 3.1.1 where the broker does not speak it
    #[arg(long, value_name = "VERSION", env = "OTARU_MQTT_VERSION", default_value_t, value_parser = mqtt_version())]
    mqtt_version: MqttVersion,
    #[command(flatten)]
    login: LoginArgs,
    /// Prefix of the devices' topics
    #[arg(long, value_name = "TOPIC", env = "OTARU_BASE", default_value = DEFAULT_BASE)]
    pub(crate) base: String,
}

impl BrokerArgs {
    /// The broker with its login. What stands in options wins over what stands in the URL, and that, where it was typed, over the
    /// environment.
    pub(crate) fn url(&self) -> anyhow::Result<BrokerUrl> {
        check_topic("--base", &self.base)?;
        let mut url: BrokerUrl = self.broker.expose().parse().context("--broker")?;
        url.version = self.mqtt_version;
        url.trust = trust::of_this_run();
        let (username, password) = self.login.read()?;
        let typed = |option: bool| option || !is_given("broker");
        if typed(is_given("username")) || url.username.is_none() {
            url.username = username.or(url.username);
        }
        if typed(is_given("password") || is_given("password_file")) || url.password.is_none() {
            url.password = password.or(url.password);
        }
        if url.username.is_none() && url.password.is_some() {
            bail!(
                "a password is given (--password-file, --password or OTARU_PASSWORD) but no user name; add --username"
            );
        }
        warn_in_clear(&url);
        Ok(url)
    }
}

/// Returns a parser of versions of MQTT, which completions know, too.
pub(crate) fn mqtt_version() -> impl TypedValueParser<Value = MqttVersion> {
    PossibleValuesParser::new(MqttVersion::NAMES).try_map(|name| name.parse())
}

/// Warns once where a password goes to a broker on another machine in clear.
pub(crate) fn warn_in_clear(broker: &BrokerUrl) {
    static WARNED: Once = Once::new();
    if let Some(warning) = crate::in_clear::broker_password(broker) {
        WARNED.call_once(|| crate::ui::warn(&warning));
    }
}

/// Whether topics can begin like this.
pub(crate) fn check_topic(option: &str, topic: &str) -> anyhow::Result<()> {
    Topics::new(topic, "x").map(|_| ()).with_context(|| format!("{option} \"{}\"", crate::ui::clean(topic)))
}

/// A number of bytes, such as `4096`, `512K` or `1M`.
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let unit = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1024,
        "m" | "mb" | "mib" => 1024 * 1024,
        "g" | "gb" | "gib" => 1024 * 1024 * 1024,
        _ => return Err("write a number of bytes, such as 4096, 512K or 1M".into()),
    };
    let number: usize = digits.parse().map_err(|_| "write a number of bytes, such as 4096, 512K or 1M")?;
    number.checked_mul(unit).ok_or_else(|| "that is too much".into())
}

/// Refuses an empty filter: a script that has nothing to put there does not mean all devices.
pub(crate) fn not_blank(text: &str) -> Result<String, &'static str> {
    match text.trim().is_empty() {
        true => Err("it is empty, which would mean every device"),
        false => Ok(text.to_owned()),
    }
}

/// A limit of a list.
pub(crate) fn at_least_one(text: &str) -> Result<usize, &'static str> {
    match text.parse() {
        Ok(limit) if limit > 0 => Ok(limit),
        _ => Err("a limit is a number from 1 on"),
    }
}

/// Time that something may take, at most a week: a span such as `15m`, or a number of seconds.
pub(crate) fn timeout(text: &str) -> Result<Duration, String> {
    let span = match text.parse() {
        Ok(seconds) => Span::seconds(seconds),
        Err(_) => text.parse().map_err(|error: BadSpan| format!("{error}, or a number of seconds"))?,
    };
    match (Span::seconds(1)..=Span::hours(7 * 24)).contains(&span) {
        true => Ok(Duration::from_millis(span.0)),
        false => Err("it is from 1 s to 7 days".into()),
    }
}

/// A speed-up: a positive number.
pub(crate) fn speed(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(speed) if (0.01..=1000.0).contains(&speed) => Ok(speed),
        _ => Err("a speed is a number from 0.01 to 1000; 1 is real time".into()),
    }
}

/// A host that firmware may be fetched from.
pub(crate) fn allowed_host(text: &str) -> Result<String, String> {
    match AllowedHost::new(text).is_valid() {
        true => Ok(text.to_owned()),
        false => Err(format!("this {NO_ALLOWED_HOST}")),
    }
}

/// Raises the number of files this process may have open towards `wanted`, as far as it may. Says whether that was enough.
pub(crate) fn raise_file_limit(wanted: u64) -> bool {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return true;
    }
    let most = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum });
    raised.is_ok() && most >= wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(bytes("4096"), Ok(4096));
        assert_eq!(bytes("512K"), Ok(512 << 10));
        assert_eq!(bytes("1MiB"), Ok(1 << 20));
        assert_eq!(bytes("1G"), Ok(1 << 30));
        assert!(bytes("").is_err() && bytes("K").is_err() && bytes("1T").is_err() && bytes("-1").is_err());
        assert!(allowed_host("files.lan:80").is_ok() && allowed_host("http://files.lan").is_err());
        assert!(at_least_one("0").is_err() && at_least_one("7") == Ok(7));
        assert!(speed("0").is_err() && speed("NaN").is_err() && speed("2.5") == Ok(2.5));
    }

    #[test]
    fn timeouts() {
        assert_eq!(timeout("900"), Ok(Duration::from_secs(900)));
        assert_eq!(timeout("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(timeout("7d"), Ok(Duration::from_secs(604_800)));
        for bad in ["0", "604801", "8d", "", "-1", "x"] {
            assert!(timeout(bad).is_err(), "{bad}");
        }
    }
}
