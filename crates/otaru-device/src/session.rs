//! Keeps the device at the broker, and carries reports out and commands in.
//!
//! It waits for the network, which `link.rs` keeps, and looks at its connection every second. Nothing here waits for the
//! worker, and the worker never waits for this: a download goes on while the broker is away, and commands arrive while
//! flash is written. What is sent and what follows from what arrives is in `talk.rs`.

use core::convert::Infallible;
use core::time::Duration;

use embassy_futures::select::{Either, Either3, select, select3};
use embedded_io_async::{Read, Write};
use otaru_format::mqtt::{Next, Outcome, Version, VersionChoice};

use crate::backoff::Pauses;
use crate::board::Clock;
use crate::dial::{Dialed, Dialer, Limits, MayBeTls, Server};
use crate::mqtt::{Buffers, Connection, Ended};
use crate::platform::Platform;
use crate::talk::{Carried, Ends, STATUS, Talk};
use crate::text;
use crate::timeout::millis;
use crate::tls::Tls as _;
use crate::uplink::CHECK;

/// The session's surroundings, and what it carries from one connection to the next.
pub(crate) struct Session<'s, P: Platform> {
    pub(crate) dialer: Dialer<'s, P::Net, P::Tls>,
    pub(crate) rng: P::Rng,
    pub(crate) ends: Ends<'s, P::Clock>,
    /// Decides which version of MQTT is spoken.
    pub(crate) versions: VersionChoice,
    /// Advice after the last attempt to connect.
    pub(crate) next: Next,
    pub(crate) carried: Carried,
}

impl<'s, P: Platform> Session<'s, P> {
    /// Runs for ever.
    pub(crate) async fn run(&mut self) -> ! {
        let Ends { clock, config, reports, uplink, .. } = self.ends;
        let mut pauses = Pauses::new(config.reconnect);
        reports.until_ready().await;
        loop {
            let join = uplink.joined().await;
            // What was connected through the network before it went is no longer worth waiting for.
            let ended = match select(self.connected(&mut pauses), uplink.lost(join)).await {
                Either::First(Err(ended)) => ended,
                Either::Second(()) => {
                    self.next = self.versions.note(Outcome::SaysNothing, clock.now());
                    Ended::Network
                }
            };
            reports.disconnected();
            let pause = match ended.is_lasting() {
                _ if self.next == Next::AtOnce => Duration::ZERO,
                true => config.reconnect.longest,
                false => pauses.pause(&mut self.rng),
            };
            text::warn(format_args!(
                "broker: {ended}; next attempt in {} ms, or when the network comes back",
                millis(pause)
            ));
            // A network that came back may have brought the broker back with it.
            if let Either::Second(()) = select(clock.sleep(pause), uplink.joined_again(join)).await {
                pauses.reset();
            }
        }
    }

    /// One connection, from connect to its end.
    async fn connected(&mut self, pauses: &mut Pauses) -> Result<Infallible, Ended> {
        let level = self.versions.begin(self.ends.clock.now());
        let mut buffers = Buffers::new();
        // Before the handshake: the time may become known during it, and certificates were looked at without.
        let dates = self.ends.config.broker_tls.then(|| self.dialer.tls.report().dates);
        let opened = self.open(level, &mut buffers).await;
        let outcome = opened.as_ref().err().map_or(Outcome::Accepted, |ended| ended.outcome());
        self.next = self.versions.note(outcome, self.ends.clock.now());
        let mut connection = opened.map_err(|ended| match ended {
            Ended::Closed if self.versions.is_silent() => Ended::TlsPort,
            ended => ended,
        })?;
        self.ends.reports.connected(level == Version::V5, dates);
        pauses.reset();
        text::info(format_args!("broker: connected as {}", self.ends.config.device));
        self.talk(&mut connection).await
    }

    async fn open<'b>(
        &self,
        level: Version,
        buffers: &'b mut Buffers,
    ) -> Result<Connection<'b, Dialed<'s, P::Net, P::Tls>, P::Clock>, Ended>
    where
        's: 'b,
    {
        let Ends { clock, config, topics, .. } = self.ends;
        let (host, port, tls) = (config.broker_host, config.broker_port, config.broker_tls);
        let server = Server { host, address: None, port, tls };
        let limits = Limits { connect: config.answer_timeout, handshake: config.http.handshake_timeout };
        let socket = self.dialer.dial(server, clock, limits).await?;
        Connection::open(level, socket, buffers, config, &topics, clock).await
    }

    async fn talk<S: Read<Error: MayBeTls> + Write>(
        &mut self,
        connection: &mut Connection<'_, S, P::Clock>,
    ) -> Result<Infallible, Ended> {
        let Ends { clock, reports, .. } = self.ends;
        let mut talk = Talk::new(&self.ends, &mut self.carried, clock.now());
        loop {
            let mut text = [0; STATUS];
            if let Some(len) = talk.next(connection, &mut text, clock.now())? {
                connection.send(text.get(..len).unwrap_or_default()).await?;
                continue;
            }
            let event = select3(connection.header(), reports.changed(), clock.sleep(CHECK)).await;
            let now = clock.now();
            if let Either3::First(header) = event {
                let hear = |topic: &str, payload: &[u8], origin| {
                    talk.hear(topic, payload, origin, &mut self.rng, now)
                };
                let incoming = connection.packet(header?, hear).await?;
                talk.take(incoming, now);
            }
            // Also while so much arrives that no second passes in peace.
            talk.check(now)?;
        }
    }
}
