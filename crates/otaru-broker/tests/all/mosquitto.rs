//! Mosquitto's clients as peers.

use std::process::Command;

use otaru_testing::{Program, have, program, run};

use crate::house::Running;

fn client(name: &str, house: &Running, version: &str, more: &[&str]) -> Command {
    let mut command = program(name);
    let port = house.address.port().to_string();
    command.args(["-h", "127.0.0.1", "-p", &port, "-u", "house", "-P", "good", "-V", version]).args(more);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn its_clients_publish_and_subscribe_in_both_versions() {
    if !have(&["mosquitto_pub", "mosquitto_sub"]) {
        return;
    }
    let house = Running::plain().await;
    for version in ["311", "5"] {
        for qos in ["0", "1", "2"] {
            let said = tokio::task::block_in_place(|| {
                run(client(
                    "mosquitto_pub",
                    &house,
                    version,
                    &["-q", qos, "-t", "kept/a", "-m", "before", "-r"],
                ))
                .with_code(0);
                let more = ["-q", qos, "-t", "kept/#", "-C", "2", "-F", "%t %r %p"];
                let listener = Program::start(client("mosquitto_sub", &house, version, &more));
                listener.says("kept/a 1 before");
                run(client("mosquitto_pub", &house, version, &["-q", qos, "-t", "kept/b", "-m", "after"]))
                    .with_code(0);
                listener.says("kept/b 0 after")
            });
            assert_eq!(said, "kept/b 0 after");
        }
    }
    let refused = tokio::task::block_in_place(|| {
        run(client("mosquitto_pub", &house, "5", &["-t", "a", "-m", "b", "-P", "wrong"]))
    });
    refused.with_code(134);
}
