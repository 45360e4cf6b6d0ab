//! Geometries of flash: their tables are sound, and an image that fills its slot touches nothing beside it.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::fs;
use std::time::Duration;

use otaru_format::status::UpdateState;
use otaru_sim::firmware::Behaviour;
use otaru_sim::flash::{BLOCK, SECTOR};
use otaru_sim::geometry::Geometry;
use otaru_sim::lab::{Lab, Setup, firmware, run};

const LONG: Duration = Duration::from_secs(3600);
/// Byte that fills the flash where nothing may be written.
const OTHERS: u8 = 0x5A;

#[test]
fn partitions_are_whole_sectors_of_their_chip_and_do_not_overlap() {
    for geometry in Geometry::all() {
        let mut end = 0x9000;
        for row in &geometry.partitions {
            assert!(row.offset >= end, "{}: {row:?} overlaps", geometry.name);
            assert!(row.offset.is_multiple_of(SECTOR) && row.size.is_multiple_of(SECTOR), "{row:?}");
            end = row.offset + row.size;
        }
        assert!(end <= geometry.flash_len, "{}", geometry.name);
    }
}

#[test]
fn slots_off_the_boundaries_need_sectors_at_both_ends() {
    let [ours, large, stock] = Geometry::all();
    let of = |geometry: &Geometry| {
        let slot = geometry.first_target();
        (slot.start % BLOCK / SECTOR, slot.end % BLOCK / SECTOR)
    };
    assert_eq!((of(&ours), of(&large), of(&stock)), ((0, 0), (0, 0), (15, 10)));
    assert!(!ours.part("otaru").is_empty() && stock.part("otaru").is_empty());
}

/// The rows of a table as `gen_esp32part.py` reads them, with numbers in hexadecimal.
fn rows(csv: &str) -> Vec<(String, u8, u32, u32)> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        let number = |text: &str| u32::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap();
        let kind = if cells[1] == "app" { 0 } else { 1 };
        (cells[0].to_owned(), kind, number(cells[3]), number(cells[4]))
    };
    csv.lines().filter(|line| !line.starts_with('#')).map(row).collect()
}

#[test]
fn ours_are_the_tables_that_the_firmware_is_built_with() {
    for geometry in [Geometry::otaru_4mb(), Geometry::otaru_16mb()] {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../firmware");
        let Ok(csv) = fs::read_to_string(format!("{folder}/partitions-{}.csv", geometry.name)) else {
            println!("SKIPPED: this crate stands alone, without the firmware's tables");
            return;
        };
        let ours = geometry.partitions.iter();
        let ours = ours.map(|row| (row.label.to_string(), row.kind().numbers().0, row.offset, row.size));
        assert_eq!(ours.collect::<Vec<_>>(), rows(&csv), "{}", geometry.name);
    }
}

#[test]
fn an_image_that_fills_its_slot_touches_nothing_beside_it() {
    for geometry in Geometry::all() {
        run(async {
            let (slot, name) = (geometry.first_target(), geometry.name);
            let (otadata, state, app) =
                (geometry.part("otadata"), geometry.part("otaru"), geometry.first_app());
            let old = firmware("1.0.0", 20_000, Behaviour::Healthy);
            let mut lab = Lab::new(Setup { geometry: geometry.clone(), ..Setup::default() }, &old).unwrap();
            for row in &geometry.partitions {
                if ![otadata.start, state.start, app.start].contains(&row.offset) {
                    lab.flash.provision(row.offset, &vec![OTHERS; row.size as usize]).unwrap();
                }
            }
            let before = lab.flash.contents().unwrap();
            let new = firmware("1.1.0", slot.len(), Behaviour::Healthy);
            assert_eq!(new.len(), slot.len());
            lab.serve(&new);
            lab.power_on();
            lab.ready().await;
            assert_eq!(lab.update(LONG).await.unwrap().state, UpdateState::Confirmed, "{name}");
            let after = lab.flash.contents().unwrap();
            assert!(after[slot.start as usize..slot.end as usize] == new, "{name}");
            for at in (0..geometry.flash_len)
                .filter(|at| ![&slot, &otadata, &state].iter().any(|part| part.contains(at)))
            {
                assert_eq!(after[at as usize], before[at as usize], "{name}: byte {at:#x} was changed");
            }
            let operations = lab.flash.operations();
            let erases = operations.iter().filter(|done| done.erase && slot.contains(&done.offset));
            let lens: Vec<u32> = erases.map(|done| done.len).collect();
            let sectors = lens.iter().filter(|len| **len == SECTOR).count() as u32;
            let odd = (BLOCK - slot.start % BLOCK) % BLOCK + slot.end % BLOCK;
            assert_eq!(lens.iter().sum::<u32>() as usize, slot.len(), "{name}: nothing is erased twice");
            assert_eq!(sectors, odd / SECTOR, "{name}: whole blocks are erased as such");
        });
    }
}
