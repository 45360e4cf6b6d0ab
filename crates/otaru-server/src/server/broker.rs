//! The broker that a server uses: one of its own, or somebody else's.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::doorkeeper::Doorkeeper;
use super::error::StartError;
use crate::address;
use crate::app::Shared;
use crate::config::MqttConfig;
use crate::mqtt::EmbeddedBroker;
use crate::tls::MqttTls;
use otaru_broker::client::BrokerUrl;

/// Returns the broker as devices reach it.
pub(super) fn as_devices_reach_it(config: &MqttConfig, port: u16) -> BrokerUrl {
    match config {
        MqttConfig::External { url, .. } => {
            BrokerUrl { tls: url.tls, ..BrokerUrl::new(url.host.clone(), url.port) }
        }
        MqttConfig::Embedded { listen, .. } => {
            BrokerUrl::new(address::reachable_ip(listen.ip()).to_string(), port)
        }
    }
}

/// Starts the embedded broker, unless there is another; returns its URL for the server itself.
pub(super) async fn start(app: &Shared) -> Result<(Option<EmbeddedBroker>, BrokerUrl), StartError> {
    match &app.config.mqtt {
        MqttConfig::External { url, .. } => Ok((None, url.clone())),
        MqttConfig::Embedded { listen, room, proxies } => {
            // Where nothing but TLS is spoken, the server itself still needs a way in; its password is random.
            let listen = match app.config.speaks_plain_mqtt() {
                true => *listen,
                false => (Ipv4Addr::LOCALHOST, 0).into(),
            };
            let doorkeeper = Arc::new(Doorkeeper::new(app.clone()));
            let base = &app.config.base;
            let connections = Arc::clone(&app.connections);
            let broker = EmbeddedBroker::start(listen, *room, base, doorkeeper, connections, proxies).await;
            let broker = broker.map_err(|error| StartError::Listen {
                what: "MQTT",
                address: listen,
                option: "mqtt-listen",
                error,
            })?;
            let url = broker.url().clone();
            Ok((Some(broker), url))
        }
    }
}

/// Lets the embedded broker listen over TLS as well; returns the address.
pub(super) async fn listen_over_tls(
    app: &Shared,
    broker: &mut EmbeddedBroker,
    tls: MqttTls,
) -> Result<SocketAddr, StartError> {
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let listen = app.config.tls.as_ref().map_or(any, |tls| tls.mqtts);
    let listening = broker.listen_over_tls(listen, tls).await;
    let address = listening.map_err(|error| StartError::Listen {
        what: "MQTTS",
        address: listen,
        option: "mqtts-listen",
        error,
    })?;
    let host = address::host(&app.public_base);
    let _ = app.public_mqtts.set(format!("mqtts://{host}:{}", address.port()));
    Ok(address)
}
