//! The listener of a broker that asks who may do what there.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

use super::doorkeeper::Doorkeeper;
use super::error::StartError;
use super::listen::listen;
use super::tls::ServerTls;
use crate::app::Shared;
use crate::broker_auth::{BrokerAuth, CONNECTIONS};
use crate::config::{BrokerAuthConfig, MqttConfig};
use crate::http::{self, Limits, Site, Transport};

/// Listener that is bound, and what answers there.
pub(super) struct BrokerListener {
    listener: TcpListener,
    transport: Transport,
    site: Site,
    auth: BrokerAuth,
}

impl BrokerListener {
    /// Binds the address, if a broker is to ask.
    ///
    /// # Errors
    /// When it is taken, or TLS cannot be spoken there.
    pub(super) async fn open(app: &Shared, tls: Option<&ServerTls>) -> Result<Option<Self>, StartError> {
        let MqttConfig::External { auth: Some(config), .. } = &app.config.mqtt else { return Ok(None) };
        let transport = transport(config, tls)?;
        let listener = listen(config.listen, "a broker's questions", "broker-auth-listen").await?;
        let auth = BrokerAuth::new(app.clone(), config)?;
        let router = auth.router(config, Arc::new(Doorkeeper::new(app.clone())));
        let limits = Limits::for_connections(CONNECTIONS);
        let rules =
            http::Rules { limits, turned_away: app.metrics.turned_away.clone(), ..http::Rules::default() };
        Ok(Some(Self { listener, transport, site: Site::new(router, rules), auth }))
    }

    /// Returns the listening address.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Answers, and ends connections, until the server stops.
    pub(super) async fn run(self, app: Shared) {
        let Self { listener, transport, site, auth } = self;
        tokio::join!(site.serve(listener, transport, app.stop.clone()), auth.run());
    }
}

fn transport(config: &BrokerAuthConfig, tls: Option<&ServerTls>) -> Result<Transport, StartError> {
    match tls {
        _ if config.secret.is_none() && config.ca.is_none() => Err(StartError::OpenBrokerAuth),
        _ if !config.speaks_tls() => Ok(Transport::Plain),
        Some(tls) => Ok(tls.for_brokers(config.ca.as_deref())?),
        None if config.ca.is_some() => Err(StartError::BrokerCertificatesInClear),
        None => Err(StartError::BrokerAuthInClear(config.listen)),
    }
}
