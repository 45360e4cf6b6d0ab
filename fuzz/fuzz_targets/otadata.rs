//! Otadata: records lead back, and the one that is chosen boots.
#![no_main]

use libfuzzer_sys::fuzz_target;
use otaru_format::otadata::{RECORD_LEN, Record, next_seq, select};

fuzz_target!(|bytes: &[u8]| {
    let (first, second) = bytes.split_at(bytes.len().min(RECORD_LEN));
    let records = [Record::parse(first), Record::parse(second)];
    for record in records.iter().flatten() {
        assert_eq!(Record::parse(&record.emit()).as_ref(), Some(record));
        for slots in 1..=16 {
            let slot = record.slot(slots);
            assert!(slot < slots);
            if let Some(next) = next_seq(record.seq, slot, slots) {
                assert!(next > record.seq);
            }
        }
    }
    if let Some(chosen) = select(&records) {
        assert!(records[chosen].as_ref().is_some_and(Record::bootable));
    }
});
