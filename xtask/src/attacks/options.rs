//! Options of `bench attacks`: the attacks, and the ways to the server.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Options of `bench attacks`.
#[derive(Args)]
pub(crate) struct Options {
    /// Attack in this way only; may be given several times
    #[arg(long, value_enum)]
    pub(super) attack: Vec<Attack>,
    /// On this way only
    #[arg(long, value_enum)]
    pub(super) way: Option<Route>,
    /// Seconds of each of an attack's two rounds
    #[arg(long, default_value_t = 40)]
    pub(super) seconds: u64,
    /// Seconds for which the server is measured before, with nobody attacking
    #[arg(long, default_value_t = 20)]
    pub(super) idle: u64,
    /// Seconds after the second round until the memory is looked at
    #[arg(long, default_value_t = 60)]
    pub(super) rest: u64,
    /// Attack this program, instead of building it
    #[arg(long, value_name = "OTARU")]
    pub(super) program: Option<PathBuf>,
    /// Connections that attack; each takes a file descriptor here, and one in the server
    #[arg(long, default_value_t = 5_000)]
    pub(super) connections: usize,
}

/// Kind of attack on a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Attack {
    /// Connections from one address that ask for 20 large files each and read nothing
    SilentReaders,
    /// The same from many addresses, as many as the server takes and more
    ManySilentReaders,
    /// Connections from many addresses that send half of a request's head
    HalfHeads,
    /// Connections from many addresses that ask once and stay
    Idlers,
    /// A device that sends reports of 15 KB over MQTT without pause
    LongReports,
    /// A device that sends reports over MQTT without pause
    Reports,
    /// A device that sends reports over HTTP without pause, long ones among them
    HttpReports,
    /// Connections to the broker, from many addresses, that say nothing
    SilentClients,
    /// Connections to the broker, from many addresses, that send half of a CONNECT
    HalfConnects,
    /// A viewer's token that makes sessions for everything without end, and messages for them
    ViewerSessions,
    /// A fleet key that registers devices which there are not, and keeps as much as it may for each
    InventedDevices,
    /// Somebody who comes with the client id of a device, of an operator, and of a device that is not there yet
    TakenIds,
}

impl Attack {
    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    pub(super) fn is_over_mqtt(self) -> bool {
        self.has_login() || matches!(self, Self::LongReports | Self::Reports) || self.is_of_strangers()
    }

    /// Whether it is one of a device that reports.
    pub(super) fn is_by_reports(self) -> bool {
        matches!(self, Self::LongReports | Self::Reports | Self::HttpReports)
    }

    /// Whether whoever attacks has a login at the broker, and reports nothing.
    pub(super) fn has_login(self) -> bool {
        matches!(self, Self::ViewerSessions | Self::InventedDevices | Self::TakenIds)
    }

    /// Whether it is one of connections to the broker that never log in.
    pub(super) fn is_of_strangers(self) -> bool {
        matches!(self, Self::SilentClients | Self::HalfConnects)
    }
}

/// Way of requests to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Route {
    /// Right away
    Plain,
    /// Through nginx with the sample configuration
    Nginx,
}
