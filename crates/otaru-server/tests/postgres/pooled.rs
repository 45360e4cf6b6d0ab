//! A pool in front of PostgreSQL: one that keeps sessions is as good as none, and one that does not is refused.

use otaru_server::db::{Db, DbError, Location};
use otaru_testing::pgbouncer::PgBouncer;
use otaru_testing::postgres::{Postgres, psql};
use otaru_tls::Trust;

use crate::{increment, open, put};

fn opens(url: &str) -> Result<(), DbError> {
    Db::open(Location::parse(url, Trust::default()).unwrap()).map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_that_share_sessions_are_refused_in_plain_words() {
    let Some(server) = Postgres::start() else { return };
    let direct = server.create("fleet");
    for mode in ["transaction", "statement"] {
        let Some(pool) = PgBouncer::start(&server, mode) else { return };
        let error = opens(&pool.url("fleet")).unwrap_err();
        assert!(matches!(error, DbError::Pooled), "{mode}: {error}");
        assert!(error.to_string().contains("set pool_mode = session"), "{error}");
        // Others of the pool find no settings of Otaru's.
        let left = psql(&pool.url("fleet"), "SHOW lock_timeout").unwrap();
        assert_eq!(left, "0", "{mode}");
    }
    assert_eq!(psql(&direct, "SELECT count(*) FROM pg_class WHERE relname = 'devices'").unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_pool_that_keeps_sessions_servers_lose_no_update() {
    let Some(mut server) = Postgres::start() else { return };
    let direct = server.create("fleet");
    let Some(pool) = PgBouncer::start(&server, "session") else { return };
    let servers = [open(&pool.url("fleet")), open(&pool.url("fleet"))];
    let writing = servers.iter().flat_map(|db| {
        (0..4).map(move |_| async move {
            for _ in 0..20 {
                increment(db).await.unwrap();
            }
        })
    });
    futures_util::future::join_all(writing).await;
    assert_eq!(psql(&direct, "SELECT value FROM meta WHERE key = 'n'").unwrap(), "160");
    server.shut_down();
    server.go_on();
    for (number, db) in servers.iter().enumerate() {
        let read = db.read(|tx| tx.query_row("SELECT count(*) FROM meta", (), |row| row.get::<i64>(0)));
        assert!(read.await.is_ok(), "the first read after a restart");
        put(db, format!("k{number}")).await.unwrap();
    }
    assert_eq!(psql(&direct, "SELECT count(*) FROM meta WHERE key LIKE 'k%'").unwrap(), "2");
}
