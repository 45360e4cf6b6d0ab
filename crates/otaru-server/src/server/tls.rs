//! TLS of a server: its certificate, and what its listeners speak.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::error::StartError;
use super::listen::listen;
use crate::address;
use crate::app::Shared;
use crate::clock::Clock;
use crate::config::{CertificateSource, Config, TlsConfig};
use crate::data_dir::DataDir;
use crate::http::Transport;
use crate::tls::acme::{AcmeRenewal, Challenges};
use crate::tls::own::{Names, OwnAuthority};
use crate::tls::reload::Reload;
use crate::tls::{self, Acceptor, DeviceCa, LiveCertificate, MqttTls, PairFiles, TlsError};

/// Interval of looking whether the machine has other addresses.
const ADDRESSES: Duration = Duration::from_secs(60);

/// Bell that has the files of the certificate looked at now.
pub(super) type LookNow = Arc<Notify>;

/// TLS of a server that starts.
pub(super) struct ServerTls {
    https: TcpListener,
    reload: Reload,
    live: Arc<LiveCertificate>,
    transport: Transport,
    mqtt: MqttTls,
    renewal: CertificateRenewal,
    device_ca: Option<DeviceCa>,
}

impl ServerTls {
    /// Reads the certificate, or makes it, and binds the address of HTTPS.
    pub(super) async fn open(
        config: &Config,
        tls: &TlsConfig,
        data: &DataDir,
        clock: &Clock,
    ) -> Result<Self, StartError> {
        let renewal = CertificateRenewal::open(config, tls, data, clock)?;
        let reload = match &renewal {
            CertificateRenewal::Operator(files) => Reload::open(files.clone())?,
            CertificateRenewal::Own(own) => Reload::open(own.authority.files())?,
            CertificateRenewal::Acme(acme) => Reload::wait_for(acme.files()),
        };
        let live = reload.live();
        let acceptor = Acceptor::new(tls::https(Arc::clone(&live), renewal.challenges())?);
        let (mqtt, device_ca) = DeviceCa::open(tls.device_ca.clone(), &live)?;
        let https = listen(tls.https, "HTTPS", "https").await?;
        let transport = Transport::Tls(Arc::new(acceptor));
        Ok(Self { https, reload, live, transport, mqtt, renewal, device_ca })
    }

    /// Returns the certificate in use.
    pub(super) fn live(&self) -> Arc<LiveCertificate> {
        Arc::clone(&self.live)
    }

    /// Returns the listening address of HTTPS.
    pub(super) fn address(&self, tls: &TlsConfig) -> SocketAddr {
        self.https.local_addr().unwrap_or(tls.https)
    }

    /// Returns what an MQTT listener is to speak.
    pub(super) fn mqtt(&self) -> MqttTls {
        self.mqtt.clone()
    }

    /// Returns what a listener for brokers is to speak, which show certificates of the authority in this file, if one is named.
    pub(super) fn for_brokers(&self, ca: Option<&Path>) -> Result<Transport, TlsError> {
        let settings = tls::for_brokers(self.live(), ca)?;
        Ok(Transport::Tls(Arc::new(Acceptor::new(settings))))
    }

    /// Returns the authority of the server's own, if there is one.
    pub(super) fn authority(&self) -> Option<OwnAuthority> {
        match &self.renewal {
            CertificateRenewal::Own(own) => Some(own.authority.clone()),
            CertificateRenewal::Operator(_) | CertificateRenewal::Acme(_) => None,
        }
    }

    /// Warns where the certificate does not have the name under which others are sent here.
    pub(super) fn check_name(&self, public_base: &str) {
        let host = address::host(public_base);
        if public_base.starts_with("https://") && self.live.facts().is_some_and(|facts| !facts.is_for(host)) {
            tracing::warn!(
                host,
                "the TLS certificate does not have this name, so clients refuse it there; say with --public-url which name \
                 others use"
            );
        }
    }

    /// Returns the listener, what it speaks, and what keeps the certificate fresh until the server ends.
    pub(super) fn into_parts(
        self,
        app: &Shared,
        look_now: LookNow,
    ) -> (TcpListener, Transport, impl Future<Output = ()> + Send + 'static) {
        let Self { https, reload, live, transport, renewal, device_ca, .. } = self;
        let app = Arc::clone(app);
        let fresh = async move {
            let source = app.config.tls.as_ref().map_or("files", |tls| tls.certificate.name());
            let ends = |ends| app.metrics.certificate_ends(source, ends);
            let reloading = reload.run(Arc::clone(&look_now), app.clock.clone(), ends, app.stop.clone());
            let authority = async {
                match device_ca {
                    Some(device_ca) => device_ca.run(|count| app.metrics.device_authorities(count)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = reloading => {}
                () = renewal.run(&live, &look_now) => {}
                () = authority => {}
            }
        };
        (https, transport, fresh)
    }
}

/// Renewal of the certificate.
enum CertificateRenewal {
    /// By whoever writes these files.
    Operator(PairFiles),
    /// By an authority of the server's own.
    Own(OwnRenewal),
    /// By a directory.
    Acme(Box<AcmeRenewal>),
}

impl CertificateRenewal {
    fn open(config: &Config, tls: &TlsConfig, data: &DataDir, clock: &Clock) -> Result<Self, TlsError> {
        match &tls.certificate {
            CertificateSource::Files(files) => Ok(Self::Operator(files.clone())),
            CertificateSource::Own => OwnRenewal::open(config, data, clock).map(Self::Own),
            CertificateSource::Acme(acme) => {
                let acme = AcmeRenewal::open(acme.clone(), &data.tls(), clock.clone())?;
                Ok(Self::Acme(Box::new(acme)))
            }
        }
    }

    /// Returns the challenges that the HTTPS listener is to answer.
    fn challenges(&self) -> Option<Arc<Challenges>> {
        match self {
            Self::Acme(acme) => Some(acme.challenges()),
            Self::Operator(_) | Self::Own(_) => None,
        }
    }

    /// Keeps the certificate good, for ever.
    async fn run(self, live: &LiveCertificate, look_now: &Notify) {
        match self {
            Self::Operator(_) => std::future::pending().await,
            Self::Own(own) => own.run(look_now).await,
            Self::Acme(acme) => acme.run(live, look_now).await,
        }
    }
}

/// Renewal of a certificate by the server's own authority.
struct OwnRenewal {
    authority: OwnAuthority,
    public_host: Option<String>,
    clock: Clock,
}

impl OwnRenewal {
    fn open(config: &Config, data: &DataDir, clock: &Clock) -> Result<Self, TlsError> {
        let authority = OwnAuthority::open(&data.tls(), clock.now())?;
        let public_host = config.public_url.as_deref().map(|url| address::host(url).to_owned());
        let own = Self { authority, public_host, clock: clock.clone() };
        own.renew()?;
        Ok(own)
    }

    fn renew(&self) -> Result<bool, TlsError> {
        let names = Names::of_this_machine(self.public_host.as_deref());
        self.authority.renew(&names, self.clock.now())
    }

    /// Looks for other addresses, and at the time that is left, for ever.
    async fn run(self, look_now: &Notify) {
        let mut failed = false;
        loop {
            tokio::time::sleep(ADDRESSES).await;
            match self.renew() {
                Ok(true) => look_now.notify_one(),
                Ok(false) => {}
                Err(error) if !failed => {
                    failed = true;
                    tracing::error!(%error, "the TLS certificate could not be made anew");
                }
                Err(_) => {}
            }
        }
    }
}
