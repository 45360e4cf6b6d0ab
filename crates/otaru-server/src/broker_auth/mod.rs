//! Answers to a broker of somebody else's that asks who may connect, publish and subscribe. The rules are those of the embedded broker.
//!
//! | file | what |
//! | --- | --- |
//! | `gate` | the broker itself: its secret, its pace, and the bounds of its requests |
//! | `json` | questions and answers in JSON |
//! | `rabbitmq` | those of RabbitMQ's plug-in for HTTP |
//! | `mosquitto`, `vernemq` | those of mosquitto-go-auth and of VerneMQ's webhooks |
//! | `decide` | decisions on logins, and on whose a client id is |
//! | `logins` | client ids that have logged in |
//! | `ended` | credentials that end: client ids that may go on no more |
//! | `ending` | connections that are to be ended, each tried so many times |
//! | `management` | RabbitMQ's management API, by which connections are ended |

mod decide;
mod ended;
mod ending;
mod gate;
mod json;
mod logins;
mod management;
mod mosquitto;
mod rabbitmq;
mod vernemq;

use std::sync::Arc;

use axum::Router;
use axum::routing::post;

use crate::app::Shared;
use crate::config::{BrokerAuthConfig, MqttConfig};
use crate::mqtt::access::Authenticator;
use crate::problem::Problem;

use self::decide::Decisions;
use self::ended::OutsideBroker;
use self::ending::Endings;
use self::gate::Gate;
use self::logins::Logins;
use self::management::Management;

pub(crate) use self::gate::CONNECTIONS;

/// Answers for a broker, and the end of connections there.
pub(crate) struct BrokerAuth {
    app: Shared,
    logins: Arc<Logins>,
    endings: Option<Arc<Endings>>,
}

impl BrokerAuth {
    /// Begins to know who is at that broker. From now on credentials that end are followed there.
    ///
    /// # Errors
    /// When TLS towards its management cannot be set up.
    pub(crate) fn new(app: Shared, config: &BrokerAuthConfig) -> Result<Self, otaru_tls::TrustError> {
        let logins = Arc::new(Logins::default());
        let endings = match &config.management {
            Some(management) => {
                let own = own_username(&app.config.mqtt).map(|(_, name)| name);
                Some(Arc::new(Endings::new(Management::new(management, own)?, Arc::clone(&logins))))
            }
            None => None,
        };
        app.connections.attend(OutsideBroker::new(Arc::clone(&logins), endings.clone()));
        Ok(Self { app, logins, endings })
    }

    /// Returns the routes, for the listener of their own.
    pub(crate) fn router(&self, config: &BrokerAuthConfig, authenticator: Arc<dyn Authenticator>) -> Router {
        let decisions = Decisions::new(self.app.clone(), authenticator, Arc::clone(&self.logins));
        let host = own_username(&self.app.config.mqtt).and_then(|(host, _)| host);
        let rabbitmq = rabbitmq::router(host.unwrap_or_else(|| rabbitmq::USUAL_HOST.to_owned()));
        let routes = Router::new()
            .route("/connect", post(json::connect))
            .route("/publish", post(json::publish))
            .route("/subscribe", post(json::subscribe))
            .nest("/rabbitmq", rabbitmq)
            .nest("/mosquitto", mosquitto::router())
            .nest("/vernemq", vernemq::router())
            .with_state(Arc::new(decisions));
        let gate = Gate::new(self.app.clone(), config.secret.as_ref());
        gate.around(
            Router::new().nest("/v1/broker", routes).fallback(async || Problem::not_found("such question")),
        )
    }

    /// Ends connections of credentials that have ended, until the server stops.
    pub(crate) async fn run(self) {
        match &self.endings {
            Some(endings) => tokio::select! {
                () = self.app.stop.cancelled() => {}
                () = endings.run() => {}
            },
            None => self.app.stop.cancelled().await,
        }
    }
}

/// Returns the server's own user name at its broker, as RabbitMQ reads it: a virtual host before the last colon, and the name.
fn own_username(mqtt: &MqttConfig) -> Option<(Option<String>, String)> {
    let MqttConfig::External { url, .. } = mqtt else { return None };
    let name = url.username.as_deref()?;
    Some(match name.rsplit_once(':') {
        Some((host, name)) => (Some(host.to_owned()), name.to_owned()),
        None => (None, name.to_owned()),
    })
}
