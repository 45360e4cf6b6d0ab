//! Partition tables: what is read can be written, and reads the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use otaru_format::partition::{Partition, PartitionTable, TABLE_LEN, emit};

fuzz_target!(|bytes: &[u8]| {
    let Ok(table) = PartitionTable::parse(bytes) else { return };
    let _ = (table.otadata(), table.factory(), table.find_label("otaru"));
    let slots = (0..table.slots()).filter_map(|index| table.slot(index)).count();
    assert!(slots <= table.iter().count());
    let partitions: Vec<Partition> = table.iter().collect();
    let mut again = [0; TABLE_LEN];
    if emit(&partitions, &mut again).is_ok() {
        let read = PartitionTable::parse(&again).expect("what is written can be read");
        assert!(read.iter().eq(partitions));
    }
});
