//! `esp-idf-defs` in Python against ours: partition tables by Espressif's own `gen_esp32part.py`, which it
//! contains, and otadata records.

use std::fs;

use otaru_format::otadata::{Record, State, next_seq};
use otaru_format::partition::{self, PartitionTable, TABLE_LEN};

use crate::peers;

/// Runs a Python program with the folder as its argument and returns its output; `None` after a skip.
fn python(test: &str, program: &str, folder: &tempfile::TempDir) -> Option<String> {
    let mut command = peers::python_with_idf_defs(test)?;
    let output = command.arg("-c").arg(program).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn they_read_and_accept_the_table_we_write() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = [0; TABLE_LEN];
    partition::emit(&partition::default_layout(), &mut bytes).unwrap();
    fs::write(folder.path().join("table.bin"), bytes).unwrap();
    let program = "
import pathlib, sys
from esp_idf_defs import PartitionTable
folder = pathlib.Path(sys.argv[1])
data = (folder / 'table.bin').read_bytes()
table = PartitionTable.from_binary(data)
table.verify(0x8000)
assert table.to_binary() == data
for p in table:
    print(p.name, p.type, p.subtype, p.offset, p.size)
";
    let Some(printed) = python("they_read_and_accept_the_table_we_write", program, &folder) else { return };
    let ours = partition::default_layout().map(|p| {
        let (kind, subtype) = p.kind().numbers();
        format!("{} {kind} {subtype} {} {}\n", p.label, p.offset, p.size)
    });
    assert_eq!(printed, ours.concat());
}

#[test]
fn we_read_the_table_they_write() {
    let folder = tempfile::tempdir().unwrap();
    let program = "
import pathlib, sys
from esp_idf_defs import PartitionTable
table = PartitionTable.from_csv('''
nvs,      data, nvs,     ,        0x6000,
phy_init, data, phy,     ,        0x1000,
factory,  app,  factory, ,        1M,
ota_0,    app,  ota_0,   ,        1M,
ota_1,    app,  ota_1,   ,        1M,
otadata,  data, ota,     ,        0x2000,
a_label_of_16_by, data, fat, ,    64K, encrypted:readonly
''')
(pathlib.Path(sys.argv[1]) / 'table.bin').write_bytes(table.to_binary())
for p in table:
    print(p.name, p.type, p.subtype, p.offset, p.size, int(p.encrypted) + 2 * int(p.readonly))
";
    let Some(printed) = python("we_read_the_table_they_write", program, &folder) else { return };
    let bytes = fs::read(folder.path().join("table.bin")).unwrap();
    let table = PartitionTable::parse(&bytes).unwrap();
    let ours = table.iter().map(|p| {
        let (kind, subtype) = p.kind().numbers();
        format!("{} {kind} {subtype} {} {} {}\n", p.label, p.offset, p.size, p.flags)
    });
    assert_eq!(ours.collect::<String>(), printed);
    assert_eq!(table.slot(0).map(|slot| slot.offset), Some(0x11_0000));
}

/// The sequences worth trying: small ones, those where a byte turns over, the last one.
const SEQS: [u32; 8] = [1, 2, 3, 255, 256, 65_536, 0x8000_0000, u32::MAX - 1];

#[test]
fn otadata_records_are_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let program = "
import pathlib, sys
from esp_idf_defs.otadata import OtaDataSelectEntry, OtaImageState
for seq in [1, 2, 3, 255, 256, 65536, 0x80000000, 0xfffffffe]:
    for state in OtaImageState:
        print(OtaDataSelectEntry(seq, state).to_bytes().hex())
";
    let Some(printed) = python("otadata_records_are_the_same_bytes", program, &folder) else { return };
    let states =
        [State::New, State::PendingVerify, State::Valid, State::Invalid, State::Aborted, State::Undefined];
    let records = SEQS.into_iter().flat_map(|seq| states.map(|state| Record::new(seq, state)));
    let hex = |record: Record| record.emit().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(records.map(hex).eq(printed.lines().map(str::to_owned)));
}

#[test]
fn the_next_sequence_is_the_same_number() {
    let folder = tempfile::tempdir().unwrap();
    let program = "
from esp_idf_defs.otadata import OtaDataSelectEntry
for seq in range(1, 40):
    for slots in range(1, 5):
        for slot in range(slots):
            print(OtaDataSelectEntry(seq).incremented(slot, slots).seq)
";
    let Some(printed) = python("the_next_sequence_is_the_same_number", program, &folder) else { return };
    let mut theirs = printed.lines().map(|line| line.parse().unwrap());
    for seq in 1..40 {
        for slots in 1..5 {
            for slot in 0..slots {
                assert_eq!(next_seq(seq, slot, slots), theirs.next(), "above {seq}, slot {slot} of {slots}");
            }
        }
    }
}

/// Without any tool: the records as Python's `zlib` makes them, `zlib.crc32(struct.pack('<I', seq), 0xFFFFFFFF)`
/// after ESP-IDF's `esp_rom_crc32_le(UINT32_MAX, …)`.
#[test]
fn checksums_are_zlibs() {
    for (seq, crc) in [
        (1, 0x4743_989A_u32),
        (2, 0x55F6_3774),
        (3, 0xED4A_5011),
        (4, 0x709D_68A8),
        (0xFFFF_FFFE, 0x99F8_B879),
    ] {
        assert_eq!(Record::new(seq, State::New).emit()[28..], crc.to_le_bytes(), "{seq}");
    }
}
