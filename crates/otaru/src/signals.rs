//! The wish to stop: Ctrl-C, a termination signal, a terminal that closes, or output that
//! nobody reads.

use std::io::IsTerminal as _;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Resolves when the user or the system wants the program to end.
pub(crate) async fn stop() {
    tokio::select! {
        () = stop_but_for_hangup() => {}
        () = one(SignalKind::hangup()) => {}
    }
}

/// Resolves for any of these wishes but a terminal that closes.
pub(crate) async fn stop_but_for_hangup() {
    tokio::select! {
        () = one(SignalKind::interrupt()) => {}
        () = one(SignalKind::terminate()) => {}
        () = crate::ui::closed() => {}
    }
}

/// Signals that ask a program without a terminal to read its files again, as daemons are asked. With one, a hangup says that it closed.
pub(crate) struct Hangups(Signal);

impl Hangups {
    /// Listens for them; none where there is a terminal.
    pub(crate) fn listen() -> Option<Self> {
        let is_daemon = !std::io::stdin().is_terminal() && !std::io::stdout().is_terminal();
        signal(SignalKind::hangup()).ok().filter(|_| is_daemon).map(Self)
    }

    /// Resolves at the next one.
    pub(crate) async fn next(&mut self) {
        self.0.recv().await;
    }
}

/// Resolves at the next signal of a kind.
pub(crate) async fn one(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}
