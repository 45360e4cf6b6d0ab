//! Sessions that are spoilt: what was asked in one is asked again in another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use otaru_server::db::{Connection, Db, DbError};
use otaru_testing::postgres::{Postgres, psql};

use crate::{open, put};

async fn number(db: &Db, sql: &'static str) -> Result<i64, DbError> {
    db.read(move |tx| tx.query_row(sql, (), |row| row.get(0))).await
}

/// Ends a session of PostgreSQL's, as its administrator may.
fn end_session(url: &str, tx: &Connection) {
    let process: i64 = tx.query_row("SELECT pg_backend_pid()::bigint", (), |row| row.get(0)).unwrap();
    psql(url, &format!("SELECT pg_terminate_backend({process}, 10000)")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_read_after_a_restart_is_answered() {
    let Some(mut server) = Postgres::start() else { return };
    let url = server.create("fleet");
    let db = open(&url);
    // Several at the same time, so that several sessions are idle afterwards.
    let slow = || number(&db, "SELECT 1::bigint FROM pg_sleep(0.3)");
    let all = futures_util::future::join_all((0..4).map(|_| slow())).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    server.shut_down();
    server.go_on();
    assert_eq!(number(&db, "SELECT count(*) FROM meta").await.unwrap(), 0);
    put(&db, "a".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_whose_session_breaks_in_the_middle_is_run_once_more() {
    let Some(server) = Postgres::start() else { return };
    let url = server.create("fleet");
    let db = open(&url);
    let (runs, at) = (Arc::new(AtomicU32::new(0)), url.clone());
    let counted = Arc::clone(&runs);
    let read = db.read(move |tx| {
        if counted.fetch_add(1, Ordering::Relaxed) == 0 {
            end_session(&at, tx);
        }
        tx.query_row("SELECT count(*) FROM meta", (), |row| row.get::<i64>(0))
    });
    assert_eq!(read.await.unwrap(), 0);
    assert_eq!(runs.load(Ordering::Relaxed), 2);
    // Once, and not for ever.
    let counted = Arc::clone(&runs);
    let broken = db.read(move |tx| {
        counted.fetch_add(1, Ordering::Relaxed);
        end_session(&url, tx);
        tx.query_row("SELECT count(*) FROM meta", (), |row| row.get::<i64>(0))
    });
    assert!(matches!(broken.await, Err(DbError::Unavailable(_))));
    assert_eq!(runs.load(Ordering::Relaxed), 4);
    assert_eq!(number(&db, "SELECT count(*) FROM meta").await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_were_prepared_for_other_columns_are_prepared_anew() {
    let Some(server) = Postgres::start() else { return };
    let url = server.create("fleet");
    let db = open(&url);
    let all = |tx: &Connection| tx.prepare("SELECT * FROM meta").exists(());
    let columns = |n: u32| psql(&url, &format!("ALTER TABLE meta ADD COLUMN more{n} BIGINT")).unwrap();
    assert!(!db.read(all).await.unwrap());
    assert!(!db.write(all).await.unwrap());
    // As a newer server does, when it starts beside this one.
    columns(1);
    assert!(!db.read(all).await.unwrap());
    assert!(!db.write(all).await.unwrap());
    columns(2);
    assert!(!db.write(all).await.unwrap());
    assert!(!db.read(all).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_has_a_bound_and_one_that_takes_too_long_is_no_outage() {
    let Some(server) = Postgres::start() else { return };
    let url = server.create("fleet");
    let db = open(&url);
    let bound = |tx: &Connection| tx.query_row("SHOW statement_timeout", (), |row| row.get::<String>(0));
    assert_eq!(db.read(bound).await.unwrap(), "1min");
    assert_eq!(db.write(bound).await.unwrap(), "1min");
    let slow = |tx: &Connection| tx.execute_batch("SET LOCAL statement_timeout = 100; SELECT pg_sleep(60)");
    assert!(matches!(db.read(slow).await, Err(DbError::Busy(_))));
    assert!(matches!(db.write(slow).await, Err(DbError::Busy(_))));
    assert_eq!(number(&db, "SELECT count(*) FROM meta").await.unwrap(), 0);
}
