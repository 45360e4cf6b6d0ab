//! Ends of credentials that nobody ends: the connections of a token or a certificate that has expired are ended here.

use std::time::Duration;

use crate::app::Shared;

/// Interval of looking; mostly at what is in memory.
const INTERVAL: Duration = Duration::from_millis(500);

/// Ends connections of tokens and certificates that are no longer good, until the server ends.
pub(super) async fn run(app: Shared) {
    loop {
        tokio::select! {
            () = app.stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        app.connections.end_devices(app.certificate_ends.due(app.clock.now()));
        for token in app.connections.tokens() {
            // While the database does not answer, nobody knows better.
            if matches!(app.tokens.is_good(&token).await, Ok(false)) {
                app.connections.end_token(&token);
            }
        }
    }
}
