//! Rows of the table: whom a device trusts and asks, which peers it meets there, and how that must end.

use otaru_device::TlsError;
use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::certificates::{Authority, Chain};
use super::peer::{App, Peer, Server};

/// Host that is asked unless a row says otherwise.
pub const HOST: &str = "files.lan";

/// Time of a device that is told it, in seconds since 1970: in 2030.
pub const NOW: u64 = 1_900_000_000;

/// TLS libraries, as devices have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// rustls, of virtual devices.
    Rustls,
    /// Mbed TLS as compiled for a server of one's own: keys on P-256, records of 4 KiB.
    OwnServer,
    /// Mbed TLS as compiled for any server.
    AnyServer,
}

impl Library {
    /// Mbed TLS, compiled in either way.
    pub(super) const MBED_TLS: [Self; 2] = [Self::OwnServer, Self::AnyServer];
}

/// Maker of a peer with this application behind it.
pub type Maker = Box<dyn Fn(App) -> Box<dyn Peer>>;

/// End of a meeting: the device is answered, or tells an error.
pub(super) type End = Result<(), TlsError>;

/// Row of the table.
pub struct Row {
    /// Host that a device asks.
    pub host: &'static str,
    /// CAs that it trusts.
    pub trusted: Vec<CertificateDer<'static>>,
    /// Certificate that it shows.
    pub identity: Option<Chain>,
    /// Peers that it meets, each with a few words on it.
    pub peers: Vec<(String, Maker)>,
    /// Peer that nothing is wrong with.
    pub good: Maker,
    /// Programs without which its peers do nothing.
    pub programs: &'static [&'static str],
    /// Whether a peer is told something although the meeting fails: it was verified before.
    pub is_told: bool,
    /// Whether the time has to be known for it: without, a device takes what is not valid yet.
    pub needs_time: bool,
    pub(super) end: End,
    /// Libraries for which the end is another one.
    pub(super) others: Vec<(&'static [Library], End)>,
}

/// Versions that peers speak, one peer each.
const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

impl Row {
    /// Begins a row in which a device trusts this authority.
    pub(super) fn trusting(authority: &Authority) -> Self {
        Self::at(HOST, authority)
    }

    /// Begins one in which it asks this host.
    pub(super) fn at(host: &'static str, authority: &Authority) -> Self {
        let good = authority.chain(host, |_| {});
        Self::with(host, authority.der(), good)
    }

    /// Begins one with a chain that is right for the host.
    pub(super) fn with(host: &'static str, trusted: CertificateDer<'static>, good: Chain) -> Self {
        let good: Maker = Box::new(move |app| Box::new(Server::new(good.server(&VERSIONS, None), app)));
        Self {
            host,
            trusted: vec![trusted],
            identity: None,
            peers: Vec::new(),
            good,
            programs: &[],
            is_told: false,
            needs_time: false,
            end: Ok(()),
            others: Vec::new(),
        }
    }

    /// Adds a peer.
    pub(super) fn peer(
        mut self,
        words: impl Into<String>,
        peer: impl Fn(App) -> Box<dyn Peer> + 'static,
    ) -> Self {
        self.peers.push((words.into(), Box::new(peer)));
        self
    }

    /// Adds a server for each version, configured so.
    pub(super) fn servers(
        self,
        config: impl Fn(&'static SupportedProtocolVersion) -> ServerConfig + Clone + 'static,
    ) -> Self {
        VERSIONS.into_iter().fold(self, |row, version| {
            let config = config.clone();
            let words = format!("{:?}", version.version);
            row.peer(words, move |app| Box::new(Server::new(config(version), app)))
        })
    }

    /// Adds a server with this chain for each version.
    pub(super) fn chain(self, chain: Chain) -> Self {
        let chain = std::rc::Rc::new(chain);
        self.servers(move |version| chain.server(&[version], None))
    }

    /// The device must tell this.
    pub(super) fn fails(self, error: TlsError) -> Self {
        Self { end: Err(error), ..self }
    }

    /// These libraries end otherwise; the row says why.
    pub(super) fn but(mut self, libraries: &'static [Library], end: End) -> Self {
        self.others.push((libraries, end));
        self
    }

    /// The peer is verified, and told something, before anything fails.
    pub(super) fn once_told(self) -> Self {
        Self { is_told: true, ..self }
    }

    /// Returns how a meeting must end.
    pub fn end(&self, library: Library) -> End {
        let other = self.others.iter().find(|(libraries, _)| libraries.contains(&library));
        other.map_or(self.end, |(_, end)| *end)
    }
}
