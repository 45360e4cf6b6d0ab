//! PostgreSQL: a database that several servers share.
//!
//! | file | what |
//! | --- | --- |
//! | `session` | a session of one thread: statements, and transactions that write one at a time |
//! | `login` | sessions, opened |
//! | `line` | what a session is spoken over, with bounds on waiting |
//! | `pooled` | sessions that are none, refused |
//! | `settings` | where the database is, and as whom to log in |
//! | `migrate` | its tables, brought to the present schema |
//! | `placeholders`, `values`, `error` | statements, values and errors, as PostgreSQL has them |

mod error;
mod line;
mod login;
mod migrate;
mod placeholders;
mod pooled;
mod session;
mod settings;
mod values;

pub(super) use login::{connect, log_in};
pub(super) use migrate::{is_present, lock as lock_schema, run as migrate, within as migrate_within};
pub(super) use session::{Mark, Session};
pub use settings::{PostgresSettings, SettingsError};
