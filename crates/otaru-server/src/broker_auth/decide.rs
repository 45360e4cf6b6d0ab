//! Decisions: who may log in, and whose a client id is. What an identity may do is in [`access`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::http::StatusCode;
use otaru_broker::client::Login as ServerLogin;
use otaru_broker::{Channel, ConnectRequest, OneLogin, Password, Reason, Refusal, Version};
use otaru_format::topic::Topics;
use otaru_rollout::DeviceId;

use super::logins::{Login, Logins, Standing};
use crate::access::going_on;
use crate::app::Shared;
use crate::config::MqttConfig;
use crate::devices::bounds;
use crate::metrics::Metrics;
use crate::mqtt::access::{self, Authenticator, Identity, Visitor, VouchedCertificate};
use crate::problem::Problem;

/// Bytes of the longest client id and of the longest user name; a device's name has 64 at most.
const LONGEST_NAME: usize = 256;
/// Attempts to decide on a login while credentials end.
const ATTEMPTS: usize = 4;

/// A login that is to be decided on.
pub(super) struct Attempt {
    /// Client id.
    pub(super) client: String,
    /// User name, if one was given.
    pub(super) username: Option<String>,
    /// Proof, if one was given.
    pub(super) proof: Option<Proof>,
    /// Address that the client comes from, if the broker tells it.
    pub(super) address: Option<IpAddr>,
    /// Address of the broker.
    pub(super) broker: IpAddr,
}

/// Proof of an identity.
pub(super) enum Proof {
    /// A password, a token or a fleet key.
    Password(String),
    /// A certificate that the broker has checked.
    Certificate {
        /// Common name.
        common_name: String,
        /// Serial number.
        serial: String,
    },
}

/// A decision: that it may, or the reason why not.
pub(super) type Decision = Result<(), String>;

/// Decides for a broker.
pub(super) struct Decisions {
    app: Shared,
    authenticator: Arc<dyn Authenticator>,
    /// The server's own logins there.
    server: Vec<OneLogin>,
    logins: Arc<Logins>,
}

impl Decisions {
    /// Decides as this authenticator does, and notes who logged in.
    pub(super) fn new(app: Shared, authenticator: Arc<dyn Authenticator>, logins: Arc<Logins>) -> Self {
        let server = own_logins(&app.config.mqtt);
        Self { app, authenticator, server, logins }
    }

