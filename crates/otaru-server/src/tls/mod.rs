//! TLS on the server's side: certificates from files, their reload, and handshakes that are bounded in time and bytes.
//!
//! | file | what |
//! | --- | --- |
//! | `pair` | a certificate with its key, read from files and held against each other |
//! | `device` | certificates of devices, and the authority that signs them |
//! | `device_ca` | the authority of devices, whose file may change |
//! | `facts` | names, serial number and days of a certificate |
//! | `known` | CAs that the server knows by name |
//! | `live` | the certificate in use, which may be replaced while connections go on |
//! | `reload` | files that change |
//! | `seen` | how they are seen to have changed |
//! | `acme` | certificates from a directory on the Internet |
//! | `own` | an authority of the server's own, for whoever has no certificate |
//! | `settings` | versions, records, tickets: what each listener speaks |
//! | `opening` | first bytes of a connection: counted, and told from plain ones |
//! | `acceptor` | handshakes of HTTPS |
//! | `socket` | streams of MQTTS, whose handshake is done by the first who reads |
//! | `failure` | handshakes that fail, in words |
//! | `told` | a bounded rate of log lines about them |

mod acceptor;
pub mod acme;
pub mod device;
mod device_ca;
mod error;
mod facts;
mod failure;
mod known;
mod live;
mod opening;
pub mod own;
mod pair;
pub mod reload;
mod seen;
mod settings;
mod socket;
mod told;

pub use acceptor::{Accepted, Acceptor};
pub use device_ca::DeviceCa;
pub use error::TlsError;
pub use facts::{Facts, FactsError};
pub use known::{KnownCa, KnownCas};
pub use live::LiveCertificate;
pub use opening::PlainOnly;
pub use pair::{Pair, PairFiles};
pub use settings::{for_brokers, https};
pub use socket::{MqttTls, TlsSocket};
pub use told::Told;
