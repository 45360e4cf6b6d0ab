//! Warning that a CA is about to end which devices depend on: a line in the log, once a day.

use std::time::Duration;

use crate::app::Shared;
use crate::devices::trusted;

/// Interval of telling it.
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Tells it now and then once a day, until the server ends.
pub(super) async fn run(app: Shared) {
    loop {
        match trusted::ending_now(&app).await {
            Ok(ending) => ending.iter().for_each(|ca| tracing::warn!("{}", ca.detail)),
            Err(error) => tracing::warn!(%error, "whether a CA is about to end could not be looked up"),
        }
        tokio::select! {
            () = app.stop.cancelled() => return,
            () = tokio::time::sleep(DAY) => {}
        }
    }
}
