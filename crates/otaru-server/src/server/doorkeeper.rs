//! Logins at a broker, the embedded one or one that asks this server: devices, tokens of people's tools and, while the server is tried out, this machine.

use std::net::IpAddr;
use std::time::Duration;

use otaru_format::topic::Topics;
use otaru_rollout::DeviceId;
use tokio::time::{Instant, timeout_at};

use crate::access::certificates::{self, ANOTHERS};
use crate::access::devices::{self, Refused};
use crate::app::Shared;
use crate::config::MqttConfig;
use crate::db::DbError;
use crate::devices::bounds::NoRoom;
use crate::mqtt::access::{Answer, Authenticator, Identity, Visitor, VouchedCertificate, is_private};
use crate::readiness::Bar;
use otaru_broker::{Channel, ConnectRequest, Reason, Refusal};

/// Time after its making until which a doorkeeper lets logins wait for the end of the server's start.
const STARTS: Duration = Duration::from_secs(5);

/// Sentence for who comes while nobody is heard.
const STARTING: &str = "the server does not hear devices yet; try again in a minute";
/// Sentence for who comes while a failure keeps it from that.
const FAILING: &str = "the server cannot hear devices; its log says why";

/// Decides who may come to the broker.
pub(super) struct Doorkeeper {
    app: Shared,
    made: Instant,
}

impl Authenticator for Doorkeeper {
    fn identify(&self, request: ConnectRequest) -> Answer<'_, Result<Visitor, Refusal>> {
        Box::pin(async move {
            self.is_open().await?;
            let (peer, client) = (request.peer.ip(), request.client.clone());
            self.who(request).await.map_err(|refused| refusal(refused, peer, &client))
        })
    }

    fn identify_vouched(&self, certificate: VouchedCertificate) -> Answer<'_, Result<Visitor, Refusal>> {
        Box::pin(async move {
            let (peer, client) = (certificate.peer, certificate.client.clone());
            self.vouched(certificate).await.map_err(|refused| refusal(refused, peer, &client))
        })
    }
}

fn refusal(refused: Refused, peer: IpAddr, client: &str) -> Refusal {
    match refused {
        Refused::BadLogin => Reason::BadUserNameOrPassword.into(),
        Refused::Certificate(why) => {
            Refusal { reason: Reason::BadUserNameOrPassword, text: Some(why.to_owned()) }
        }
        // It stays so.
        Refused::NoRoom { why: why @ NoRoom::Name, .. } => {
            Refusal { reason: Reason::ClientIdentifierNotValid, text: Some(why.for_devices().to_owned()) }
        }
        // The login is good: nobody is to look for a mistake in it. 3.1.1 is told "unavailable", since it may be good later.
        Refused::NoRoom { why, .. } => {
            Refusal { reason: Reason::QuotaExceeded, text: Some(why.for_devices().to_owned()) }
        }
        Refused::Unknown(error) => {
            if !error.is_outage() {
                tracing::error!(%peer, %client, %error, "a login could not be checked");
            }
            Reason::ServerUnavailable.into()
        }
    }
}

impl Doorkeeper {
    pub(super) fn new(app: Shared) -> Self {
        Self { app, made: Instant::now() }
    }

    /// Waits for the end of a start, in which nobody hears what is said to the embedded broker; a long one is not waited for.
    async fn is_open(&self) -> Result<(), Refusal> {
        let is_ours = matches!(self.app.config.mqtt, MqttConfig::Embedded { .. });
        let mut swept = self.app.swept.subscribe();
        if is_ours && timeout_at(self.made + STARTS, swept.wait_for(|is| *is)).await.is_err() {
            let text = if self.app.readiness.is_barred(Bar::Sweep) { FAILING } else { STARTING };
            return Err(Refusal { reason: Reason::ServerUnavailable, text: Some(text.to_owned()) });
        }
        Ok(())
    }

