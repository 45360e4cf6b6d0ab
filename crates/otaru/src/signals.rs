//! The wish to stop: Ctrl-C or a termination signal.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves when the user or the system wants the program to end.
pub(crate) async fn stop() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => {
            if interrupted.is_err() {
                std::future::pending().await
            }
        }
        () = terminated => {}
    }
}
