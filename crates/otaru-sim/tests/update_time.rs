//! Time of an update, and the bytes it fetches, against loss and resets: a table, kept in `tests/snapshots/update_time.txt`.
//!
//! Time is virtual and chance is seeded, so each figure is the same on every machine of 64 bits. Whoever changes retries, pauses or
//! what is kept over a reset sees in the table what that costs; `OTARU_WRITE_SNAPSHOTS=1` writes it anew.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::fmt::Write as _;
use std::time::Duration;
use std::{env, fs};

use otaru_device::Clock as _;
use otaru_sim::firmware::Behaviour;
use otaru_sim::lab::release::{Key, Recipe};
use otaru_sim::lab::{DEVICE, Lab, Setup, firmware, run};
use otaru_sim::lan::Quality;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots/update_time.txt");
/// Percent of the segments that are lost. Each comes 205 ms late, and so does what is behind it.
const LOSSES: [u32; 5] = [0, 1, 5, 10, 20];
/// Numbers of losses of power.
const RESETS: [usize; 4] = [0, 1, 2, 5];
/// Devices in each cell, whose mean it has.
const DEVICES: u64 = 5;
/// Bytes of the image.
const SIZE: usize = 512 << 10;
/// Time for which power is away.
const OFF: Duration = Duration::from_secs(1);
/// Interval of looking whether enough was sent.
const LOOK: Duration = Duration::from_millis(5);
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Files that are offered.
struct Offered {
    old: Vec<u8>,
    file: Vec<u8>,
    /// Bytes up to the end of the compressed payload, which is as much as a device needs.
    needed: usize,
}

impl Offered {
    fn new() -> Self {
        let [old, image] = ["1.0.0", "1.1.0"].map(|version| firmware(version, SIZE, Behaviour::Healthy));
        let file = Recipe::new("1.1.0", 1).make(&image).unwrap();
        Self { old, needed: file.len() - image.len(), file }
    }

    /// A device with this seed, its broker and the server.
    fn lab(&self, loss: u32, seed: u64) -> Lab {
        let quality = Quality { loss: f64::from(loss) / 100.0, ..Quality::HOME };
        let mut setup = Setup { quality, seed, ..Setup::default() };
        setup.config.allow_unsigned = false;
        setup.config.keys = Box::leak(Box::new([Key(1).public()]));
        let lab = Lab::new(setup, &self.old).unwrap();
        lab.serve(&self.file);
        lab
    }
}

/// Cost of an update.
struct Cost {
    time: Duration,
    bytes: u64,
}

/// An update that loses power when the server has sent this many bytes.
fn update(offered: &Offered, loss: u32, seed: u64, resets: &[u64]) -> Cost {
    run(async {
        let mut lab = offered.lab(loss, seed);
        lab.power_on();
        lab.ready().await;
        let begun = lab.clock.now();
        lab.broker.publish(&format!("ESP32/ota/{DEVICE}/update"), "http://files/new.otaru", true);
        for reset in resets {
            let sent = async {
                while lab.http.sent() < *reset {
                    tokio::time::sleep(LOOK).await;
                }
            };
            let sent = tokio::time::timeout(LIMIT, sent).await;
            assert!(sent.is_ok(), "{loss} %, device {seed}: {:?}", lab.reports().last());
            lab.power_off();
            tokio::time::sleep(OFF).await;
            lab.power_on();
        }
        let end = lab.wait_for(LIMIT, |status| status.version == "1.1.0" && status.confirmed).await;
        assert!(end.is_some(), "{loss} %, device {seed}, resets {resets:?}: {:?}", lab.reports().last());
        Cost { time: lab.clock.now() - begun, bytes: lab.http.sent() }
    })
}

/// Seconds and bytes of one device with each number of resets.
fn row(offered: &Offered, loss: u32, seed: u64) -> [Cost; RESETS.len()] {
    let mut rng = SmallRng::seed_from_u64(seed);
    RESETS.map(|count| {
        let mut resets: Vec<u64> = (0..count).map(|_| rng.random_range(0..offered.needed as u64)).collect();
        resets.sort_unstable();
        update(offered, loss, seed, &resets)
    })
}

fn table(offered: &Offered) -> String {
    let mut text = format!(
        "An update over loss and resets: seconds from the command until the broker hears that the new image is confirmed, and\n\
         bytes that the server sent, headers and what was under way included, as a multiple of the {} that are needed.\n\
         A signed release of {} KiB, compressed; Wi-Fi at home with 5 ms, 1 MB/s and a window of 8 KiB; each lost segment comes\n\
         205 ms late, and what is behind it with it; resets are losses of power for {} s at random bytes of the download. Means of {DEVICES} devices.\n\n",
        offered.needed,
        SIZE >> 10,
        OFF.as_secs(),
    );
    text += "loss ";
    RESETS.iter().for_each(|count| {
        write!(
            text,
            " {:>15}",
            match count {
                1 => "1 reset".to_owned(),
                _ => format!("{count} resets"),
            }
        )
        .unwrap()
    });
    for loss in LOSSES {
        write!(text, "\n{loss:>3} %").unwrap();
        let devices: Vec<_> = (1..=DEVICES).map(|seed| row(offered, loss, seed)).collect();
        for cell in 0..RESETS.len() {
            let mean = |of: fn(&Cost) -> f64| {
                devices.iter().map(|costs| of(&costs[cell])).sum::<f64>() / DEVICES as f64
            };
            let (seconds, bytes) = (mean(|cost| cost.time.as_secs_f64()), mean(|cost| cost.bytes as f64));
            write!(text, "  {seconds:>6.1} s {:>4.2}×", bytes / offered.needed as f64).unwrap();
        }
    }
    text + "\n"
}

#[test]
fn an_update_takes_as_long_as_the_table_says() {
    let table = table(&Offered::new());
    if env::var_os("OTARU_WRITE_SNAPSHOTS").is_some_and(|value| value == "1") {
        fs::write(SNAPSHOT, &table).unwrap();
    }
    let kept = fs::read_to_string(SNAPSHOT).unwrap_or_default();
    assert!(
        kept == table,
        "the table has changed; if it should, OTARU_WRITE_SNAPSHOTS=1 writes it anew\nkept:\n{kept}\nnow:\n{table}"
    );
}
