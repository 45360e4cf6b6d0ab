//! A broker that comes after the server.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use otaru_testing::{Program, eventually, free_port};

use crate::common::otaru;

#[test]
fn a_server_that_waits_for_its_broker_comes_once() {
    let dir = tempfile::tempdir().unwrap();
    let (http, mqtt) = (free_port(), free_port());
    let mut serve: Command = otaru(&["serve", "--json", "--dev", "--http", &format!("127.0.0.1:{http}")]);
    serve.arg("--data").arg(dir.path().join("data")).args(["--mqtt", &format!("mqtt://127.0.0.1:{mqtt}")]);
    let _server = Program::server(serve, http);
    // Long enough for four attempts.
    std::thread::sleep(Duration::from_secs(5));

    let listener = TcpListener::bind(("127.0.0.1", mqtt)).unwrap();
    let logins = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&logins);
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let count = Arc::clone(&count);
            std::thread::spawn(move || {
                let mut bytes = [0; 1024];
                // CONNECT; whoever only looks whether somebody listens does not say it.
                if matches!(client.read(&mut bytes), Ok(1..)) && bytes[0] == 0x10 {
                    count.fetch_add(1, Ordering::Relaxed);
                    client.write_all(&[0x20, 3, 0, 0, 0]).unwrap();
                }
                while matches!(client.read(&mut bytes), Ok(1..)) {}
            });
        }
    });
    let come = || logins.load(Ordering::Relaxed);
    eventually("the server", Duration::from_secs(20), || (come() > 0).then_some(()));
    // Less than it takes to lose patience with a broker that grants no subscription.
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(come(), 1);
}
