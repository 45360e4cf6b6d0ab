//! A PostgreSQL that hangs, or is away: waiting has a bound, and the log is told once.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use otaru_server::db::{Db, DbError, Location};
use otaru_testing::postgres::Postgres;
use otaru_testing::{LIMIT, eventually};
use otaru_tls::Trust;

use crate::{open, put};

/// Log of this process from now on.
#[derive(Clone, Default)]
struct Logs(Arc<Mutex<Vec<u8>>>);

impl Logs {
    fn begin() -> Self {
        let logs = Self::default();
        let writer = logs.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
        logs
    }

    /// Returns how many lines have this text.
    fn count(&self, text: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock().unwrap()).lines().filter(|line| line.contains(text)).count()
    }
}

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn keys(db: &Db) -> Result<i64, DbError> {
    db.read(|tx| tx.query_row("SELECT count(*) FROM meta", (), |row| row.get(0))).await
}

/// Fails unless it ends within a bound, as an outage.
async fn ends<T: std::fmt::Debug>(asked: impl Future<Output = Result<T, DbError>>) {
    let ended = tokio::time::timeout(LIMIT, asked).await.unwrap();
    assert!(matches!(ended, Err(DbError::Unavailable(_))), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_hangs_is_waited_for_with_a_bound_and_told_once() {
    let Some(server) = Postgres::start() else { return };
    let (url, logs) = (server.create("fleet"), Logs::begin());
    let db = open(&url);
    put(&db, "before".into()).await.unwrap();
    keys(&db).await.unwrap();
    let frozen = server.freeze();
    let location = Location::parse(&url, Trust::default()).unwrap();
    let starting = async {
        let opened = tokio::task::spawn_blocking(move || Db::open(location).map(drop)).await.unwrap();
        if let Err(error) = &opened {
            assert!(error.to_string().ends_with("does not answer"), "{error}");
        }
        opened
    };
    tokio::join!(ends(keys(&db)), ends(put(&db, "meanwhile".into())), ends(starting));
    // It is known to be away now: nobody waits for as long again, however many ask.
    let many: Vec<_> = (0..100).map(|_| ends(keys(&db))).collect();
    futures_util::future::join_all(many).await;
    drop(frozen);
    let deadline = tokio::time::Instant::now() + LIMIT;
    while keys(&db).await.is_err() || put(&db, format!("after {:?}", deadline)).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "it is not used again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!([logs.count("the database is away"), logs.count("the database answers again")], [1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_away_is_told_once_however_many_ask() {
    let Some(mut server) = Postgres::start() else { return };
    let (url, logs) = (server.create("fleet"), Logs::begin());
    let db = open(&url);
    server.kill();
    for n in 0..20 {
        tokio::join!(ends(keys(&db)), ends(put(&db, format!("away {n}"))), ends(keys(&db)));
    }
    server.go_on();
    keys(&db).await.unwrap();
    put(&db, "back".into()).await.unwrap();
    eventually("the end to be told", LIMIT, || (logs.count("the database answers again") == 1).then_some(()));
    assert_eq!(logs.count("the database is away"), 1);
}
