//! Random histories, with restarts at any moment: what must hold does, and in the end everybody is where they shall be.

use std::collections::BTreeMap;

use otaru_format::status::{Code, UpdateState};
use otaru_rollout::{Control, Phase};
use proptest::prelude::*;
use serde_json::json;

use crate::lab::Lab;

const DEVICES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

#[derive(Debug, Clone)]
enum Step {
    Work,
    Restart,
    RestartAlone,
    Shift(i64),
    Broker(bool),
    RollOut {
        release: i64,
        priority: i32,
        wave: u32,
    },
    Control(usize, u8),
    Comes(usize, bool),
    /// A device goes on with the last offer it has.
    Follows(usize),
    Fails(usize),
    /// An old report once more.
    Stale(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Work),
        1 => Just(Step::Restart),
        1 => Just(Step::RestartAlone),
        2 => (-200_000_i64..200_000).prop_map(Step::Shift),
        1 => any::<bool>().prop_map(Step::Broker),
        2 => (2_i64..=3, 0_i32..3, 1_u32..4).prop_map(|(release, priority, wave)| Step::RollOut { release, priority, wave }),
        2 => (0_usize..6, 0_u8..6).prop_map(|(rollout, control)| Step::Control(rollout, control)),
        3 => (0_usize..8, any::<bool>()).prop_map(|(device, online)| Step::Comes(device, online)),
        8 => (0_usize..8).prop_map(Step::Follows),
        2 => (0_usize..8).prop_map(Step::Fails),
        1 => (0_usize..8).prop_map(Step::Stale),
    ]
}

/// A device as it is played: the offer it follows, what it runs.
#[derive(Debug, Clone)]
struct Played {
    offer: Option<(String, &'static str)>,
    runs: &'static str,
}

struct World {
    lab: Lab,
    devices: BTreeMap<&'static str, Played>,
    rollouts: Vec<otaru_rollout::RolloutId>,
}

impl World {
    fn hear(&mut self) {
        for device in DEVICES {
            for message in self.lab.sent(device) {
                let played = self.devices.get_mut(device).unwrap();
                match (message["deployment"].as_str(), message["image"].as_str()) {
                    (Some(name), Some(image)) => {
                        let version = ["1.0.0", "1.1.0", "1.2.0"]
                            .into_iter()
                            .find(|version| crate::lab::image(version).to_string() == image)
                            .unwrap();
                        played.offer = Some((name.to_owned(), version));
                    }
                    _ => played.offer = None,
                }
            }
        }
    }

    async fn follows(&mut self, device: &'static str) {
        let Some((name, version)) = self.devices[device].offer.clone() else { return };
        let runs = self.devices[device].runs;
        self.lab.comes(device, true).await;
        if runs == version {
            self.lab.reports(device, UpdateState::Current, runs, Some(&name)).await;
        } else {
            self.lab.reports(device, UpdateState::Downloading, runs, Some(&name)).await;
            self.lab.reports(device, UpdateState::Trial, version, None).await;
            self.lab.reports(device, UpdateState::Confirmed, version, None).await;
        }
        *self.devices.get_mut(device).unwrap() = Played { offer: None, runs: version };
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Work => self.lab.work().await,
            Step::Restart => self.lab.restart(),
            Step::RestartAlone => self.lab.restart_alone().await,
            Step::Shift(by) => self.lab.shift(*by),
            Step::Broker(away) => self.lab.broker_is_away(*away),
            Step::RollOut { .. } if self.rollouts.len() >= 5 => {}
            Step::RollOut { release, priority, wave } => {
                let spec = json!({"priority": priority, "limits": {"concurrency": 3},
                    "waves": [{"size": {"devices": wave}, "gate": {"auto": {"success": 10}}}],
                    "attempts": {"count": 3, "timeout": 60_000, "backoff": 5_000, "max_backoff": 20_000}});
                self.rollouts.push(self.lab.roll_out(*release, spec).await);
            }
            Step::Control(rollout, control) => {
                let Some(id) = self.rollouts.get(*rollout) else { return };
                let control = match control {
                    0 => Control::Pause,
                    1 => Control::Resume,
                    2 => Control::Advance,
                    3 => Control::Finish,
                    4 => Control::Abort { cancel: false },
                    _ => Control::Abort { cancel: true },
                };
                // Declined where it makes no sense.
                let _ = self.lab.control(*id, control).await;
            }
            Step::Comes(device, online) => self.lab.comes(DEVICES[*device], *online).await,
            Step::Follows(device) => self.follows(DEVICES[*device]).await,
            Step::Fails(device) => {
                let device = DEVICES[*device];
                let Some((name, _)) = self.devices[device].offer.clone() else { return };
                let runs = self.devices[device].runs;
                self.lab
                    .reports_with(device, UpdateState::Failed, runs, Some(&name), Some(Code::Connect))
                    .await;
                self.devices.get_mut(device).unwrap().offer = None;
            }
            Step::Stale(device) => {
                let device = DEVICES[*device];
                let runs = self.devices[device].runs;
                self.lab.reports(device, UpdateState::Downloading, runs, Some("r1.1")).await;
                self.lab.reports(device, UpdateState::Idle, runs, None).await;
            }
        }
        self.hear();
        self.lab.check().await;
    }

    /// Everything that was held is let go, everybody is there, and time passes.
    async fn settle(&mut self) {
        self.lab.broker_is_away(false);
        for id in self.rollouts.clone() {
            let _ = self.lab.control(id, Control::Resume).await;
        }
        for _ in 0..120 {
            for device in DEVICES {
                self.lab.comes(device, true).await;
            }
            self.lab.work().await;
            self.hear();
            for device in DEVICES {
                self.follows(device).await;
            }
            self.lab.shift(30_000);
            self.lab.tick_all().await;
            for id in self.rollouts.clone() {
                let _ = self.lab.control(id, Control::Advance).await;
            }
        }
    }
}

async fn history(steps: Vec<Step>) {
    let lab = Lab::new().await;
    lab.fleet(&DEVICES).await;
    let devices = DEVICES.map(|device| (device, Played { offer: None, runs: "1.0.0" })).into();
    let mut world = World { lab, devices, rollouts: Vec::new() };
    for step in &steps {
        world.take(step).await;
    }
    world.settle().await;
    for id in world.rollouts.clone() {
        let rollout = world.lab.rollout(id).await;
        let over = matches!(rollout.phase(), Phase::Completed | Phase::Aborted { .. });
        assert!(
            over && rollout.open() == 0,
            "rollout {id:?} hangs: {:?} {:?}",
            rollout.phase(),
            rollout.tallies()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_books_are_right_and_everything_ends(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(history(steps));
    }
}