    async fn who(&self, request: ConnectRequest) -> Result<Visitor, Refused> {
        let app = &self.app;
        if let Channel::Tls { certificate: Some(certificate) } = &request.channel {
            let device = self.device(&request.client).ok_or(Refused::Certificate(ANOTHERS))?;
            let from = request.peer.ip().to_canonical();
            certificates::verify(app, device.clone(), certificate, from).await?;
            let identity = Identity::Device(device.to_string());
            return Ok(Visitor { identity, is_registered: true, fleet_key: None });
        }
        let Some(password) = &request.password else {
            return self.without_login(&request).await?.ok_or(Refused::BadLogin);
        };
        let password = String::from_utf8_lossy(password.expose()).into_owned();
        if let Ok(caller) = app.tokens.verify(&password).await? {
            return Ok(Identity::Token { id: caller.token, role: caller.role }.into());
        }
        let device = self.device(&request.client).ok_or(Refused::BadLogin)?;
        let named = request.username.as_deref();
        let from = request.peer.ip().to_canonical();
        let login = devices::verify(app, device.clone(), password, named, from).await?;
        let identity = Identity::Device(device.to_string());
        Ok(Visitor { identity, is_registered: true, fleet_key: login.fleet_key })
    }

    async fn vouched(&self, certificate: VouchedCertificate) -> Result<Visitor, Refused> {
        let VouchedCertificate { client, common_name, serial, peer } = certificate;
        let device = self.device(&client).filter(|_| client == common_name);
        let device = device.ok_or(Refused::Certificate(ANOTHERS))?;
        certificates::admit(&self.app, device, serial, peer).await?;
        Ok(Visitor { identity: Identity::Device(client), is_registered: true, fleet_key: None })
    }

    /// Only while the server is tried out, and never for a device that has a login.
    async fn without_login(&self, request: &ConnectRequest) -> Result<Option<Visitor>, DbError> {
        let nearness = Nearness::of(request.peer.ip(), request.proxy.map(|proxy| proxy.ip()));
        if !self.app.config.dev || nearness == Nearness::Far {
            return Ok(None);
        }
        if let Some(device) = self.device(&request.client) {
            let sql = "SELECT EXISTS (SELECT 1 FROM devices WHERE id = ?
                         AND (secret IS NOT NULL OR fleet_key IS NOT NULL OR retired_at IS NOT NULL))";
            let id = device.to_string();
            let barred = self.app.db.read(move |tx| tx.prepare(sql).query_row([id], |row| row.get(0)));
            if barred.await? {
                return Ok(None);
            }
            if nearness == Nearness::Near {
                return Ok(Some(Identity::Device(device.to_string()).into()));
            }
        }
        Ok((nearness == Nearness::Here).then(|| Identity::Local(request.client.clone()).into()))
    }

    fn device(&self, client: &str) -> Option<DeviceId> {
        Topics::new(&self.app.config.base, client).ok().map(|_| DeviceId::from(client))
    }
}

/// Place that a client without a login comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nearness {
    /// This machine.
    Here,
    /// A network of its own, or this machine by way of a proxy on it.
    Near,
    /// Any other.
    Far,
}

impl Nearness {
    /// Judges by the address of a client, and by that of the proxy that named it: what a header says makes nobody of this machine, and
    /// "loopback" is the other machine where the proxy is on another.
    fn of(peer: IpAddr, proxy: Option<IpAddr>) -> Self {
        let is_loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
        match proxy {
            None if is_loopback(peer) => Self::Here,
            Some(proxy) if is_loopback(peer) && !is_loopback(proxy) => Self::Far,
            _ if is_private(peer) => Self::Near,
            _ => Self::Far,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_makes_nobody_of_this_machine() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (peer, proxy, wanted) in [
            ("127.0.0.1", None, Nearness::Here),
            ("::1", None, Nearness::Here),
            ("::ffff:127.0.0.1", None, Nearness::Here),
            ("10.1.2.3", None, Nearness::Near),
            ("192.0.2.1", None, Nearness::Far),
            ("127.0.0.1", Some("127.0.0.1"), Nearness::Near),
            ("127.0.0.1", Some("10.0.0.9"), Nearness::Far),
            ("::1", Some("10.0.0.9"), Nearness::Far),
            ("::ffff:127.0.0.1", Some("::ffff:10.0.0.9"), Nearness::Far),
            ("10.1.2.3", Some("10.0.0.9"), Nearness::Near),
            ("192.0.2.1", Some("127.0.0.1"), Nearness::Far),
        ] {
            assert_eq!(Nearness::of(ip(peer), proxy.map(ip)), wanted, "{peer} by {proxy:?}");
        }
    }
}
