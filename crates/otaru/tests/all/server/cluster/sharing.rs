//! Shards of devices and ends of tokens, which servers share, and the broker, which must be the same.

use std::time::{Duration, Instant};

use otaru_testing::{LIMIT, eventually, run};
use serde_json::Value;

use super::{Cluster, SERVERS};
use crate::common::otaru;
use crate::server::fleet::{LONG, phase, standing};

#[test]
fn shards_are_shared_and_a_server_that_dies_is_replaced_within_ten_seconds() {
    let Some(mut cluster) = Cluster::start() else { return };
    cluster.balanced(SERVERS);
    let old = cluster.firmware("40K", "1.0.0", "healthy");
    let new = cluster.firmware("40K", "1.1.0", "healthy");
    let _devices = cluster.devices(&old, 30, "20", &[]);
    // Whichever server is asked.
    cluster.does(1, &["release", "upload", &new]);
    drop(cluster.take(0));
    let died = Instant::now();
    eventually("the others to have all", LIMIT, || {
        let shards = cluster.shards(1)?;
        (shards.len() == 2 && shards.values().sum::<u64>() == 256).then_some(())
    });
    println!("replaced after {:.1} s", died.elapsed().as_secs_f32());
    cluster.does(2, &["rollout", "create", "lamp@1.1.0"]);
    let rollout =
        cluster.rollout("1", "the rollout to complete", LONG, |rollout| phase(rollout) == "completed");
    assert_eq!(standing(&rollout, "succeeded"), 30, "{rollout}");
    // One that is stopped in order gives its part away at once; one that comes back has its part again.
    cluster.begin(0);
    cluster.balanced(SERVERS);
    cluster.take(1).unwrap().interrupt();
    cluster.balanced(SERVERS - 1);
}

#[test]
fn an_ended_token_is_good_nowhere_within_a_second() {
    let Some(cluster) = Cluster::start() else { return };
    let made: Value = serde_json::from_str(&cluster.does(0, &["token", "create", "t", "--json"])).unwrap();
    let text = made["text"].as_str().unwrap().to_owned();
    let ask = |number: usize| {
        let mut command = cluster.user(number, &["devices"]);
        command.env("OTARU_TOKEN", &text);
        run(command).code
    };
    // Each server has it in mind.
    assert_eq!([ask(0), ask(1), ask(2)], [Some(0); 3]);
    cluster.does(1, &["token", "revoke", made["id"].as_str().unwrap()]);
    std::thread::sleep(Duration::from_secs(1));
    assert!([ask(0), ask(1), ask(2)].iter().all(|code| *code != Some(0)));
}

#[test]
fn a_server_with_a_broker_of_its_own_is_refused_beside_others() {
    let Some(cluster) = Cluster::start() else { return };
    let mut command = otaru(&[
        "serve",
        "--http",
        "127.0.0.1:0",
        "--mqtt-listen",
        "127.0.0.1:0",
        "--database",
        &cluster.url,
    ]);
    command
        .arg("--data")
        .arg(cluster.dir.path().join("other"))
        .arg("--artifacts")
        .arg(cluster.dir.path().join("firmware"));
    run(command).with_code(1).tells("give all servers the same --mqtt");
}
