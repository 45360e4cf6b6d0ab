//! Logins at the embedded broker: devices, tokens of people's tools and, while the server is tried out, this machine.

use otaru_format::topic::Topics;
use otaru_rollout::DeviceId;

use crate::access::devices;
use crate::app::Shared;
use crate::db::DbError;
use crate::mqtt::access::{Answer, Authenticator, Identity, Visitor, is_private};
use otaru_broker::{ConnectRequest, Reason};

/// Decides who may come to the embedded broker.
pub(super) struct Doorkeeper(Shared);

impl Authenticator for Doorkeeper {
    fn identify(&self, request: ConnectRequest) -> Answer<'_, Result<Visitor, Reason>> {
        Box::pin(async move {
            let (peer, client) = (request.peer, request.client.clone());
            match self.who(request).await {
                Ok(who) => who.ok_or(Reason::BadUserNameOrPassword),
                Err(error) => {
                    tracing::error!(%peer, %client, %error, "a login could not be checked");
                    Err(Reason::ServerUnavailable)
                }
            }
        })
    }
}

impl Doorkeeper {
    pub(super) fn new(app: Shared) -> Self {
        Self(app)
    }

    async fn who(&self, request: ConnectRequest) -> Result<Option<Visitor>, DbError> {
        let app = &self.0;
        let Some(password) = &request.password else { return self.without_login(&request).await };
        let password = String::from_utf8_lossy(password.expose()).into_owned();
        if let Ok(caller) = app.tokens.verify(&password).await? {
            return Ok(Some(Identity::Token { id: caller.token, role: caller.role }.into()));
        }
        let Some(device) = self.device(&request.client) else { return Ok(None) };
        let named = request.username.as_deref();
        let from = request.peer.ip().to_canonical();
        let login = devices::verify(app, device.clone(), password, named, from).await?;
        Ok(login.map(|login| Visitor {
            identity: Identity::Device(device.to_string()),
            fleet_key: login.fleet_key,
        }))
    }

    /// Only while the server is tried out, and never for a device that has a login.
    async fn without_login(&self, request: &ConnectRequest) -> Result<Option<Visitor>, DbError> {
        let ip = request.peer.ip().to_canonical();
        if !self.0.config.dev || !is_private(ip) {
            return Ok(None);
        }
        if let Some(device) = self.device(&request.client) {
            let sql = "SELECT EXISTS (SELECT 1 FROM devices WHERE id = ?
                         AND (secret IS NOT NULL OR fleet_key IS NOT NULL OR retired_at IS NOT NULL))";
            let id = device.to_string();
            let barred = self.0.db.read(move |tx| {
                Ok::<bool, DbError>(tx.prepare_cached(sql)?.query_row([id], |row| row.get(0))?)
            });
            if barred.await? {
                return Ok(None);
            }
            if !ip.is_loopback() {
                return Ok(Some(Identity::Device(device.to_string()).into()));
            }
        }
        Ok(ip.is_loopback().then(|| Identity::Local(request.client.clone()).into()))
    }

    fn device(&self, client: &str) -> Option<DeviceId> {
        Topics::new(&self.0.config.base, client).ok().map(|_| DeviceId::from(client))
    }
}
