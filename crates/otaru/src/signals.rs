//! The wish to stop: Ctrl-C, a termination signal, or a terminal that closes.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves when the user or the system wants the program to end.
pub(crate) async fn stop() {
    tokio::select! {
        () = one(SignalKind::interrupt()) => {}
        () = one(SignalKind::terminate()) => {}
        () = one(SignalKind::hangup()) => {}
    }
}

async fn one(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}
