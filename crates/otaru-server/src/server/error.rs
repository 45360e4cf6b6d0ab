//! Errors of a start.

use std::io;
use std::net::SocketAddr;

use crate::access::tokens::NewTokenError;
use crate::artifacts::ArtifactError;
use crate::data_dir::DataDirError;
use crate::db::DbError;
use crate::tls::TlsError;
use otaru_broker::client::BrokerError;
use otaru_tls::TrustError;

/// Reasons for which a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The folder cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The database cannot be used.
    #[error("cannot open the database: {0}")]
    Database(#[from] DbError),
    /// Another server of the same database has devices at another broker.
    #[error(
        "the server at {name} shares this database and has another broker ({theirs}; here it is {ours}), so devices would hear one of them only; give all servers the same --mqtt, or stop that one"
    )]
    OtherBroker {
        /// Address of the other server.
        name: String,
        /// Its broker.
        theirs: String,
        /// The broker of this one.
        ours: String,
    },
    /// Another server of the same database has its firmware elsewhere.
    #[error(
        "the server at {name} shares this database and has its firmware elsewhere (in {theirs}; here it is {ours}); give all servers the same --artifacts, a bucket or a folder that they share"
    )]
    OtherFirmware {
        /// Address of the other server.
        name: String,
        /// Place of its firmware.
        theirs: String,
        /// Place of the firmware of this one.
        ours: String,
    },
    /// Another server of the same database signs with another key, or with none.
    #[error(
        "the server at {name} shares this database and signs releases with another key, or one of the two with none: whoever makes a file would decide whether devices take it; give all servers the same --signing-key"
    )]
    OtherKey {
        /// Address of the other server.
        name: String,
    },
    /// Several servers of one name cannot all prove that it is theirs.
    #[error(
        "other servers share this database: a directory's question (--acme) reaches any of them; let what stands in front of them speak TLS, or give each its files (--tls-cert, --tls-key)"
    )]
    AcmeBesideOthers,
    /// The system has no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// The artifacts cannot be used.
    #[error("cannot open the firmware store: {0}")]
    Artifacts(#[from] ArtifactError),
    /// The firmware is elsewhere.
    #[error(
        "the firmware of this database is at {was}, and {now} does not have it; give --artifacts as before, or copy the files first: \
         their names are the same in a folder and in a bucket"
    )]
    ArtifactsElsewhere {
        /// The store of the last start.
        was: String,
        /// The store of this one.
        now: String,
    },
    /// The first token cannot be made.
    #[error("the first token was not made: {0}")]
    FirstToken(#[from] NewTokenError),
    /// A key cannot be read.
    #[error(transparent)]
    Key(#[from] otaru_release::keys::KeyError),
    /// TLS cannot be spoken.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address cannot be listened at.
    #[error(
        "cannot listen at {address} for {what}: {error}; {} --{option} takes another address",
        question(error)
    )]
    Listen {
        /// For what.
        what: &'static str,
        /// Listening address.
        address: SocketAddr,
        /// The option that changes it.
        option: &'static str,
        /// The system's reason.
        error: io::Error,
    },
    /// Anybody could ask as a broker.
    #[error(
        "--broker-auth-listen answers brokers only: give --broker-auth-secret-file, or --broker-auth-ca, whose certificates they show"
    )]
    OpenBrokerAuth,
    /// Passwords would come in clear.
    #[error(
        "--broker-auth-listen {0} is not on this machine, and passwords of devices come there: speak TLS (--tls-cert with --tls-key, \
         --acme, or --tls-dev), or listen at 127.0.0.1"
    )]
    BrokerAuthInClear(SocketAddr),
    /// Certificates are demanded where no TLS is spoken.
    #[error(
        "--broker-auth-ca needs TLS of the server's own: --tls-cert with --tls-key, --acme, or --tls-dev"
    )]
    BrokerCertificatesInClear,
    /// The broker's management cannot be trusted.
    #[error("--broker-management: {0}")]
    BrokerManagement(#[from] TrustError),
    /// The broker cannot be used. A broker that is away is waited for; this one will not do.
    #[error("{0}")]
    Broker(#[from] BrokerError),
}

/// Asks what may be the matter with an address.
fn question(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 are for root, and for those with CAP_NET_BIND_SERVICE;"
        }
        _ => "is another server running?",
    }
}
