//! PgBouncer for tests: a pool of sessions in front of a PostgreSQL of one's own.

use tempfile::TempDir;

use crate::postgres::{Postgres, as_postgres, let_in};
use crate::programs::{Program, find, have};
use crate::wait::free_port;

/// A pool beside the test, which ends with it.
pub struct PgBouncer {
    _pool: Program,
    port: u16,
    _dir: TempDir,
}

impl PgBouncer {
    /// Starts one that gives clients sessions for as long as `mode` says; skips the test loudly where there is none on this machine.
    #[track_caller]
    pub fn start(server: &Postgres, mode: &str) -> Option<Self> {
        if !have(&["pgbouncer"]) {
            return None;
        }
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=otaru\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = {mode}\ndefault_pool_size = 60\n",
            server.port()
        );
        let file = dir.path().join("pgbouncer.ini");
        std::fs::write(&file, settings).unwrap();
        let_in(dir.path());
        let mut command = as_postgres(find("pgbouncer").unwrap());
        command.arg(file);
        Some(Self { _pool: Program::server(command, port), port, _dir: dir })
    }

    /// Returns the URL of a database by way of the pool.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://otaru@127.0.0.1:{}/{database}", self.port)
    }
}
