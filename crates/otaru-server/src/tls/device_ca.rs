//! Authority of devices, whose file may change while the server runs: who connects from then on is held against the new one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::error::TlsError;
use super::live::LiveCertificate;
use super::seen::Seen;
use super::settings::mqtts;
use super::socket::MqttTls;

/// Interval of looking at the file.
const LOOK: Duration = Duration::from_secs(2);

/// Watcher of the authority's file.
pub struct DeviceCa {
    file: PathBuf,
    live: Arc<LiveCertificate>,
    mqtt: MqttTls,
    seen: Seen,
}

impl DeviceCa {
    /// Reads the file for the first time, if there is one, and returns what MQTTS speaks with it.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn open(
        file: Option<PathBuf>,
        live: &Arc<LiveCertificate>,
    ) -> Result<(MqttTls, Option<Self>), TlsError> {
        let seen = file.as_ref().map(|file| Seen::now(&[file]));
        let mqtt = MqttTls::new(mqtts(Arc::clone(live), file.as_deref())?);
        let watched = file.zip(seen).map(|(file, seen)| {
            let (live, mqtt) = (Arc::clone(live), mqtt.clone());
            Self { file, live, mqtt, seen }
        });
        Ok((mqtt, watched))
    }

    /// Looks at the file every few seconds, for ever.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.look();
        }
    }

    /// Takes what the file has now, if it changed and will do.
    fn look(&mut self) {
        let seen = Seen::now(&[&self.file]);
        if seen == self.seen {
            return;
        }
        self.seen = seen;
        match mqtts(Arc::clone(&self.live), Some(&self.file)) {
            Ok(settings) => {
                self.mqtt.replace(settings);
                tracing::info!("the new authority of devices is in use");
            }
            Err(error) => tracing::error!(%error, "the old authority of devices stays in use"),
        }
    }
}
