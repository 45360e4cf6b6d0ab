//! A load balancer before the servers of a cluster: it asks each whether it is ready, and gives work to those that are, in turn.

use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Interval of asking.
const ASKS: Duration = Duration::from_millis(200);

/// Servers, and which of them are ready.
pub(super) struct Balancer {
    servers: Vec<(u16, AtomicBool)>,
    turn: AtomicUsize,
}

impl Balancer {
    /// Asks servers at these ports for as long as somebody has it.
    pub(super) fn start(ports: Vec<u16>) -> Arc<Self> {
        let servers = ports.into_iter().map(|port| (port, AtomicBool::new(true))).collect();
        let balancer = Arc::new(Self { servers, turn: AtomicUsize::new(0) });
        for number in 0..balancer.servers.len() {
            let balancer = Arc::downgrade(&balancer);
            std::thread::spawn(move || ask(&balancer, number));
        }
        balancer
    }

    /// Whether the server at a port was ready when it was asked last.
    pub(super) fn is_ready(&self, port: u16) -> bool {
        self.servers.iter().any(|(of, ready)| *of == port && ready.load(Ordering::Relaxed))
    }

    /// Returns the port of a server, of one that is ready if there is any, and not of the one at which a request failed.
    pub(super) fn choose(&self, failed: Option<u16>) -> u16 {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let others: Vec<_> = self.servers.iter().filter(|(port, _)| Some(*port) != failed).collect();
        let ready: Vec<_> = others.iter().filter(|(_, ready)| ready.load(Ordering::Relaxed)).collect();
        match ready.len() {
            0 => others[turn % others.len()].0,
            many => ready[turn % many].0,
        }
    }

    /// Connects to a server, to the next where that is refused.
    pub(super) fn connect(&self) -> Option<TcpStream> {
        let first = self.choose(None);
        let connect = |port: u16| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok();
        connect(first).or_else(|| connect(self.choose(Some(first))))
    }
}

/// Asks a server until nobody has the balancer any more.
fn ask(balancer: &Weak<Balancer>, number: usize) {
    let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(2))).build();
    let agent = ureq::Agent::new_with_config(config);
    while let Some(balancer) = balancer.upgrade() {
        let (port, ready) = &balancer.servers[number];
        ready.store(agent.get(format!("http://127.0.0.1:{port}/readyz")).call().is_ok(), Ordering::Relaxed);
        drop(balancer);
        std::thread::sleep(ASKS);
    }
}
