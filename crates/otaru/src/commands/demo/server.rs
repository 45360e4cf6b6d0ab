//! The demo's server: an ordinary one in the demo's folder, whose dashboard lets in whoever sits at this machine.

use std::io::Cursor;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use otaru_api::{Job, NewRollout, Rollout, Uploaded};
use otaru_broker::client::{BrokerUrl, Secret};
use otaru_device::PublicKey;
use otaru_release::keys::SecretKey;
use otaru_release::output::Existing;
use otaru_rollout::{AutoGate, Gate, Percent, Phase, Span, StopRule, Target, Wave, WaveSize};
use otaru_server::config::{Config, MqttConfig};
use otaru_server::releases::UploadLimits;
use otaru_server::server::{Server, StartError};

use super::firmware::Release;
use crate::client::http::Client;
use crate::client::login::Login;

/// Port of the dashboard, if nobody else is there.
const USUAL: u16 = 8080;

/// A server, and a login to it.
pub(super) struct DemoServer {
    server: Server,
    client: Client,
    broker: BrokerUrl,
    key: PublicKey,
}

impl DemoServer {
    /// Starts one that keeps everything in this folder, with a broker of its own or this one.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) async fn open(dir: &Path, broker: Option<BrokerUrl>, base: &str) -> anyhow::Result<Self> {
        let key = SecretKey::generate()?;
        let file = dir.join("release.pem");
        key.write(&file, Existing::Keep)?;
        let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let mut config = Config {
            data: dir.join("server"),
            database: None,
            http: (Ipv4Addr::LOCALHOST, USUAL).into(),
            tls: None,
            mqtt: match &broker {
                Some(url) => MqttConfig::External { url: url.clone(), auth: None },
                None => MqttConfig::embedded(any),
            },
            base: base.to_owned(),
            public_url: None,
            trusted_proxies: Vec::new(),
            dev: true,
            guests: true,
            signing_key: Some(file),
            trusted_keys: Vec::new(),
            device_limits: otaru_server::devices::bounds::Bounds::default(),
            upload_limits: UploadLimits::default(),
            http_limits: otaru_server::http::Limits::default(),
            metrics: None,
            artifacts: Default::default(),
            download_memory: otaru_server::artifacts::DEFAULT_MEMORY,
            home_assistant: None,
        };
        let server = match Server::start(config.clone()).await {
            Err(StartError::Listen { what: "HTTP", .. }) => {
                config.http = any;
                Server::start(config).await
            }
            started => started,
        };
        let server = server.context("cannot start the demo's server")?;
        let token = server.first_token().context("the demo's server made no token")?;
        server.token_was_shown().await?;
        let url = format!("http://{}", server.http());
        let client = Client::new(Login { server: url, token: Secret::new(token), ca: None })?;
        let broker = broker.unwrap_or_else(|| server.mqtt_url());
        let key = PublicKey::from_bytes(key.public().to_bytes());
        Ok(Self { server, client, broker, key })
    }

    /// Address of its dashboard.
    pub(super) fn dashboard(&self) -> &str {
        self.client.server()
    }

    /// The broker, with the login to use.
    pub(super) fn broker(&self) -> &BrokerUrl {
        &self.broker
    }

    /// The key with which it signs releases.
    pub(super) fn key(&self) -> PublicKey {
        self.key
    }

    /// Gives it a release, and waits until that is signed and has its patches; gives back what it says of it.
    ///
    /// # Errors
    /// When it does not take it.
    pub(super) async fn upload(&self, release: &Release) -> anyhow::Result<otaru_api::Release> {
        let query = format!("/releases?filename=lamp-{}.bin", release.version);
        let (len, body) = (release.bytes.len() as u64, Cursor::new(release.bytes.clone()));
        let made: Uploaded = self.client.upload(&query, len, move || Ok(body.clone())).await?;
        let mut release = made.release;
        while release.job.as_ref().is_some_and(Job::is_under_way) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            release = self.client.get(&format!("/releases/{}", release.id)).await?;
        }
        Ok(release)
    }

    /// Begins a rollout of a release: one device first and, when that is well, the others. Gives back its id.
    ///
    /// # Errors
    /// When it does not begin.
    pub(super) async fn roll_out(&self, release: &otaru_api::Release, name: &str) -> anyhow::Result<u64> {
        let now = Span::default();
        let gate = Gate::Auto(AutoGate { success: Percent::whole(95), soak: now, patience: now });
        let new = NewRollout {
            name: name.to_owned(),
            release: Some(release.id),
            target: Target { product: Some("lamp".into()), ..Target::default() },
            waves: vec![Wave { size: WaveSize::Devices(1), gate }],
            stop: Some(StopRule { failures: Percent::whole(10), minimum: 1 }),
            ..NewRollout::default()
        };
        Ok(self.client.post::<Rollout>("/rollouts", &new).await?.id)
    }

    /// Whether a rollout is completed.
    ///
    /// # Errors
    /// When the server does not say.
    pub(super) async fn is_completed(&self, rollout: u64) -> anyhow::Result<bool> {
        let rollout: Rollout = self.client.get(&format!("/rollouts/{rollout}")).await?;
        Ok(rollout.phase == Phase::Completed)
    }

    /// Stops it.
    pub(super) async fn close(self) {
        self.server.stop().await;
    }
}
