//! The arguments of `otaru push`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use otaru_format::digest::Digest;

use crate::options::{self, BrokerArgs};

const EXAMPLES: &str = "\
Examples:
  otaru push target/lamp.bin                       to every device that is online
  otaru push --device kitchen --device porch target/lamp.bin
  otaru push --watch http://nas:8080/lamp.bin      a file that a server has already
  otaru push --retain --device attic http://nas:8080/lamp.bin
                                                   attic hears of it when it wakes

A FILE is an image or a release. It is checked, served over HTTP from this machine while devices fetch it, and offered with its
SHA-256; the command ends when every device has. Exit code 0 means that all of them run it, confirmed.
Ctrl-C, or the end of --timeout, cancels what has not restarted yet, as a FILE is then served no longer; a URL's
updates go on, and `otaru cancel` ends them.";

/// Update devices
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) broker: BrokerArgs,
    /// Only this device; may be given several times. Otherwise all that are online
    #[arg(long, short, value_name = "NAME")]
    pub(super) device: Vec<String>,
    /// Wait until every device is done; a FILE implies it
    #[arg(long)]
    pub(super) watch: bool,
    /// Take it even if it failed before or is another project's; devices that take signed releases only refuse
    /// this: sign the image again with `otaru resign --sequence`
    #[arg(long)]
    pub(super) force: bool,
    /// The name of this push in reports; made up if not given
    #[arg(long, value_name = "ID")]
    pub(super) deployment: Option<String>,
    /// Let the broker keep the command for devices that come later; without --device, for every device whenever it
    /// connects. An empty retained message takes it away: `mosquitto_pub -r -n -t TOPIC`
    #[arg(long)]
    pub(super) retain: bool,
    /// The SHA-256 the image must have; a FILE's is known
    #[arg(long, value_name = "SHA256")]
    pub(super) image: Option<Digest>,
    /// Give up after this span, or so many seconds
    #[arg(long, value_name = "SPAN", default_value = "15m", value_parser = options::timeout)]
    pub(super) timeout: Duration,
    /// Address to serve FILE at; this machine's address towards the broker and a free port, if not given
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) listen: Option<SocketAddr>,
    /// This machine as devices reach it, where that differs: behind NAT, in a container
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(super) advertise: Option<String>,
    /// Put FILE into this folder of a web server instead of serving it
    #[arg(long, value_name = "DIR", requires = "host_url")]
    pub(super) host_dir: Option<PathBuf>,
    /// The URL of --host-dir
    #[arg(long, value_name = "URL", requires = "host_dir")]
    pub(super) host_url: Option<String>,
    /// http:// or https:// URL, or file
    #[arg(value_name = "URL|FILE")]
    pub(super) firmware: String,
}
