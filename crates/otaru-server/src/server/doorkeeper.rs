//! Logins at the embedded broker: devices, tokens of people's tools and, while the server is tried out, this machine.

use otaru_format::topic::Topics;
use otaru_rollout::DeviceId;

use crate::access::devices;
use crate::app::Shared;
use crate::db::DbError;
use crate::mqtt::access::{Answer, Authenticator, ConnectRequest, Identity, is_private};

/// Decides who may come to the embedded broker.
pub(super) struct Doorkeeper(Shared);

impl Authenticator for Doorkeeper {
    fn identify(&self, knock: ConnectRequest) -> Answer<'_, Option<Identity>> {
        Box::pin(async move {
            let (peer, client) = (knock.peer, knock.client.clone());
            match self.who(knock).await {
                Ok(who) => who,
                Err(error) => {
                    tracing::error!(%peer, %client, %error, "a login could not be checked");
                    None
                }
            }
        })
    }
}

impl Doorkeeper {
    pub(super) fn new(app: Shared) -> Self {
        Self(app)
    }

    async fn who(&self, knock: ConnectRequest) -> Result<Option<Identity>, DbError> {
        let app = &self.0;
        let Some(password) = &knock.password else { return self.without_login(&knock).await };
        if let Ok(caller) = app.tokens.verify(password.expose()).await? {
            // A person's tool must not push a device off its connection by taking its client id.
            return Ok(match self.is_device(&knock.client).await? {
                true => None,
                false => Some(Identity::Token(caller.role)),
            });
        }
        let Some(device) = self.device(&knock.client) else { return Ok(None) };
        let named = knock.username.as_deref();
        let good = devices::verify(
            app,
            device.clone(),
            password.expose().to_owned(),
            named,
            knock.peer.ip().to_canonical(),
        )
        .await?;
        Ok(good.then(|| Identity::Device(device.to_string())))
    }

    /// Only while the server is tried out, and never for a device that has a login.
    async fn without_login(&self, knock: &ConnectRequest) -> Result<Option<Identity>, DbError> {
        let ip = knock.peer.ip().to_canonical();
        if !self.0.config.dev || !is_private(ip) {
            return Ok(None);
        }
        if let Some(device) = self.device(&knock.client) {
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
                return Ok(Some(Identity::Device(device.to_string())));
            }
        }
        Ok(ip.is_loopback().then_some(Identity::Local))
    }

    fn device(&self, client: &str) -> Option<DeviceId> {
        Topics::new(&self.0.config.base, client).ok().map(|_| DeviceId::from(client))
    }

    async fn is_device(&self, client: &str) -> Result<bool, DbError> {
        let id = client.to_owned();
        self.0
            .db
            .read(move |tx| Ok(tx.prepare_cached("SELECT 1 FROM devices WHERE id = ?")?.exists([id])?))
            .await
    }
}
