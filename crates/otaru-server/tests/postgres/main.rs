//! What only PostgreSQL has: several writers, sessions that break, servers that stand still.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod hanging;
mod pooled;
mod sessions;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use otaru_server::cluster::notices::{self, Notice};
use otaru_server::db::{Db, DbError, Location, OptionalExtension as _};
use otaru_testing::postgres::{Postgres, psql};
use otaru_testing::{LIMIT, eventually};
use otaru_tls::Trust;
use rand::{Rng as _, SeedableRng as _};

pub(crate) fn open(url: &str) -> Db {
    Db::open(Location::parse(url, Trust::default()).unwrap()).unwrap()
}

pub(crate) async fn put(db: &Db, key: String) -> Result<(), DbError> {
    db.write(move |tx| tx.execute("INSERT INTO meta (key, value) VALUES (?, '')", [&key]).map(drop)).await
}

/// Adds one to a number, by reading it first.
pub(crate) async fn increment(db: &Db) -> Result<(), DbError> {
    db.write(|tx| {
        let found = tx.query_row("SELECT value FROM meta WHERE key = 'n'", (), |row| row.get::<String>(0));
        let next = found.optional()?.map_or(0, |text| text.parse::<u32>().unwrap_or(0)) + 1;
        let sql = "INSERT INTO meta (key, value) VALUES ('n', ?1) ON CONFLICT (key) DO UPDATE SET value = ?1";
        tx.execute(sql, [next.to_string()]).map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_start_at_once_make_one_schema_and_lose_no_update() {
    let Some(server) = Postgres::start() else { return };
    let url = server.create("fleet");
    let opening: Vec<_> = (0..4)
        .map(|_| {
            let url = url.clone();
            std::thread::spawn(move || open(&url))
        })
        .collect();
    let servers: Vec<Db> = opening.into_iter().map(|opening| opening.join().unwrap()).collect();
    let mut writing = tokio::task::JoinSet::new();
    for db in servers {
        for _ in 0..5 {
            let db = db.clone();
            writing.spawn(async move {
                for _ in 0..20 {
                    increment(&db).await.unwrap();
                }
            });
        }
    }
    while let Some(done) = writing.join_next().await {
        done.unwrap();
    }
    assert_eq!(psql(&url, "SELECT value FROM meta WHERE key = 'n'").unwrap(), "400");
    assert_eq!(psql(&url, "SELECT count(*) FROM otaru_schema").unwrap(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_once_however_postgresql_ends() {
    let Some(mut server) = Postgres::start() else { return };
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut rng = rand::rngs::SmallRng::seed_from_u64(seed);
    let url = server.create("fleet");
    let db = open(&url);
    let (stop, number) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let outcomes = Arc::new(Mutex::new((Vec::new(), 0_u32)));
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let (db, stop, number, outcomes) =
                (db.clone(), Arc::clone(&stop), Arc::clone(&number), Arc::clone(&outcomes));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let key = format!("w{}", number.fetch_add(1, Ordering::Relaxed));
                    match put(&db, key.clone()).await {
                        Ok(()) => outcomes.lock().unwrap().0.push(key),
                        Err(DbError::Unavailable(_)) => {
                            outcomes.lock().unwrap().1 += 1;
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        // Were a write run again that took place, its key would be there already.
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    for round in 0..6 {
        tokio::time::sleep(Duration::from_millis(rng.random_range(200..600))).await;
        match round % 3 {
            0 => server.kill(),
            1 => server.shut_down(),
            _ => {
                let sql =
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'otaru'";
                psql(&server.url("postgres"), sql).unwrap();
                continue;
            }
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..300))).await;
        server.go_on();
    }
    // It is used again.
    let before = outcomes.lock().unwrap().0.len();
    let deadline = Instant::now() + LIMIT;
    while outcomes.lock().unwrap().0.len() < before + 50 {
        assert!(Instant::now() < deadline, "nothing is written any more");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let (acknowledged, failed) = {
        let all = outcomes.lock().unwrap();
        (all.0.clone(), all.1)
    };
    let there = psql(&url, "SELECT key FROM meta WHERE key LIKE 'w%'").unwrap();
    let there: std::collections::BTreeSet<&str> = there.lines().collect();
    let lost: Vec<_> = acknowledged.iter().filter(|key| !there.contains(key.as_str())).collect();
    assert!(lost.is_empty(), "acknowledged and not there: {lost:?}");
    println!("{} acknowledged, {failed} told that the database is away", acknowledged.len());
    assert!(failed > 0, "no fault hit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_in_a_write_holds_others_up_for_seconds_only() {
    let Some(server) = Postgres::start() else { return };
    let url = server.create("fleet");
    let (still, other) = (open(&url), open(&url));
    let (began, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let standing = tokio::spawn(async move {
        let write = still.write(move |tx| {
            tx.execute("INSERT INTO meta (key, value) VALUES ('still', '')", ())?;
            let _ = began.send(());
            if counted.fetch_add(1, Ordering::Relaxed) == 0 {
                std::thread::sleep(Duration::from_secs(8));
            }
            Ok::<_, DbError>(())
        });
        write.await
    });
    begins.recv().await.unwrap();
    tokio::time::timeout(Duration::from_secs(7), put(&other, "other".into())).await.unwrap().unwrap();
    assert_eq!(psql(&url, "SELECT count(*) FROM meta WHERE key = 'still'").unwrap(), "0");
    standing.await.unwrap().unwrap();
    assert_eq!(runs.load(Ordering::Relaxed), 2, "what PostgreSQL ended was done once more");
    assert_eq!(psql(&url, "SELECT count(*) FROM meta WHERE key = 'still'").unwrap(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_schema_is_left_alone_and_a_database_away_is_told() {
    let Some(mut server) = Postgres::start() else { return };
    let url = server.create("fleet");
    let db = open(&url);
    psql(&url, "UPDATE otaru_schema SET version = 1000").unwrap();
    let location = || Location::parse(&url, Trust::default()).unwrap();
    assert!(matches!(Db::open(location()), Err(DbError::Newer(1_000))));
    server.kill();
    assert!(matches!(Db::open(location()), Err(DbError::Unavailable(_))));
    assert!(matches!(put(&db, "a".into()).await, Err(DbError::Unavailable(_))));
    let read = db.read(|tx| tx.query_row("SELECT count(*) FROM meta", (), |row| row.get::<i64>(0))).await;
    assert!(matches!(read, Err(DbError::Unavailable(_))), "{read:?}");
    server.go_on();
    put(&db, "b".into()).await.unwrap();
    let keys = || psql(&url, "SELECT key FROM meta").ok().filter(|keys| keys == "b");
    eventually("what was written", LIMIT, keys);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_notices_go() {
    let Some(server) = Postgres::start() else { return };
    let url = server.create("fleet");
    let db = open(&url);
    let fill = "INSERT INTO notices (notice) SELECT '{\"token\":\"t\"}' FROM generate_series(1, 10000)";
    psql(&url, fill).unwrap();
    let written = db.write(|tx| notices::write(tx, &Notice::Devices(vec!["lamp".into()]))).await;
    written.unwrap();
    assert_eq!(psql(&url, "SELECT min(id), max(id), count(*) FROM notices").unwrap(), "2|10001|10000");
    let read = async |me: &'static str, last| db.read(move |tx| notices::after(tx, me, last)).await.unwrap();
    let news = read("", 9_999).await;
    assert_eq!((news.last, news.missed), (10_001, false));
    assert_eq!(
        news.notices,
        [Notice::Devices(vec!["lamp".into()])],
        "those without a writer are one's own here"
    );
    let own = db.writer_id().to_owned();
    let news = db.read(move |tx| notices::after(tx, &own, 9_999)).await.unwrap();
    assert_eq!(news.notices, [Notice::Token("t".into())]);
    assert!(read("", 0).await.missed, "the first is gone");
    assert!(read("", 20_000).await.missed, "as after a restore");
}
