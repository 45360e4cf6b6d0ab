//! One bad otadata sector, before and after an update.

use std::time::Duration;

use otaru_format::otadata::SECTOR_LEN;
use otaru_format::status::UpdateState;
use otaru_sim::bootloader::BootloaderKind;
use otaru_sim::firmware::Behaviour;
use otaru_sim::lab::{Lab, Setup, firmware, run};

const OTADATA: u32 = 0xE000;
const LONG: Duration = Duration::from_secs(3600);

#[test]
fn either_sector_may_go_bad_after_an_update() {
    for bootloader in [BootloaderKind::Plain, BootloaderKind::Rollback] {
        for sector in 0..2 {
            run(async {
                let setup = Setup { bootloader, ..Setup::default() };
                let mut lab = Lab::new(setup, &firmware("1.0.0", 9000, Behaviour::Healthy)).unwrap();
                lab.power_on();
                lab.ready().await;
                for version in ["1.1.0", "1.2.0", "1.3.0"] {
                    lab.serve(&firmware(version, 9000, Behaviour::Healthy));
                    assert_eq!(lab.update(LONG).await.unwrap().version, version);
                    lab.power_off();
                    let garbage = [0x5A; 64];
                    lab.flash.provision(OTADATA + sector * SECTOR_LEN, &garbage).unwrap();
                    let before = lab.reports().len();
                    lab.power_on();
                    let mut count = 0;
                    let next = lab.wait_for(LONG, |_| {
                        count += 1;
                        count > before
                    });
                    let report = next.await.unwrap();
                    assert_eq!(
                        (report.state, report.version.as_str(), report.confirmed),
                        (UpdateState::Idle, version, true),
                        "{bootloader:?}, sector {sector}"
                    );
                }
            });
        }
    }
}