    /// Counts decisions.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.app.metrics
    }

    /// Prefix of the devices' topics.
    pub(super) fn base(&self) -> &str {
        &self.app.config.base
    }

    /// Decides on a login.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub(super) async fn connect(&self, attempt: &Attempt) -> Result<Decision, Problem> {
        let is_long = |text: &str| text.len() > LONGEST_NAME;
        if is_long(&attempt.client) || attempt.username.as_deref().is_some_and(is_long) {
            return Ok(Err("the client id or the user name is too long".to_owned()));
        }
        let counted = attempt.address.map(|address| (address, self.app.clock.now()));
        if counted.is_some_and(|(address, now)| !self.app.login_rates.wrong.has_room(address, now)) {
            return Ok(Err("too many wrong logins from this address; wait a minute".to_owned()));
        }
        // A credential that ends meanwhile counts.
        for _ in 0..ATTEMPTS {
            let ends = self.logins.ends();
            let identity = match self.identify(attempt).await {
                Ok(visitor) => visitor.identity,
                Err(Refusal { reason: Reason::ServerUnavailable, .. }) => return Err(unavailable()),
                Err(Refusal { reason, text }) => {
                    if let Some((address, now)) = counted.filter(|_| reason == Reason::BadUserNameOrPassword)
                    {
                        self.app.login_rates.wrong.count(address, now);
                    }
                    return Ok(Err(text.unwrap_or_else(|| reason.to_string())));
                }
            };
            if let Err(why) = self.may_have(attempt, &identity).await? {
                return Ok(Err(why));
            }
            let login = Login { username: attempt.username.clone(), identity };
            if self.logins.note(&attempt.client, login, ends) {
                return Ok(Ok(()));
            }
        }
        Err(unavailable())
    }

    async fn identify(&self, attempt: &Attempt) -> Result<Visitor, Refusal> {
        let peer = attempt.address.unwrap_or(attempt.broker);
        let password = match &attempt.proof {
            Some(Proof::Certificate { common_name, serial }) => {
                let certificate = VouchedCertificate {
                    client: attempt.client.clone(),
                    common_name: common_name.clone(),
                    serial: serial.clone(),
                    peer,
                };
                return self.authenticator.identify_vouched(certificate).await;
            }
            Some(Proof::Password(password)) => Some(Password::new(password.as_bytes())),
            // Whoever is let in without a login is so for where they come from.
            None if attempt.address.is_none() => return Err(Reason::BadUserNameOrPassword.into()),
            None => None,
        };
        let request = ConnectRequest {
            client: attempt.client.clone(),
            username: attempt.username.clone(),
            password,
            peer: SocketAddr::new(peer, 0),
            proxy: Some(SocketAddr::new(attempt.broker, 0)),
            version: Version::V311,
            channel: Channel::Plain,
        };
        match self.server.iter().any(|server| server.admits(&request)) {
            true => Ok(Identity::Server.into()),
            false => self.authenticator.identify(request).await,
        }
    }

    /// Whether a client id may be this identity's. At the embedded broker each identity has client ids of its own; elsewhere there is one of
    /// each, and whoever brings it takes the connection. A device has its name, and a token none that a device or another token has.
    async fn may_have(&self, attempt: &Attempt, identity: &Identity) -> Result<Decision, Problem> {
        let (client, username) = (attempt.client.as_str(), attempt.username.as_deref());
        let Identity::Token { id, .. } = identity else { return Ok(Ok(())) };
        if username == Some(client) {
            return Ok(Err(
                "client id and user name of a token are not the same: that is how devices log in".to_owned(),
            ));
        }
        if self.device(client).is_some() {
            let device = DeviceId::from(client);
            if self.app.db.read(move |tx| bounds::is_known(tx, &device)).await? {
                return Ok(Err("this client id is the name of a device".to_owned()));
            }
        }
        match self.logins.get(client) {
            Some(Standing::In(Login { identity: Identity::Token { id: other, .. }, .. }))
                if other != *id && self.app.tokens.is_good(&other).await? =>
            {
                Ok(Err("this client id is another token's".to_owned()))
            }
            _ => Ok(Ok(())),
        }
    }

    /// Returns whose a client id is that has logged in with this user name.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub(super) async fn owner(
        &self,
        client: &str,
        username: Option<&str>,
    ) -> Result<Option<Identity>, Problem> {
        let ends = self.logins.ends();
        match self.logins.get(client) {
            Some(Standing::In(login)) if login.username.as_deref() == username => match &login.identity {
                Identity::Token { id, .. } if !self.app.tokens.is_good(id).await? => Ok(None),
                _ => Ok(Some(login.identity)),
            },
            Some(Standing::In(_) | Standing::Ended) => Ok(None),
            None => self.owner_from_before(client, username, ends).await,
        }
    }

    /// Looks up a device that logged in before this server started.
    async fn owner_from_before(
        &self,
        client: &str,
        username: Option<&str>,
        ends: u64,
    ) -> Result<Option<Identity>, Problem> {
        // No token has logged in so.
        let Some(device) = self.device(client).filter(|_| username == Some(client)) else { return Ok(None) };
        if !going_on::may(&self.app, device).await? {
            return Ok(None);
        }
        let identity = Identity::Device(client.to_owned());
        let login = Login { username: username.map(str::to_owned), identity: identity.clone() };
        Ok(self.logins.note(client, login, ends).then_some(identity))
    }

    fn device(&self, client: &str) -> Option<DeviceId> {
        Topics::new(self.base(), client).ok().map(|_| DeviceId::from(client))
    }

    /// Decides whether a client may publish on a topic.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub(super) async fn publish(
        &self,
        client: &str,
        username: Option<&str>,
        topic: &str,
    ) -> Result<Decision, Problem> {
        let owner = self.owner(client, username).await?;
        Ok(allowed(owner, |identity| access::may_publish(identity, self.base(), topic)))
    }

    /// Decides whether a client may subscribe to a filter.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub(super) async fn subscribe(
        &self,
        client: &str,
        username: Option<&str>,
        filter: &str,
    ) -> Result<Decision, Problem> {
        let owner = self.owner(client, username).await?;
        Ok(allowed(owner, |identity| access::may_subscribe(identity, self.base(), filter)))
    }
}

/// Decides on what somebody may who has logged in.
pub(super) fn allowed(owner: Option<Identity>, may: impl FnOnce(&Identity) -> bool) -> Decision {
    match owner {
        None => Err("this client id has no login that is good; connect anew".to_owned()),
        Some(identity) if may(&identity) => Ok(()),
        Some(_) => Err("this login may not do that".to_owned()),
    }
}

/// Returns the server's own login, as it is given and, for brokers that take a virtual host off a user name, without that.
fn own_logins(mqtt: &MqttConfig) -> Vec<OneLogin> {
    let MqttConfig::External { url, .. } = mqtt else { return Vec::new() };
    let Some(login) = url.login().filter(|_| url.password.is_some()) else { return Vec::new() };
    let short = login.username.rsplit_once(':').map(|(_, name)| name.to_owned());
    let short = short.map(|username| ServerLogin { username, password: login.password.clone() });
    std::iter::once(&login).chain(&short).map(OneLogin::new).collect()
}

fn unavailable() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "logins cannot be checked at present")
        .retry_after(1)
}

/// Returns the address in a text, with a port or without.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    let ip = text.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    ip.ok().map(|ip| ip.to_canonical()).filter(|ip| *ip != IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}
