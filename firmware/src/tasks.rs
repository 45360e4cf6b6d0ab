//! Starts tasks.

use embassy_executor::{SpawnError, SpawnToken, Spawner};

/// Starts a task. Each is started once, so there is always room for it.
pub(crate) fn start<S>(spawner: Spawner, task: Result<SpawnToken<S>, SpawnError>) {
    match task {
        Ok(token) => spawner.spawn(token),
        Err(error) => log::error!("a task does not start: {error:?}"),
    }
}
