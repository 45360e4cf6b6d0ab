//! The wish to stop: Ctrl-C, a termination signal, a terminal that closes, or output that
//! nobody reads.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves when the user or the system wants the program to end.
pub(crate) async fn stop() {
    tokio::select! {
        () = one(SignalKind::interrupt()) => {}
        () = one(SignalKind::terminate()) => {}
        () = one(SignalKind::hangup()) => {}
        () = crate::ui::closed() => {}
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
