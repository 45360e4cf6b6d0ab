//! Devices that cannot be updated say so at their start: nothing is written, and nothing restarts again and again.

use std::time::Duration;

use otaru_device::slots::{Slot, SlotError, Slots};
use otaru_format::partition::{self, Partition, PartitionType, TABLE_LEN, TABLE_OFFSET};
use otaru_sim::clock::SimClock;
use otaru_sim::device::{Event, Oddity};
use otaru_sim::firmware::Behaviour;
use otaru_sim::flash::{FLASH_LEN, Flash, Timing};
use otaru_sim::lab::{Lab, Setup, firmware, run};

#[test]
fn what_cannot_be_updated_is_left_alone() {
    // Unknown, no partition at all, the middle of the running slot, and one of data.
    let places = [0, 0x30_0000, 0x2_1000, 0x1_0000].map(Oddity::RunsFrom);
    for oddity in places.into_iter().chain([Oddity::Encrypted]) {
        run(async {
            let setup = Setup { oddity, ..Setup::default() };
            let mut lab = Lab::new(setup, &firmware("1.0.0", 9000, Behaviour::Healthy)).unwrap();
            let lab_flash = lab.flash.clone();
            // All but what the bootloader may write itself, otadata.
            let behind_otadata = || lab_flash.contents().unwrap()[0x1_0000..].to_vec();
            let before = behind_otadata();
            lab.power_on();
            tokio::time::sleep(Duration::from_secs(86_400)).await;
            assert!(behind_otadata() == before, "{oddity:?}: flash was changed");
            let boots = lab.events().iter().filter(|event| matches!(event, Event::Booted { .. })).count();
            assert_eq!(boots, 1, "{oddity:?}");
        });
    }
}

#[test]
fn the_factory_partition_is_taken_for_itself_only() {
    run(async {
        const FACTORY: u32 = 0x10_0000;
        let mut layout = partition::default_layout().to_vec();
        let [.., first, second] = &mut layout[..] else { unreachable!() };
        (first.offset, first.size) = (0x20_0000, 0x10_0000);
        (second.offset, second.size) = (0x30_0000, 0x10_0000);
        let slots = [first.offset, second.offset];
        let flash = Flash::from_bytes(vec![0xFF; FLASH_LEN as usize], Timing::W25Q, SimClock::new(1.0));
        for with_factory in [false, true] {
            if with_factory {
                layout.insert(4, Partition::new("factory", PartitionType::Factory, FACTORY, 0x10_0000));
            }
            let mut table = [0; TABLE_LEN];
            partition::emit(&layout, &mut table).unwrap();
            flash.provision(TABLE_OFFSET, &table).unwrap();
            for (slots, offset) in [(Slot::Ota0, Slot::Ota1), (Slot::Ota1, Slot::Ota0)].into_iter().zip(slots)
            {
                let open = Slots::open(&mut flash.clone(), offset).await.unwrap();
                assert_eq!((open.running(), open.target()), slots);
            }
            for offset in [0, 0x2_0000, 0x1_0000, FACTORY + 0x1_0000] {
                let error = Slots::open(&mut flash.clone(), offset).await.unwrap_err();
                assert!(matches!(error, SlotError::Running(at) if at == offset) && error.is_lasting());
            }
            let factory = Slots::open(&mut flash.clone(), FACTORY).await.map(|slots| slots.running());
            assert_eq!(factory.ok(), with_factory.then_some(Slot::Factory));
        }
    });
}
