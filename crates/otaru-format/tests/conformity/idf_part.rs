//! The partition tables of esp-rs (`esp-idf-part`, which espflash uses) against ours.

use esp_idf_part::{PartitionTable as Theirs, SubType, Type};
use otaru_format::partition::{self, Partition, PartitionTable, TABLE_LEN};

const CSV: &str = "\
nvs,      data, nvs,     0x9000,   0x6000,
phy_init, data, phy,     0xf000,   0x1000,
factory,  app,  factory, 0x10000,  0x100000,
ota_0,    app,  ota_0,   0x110000, 0x100000,
ota_1,    app,  ota_1,   0x210000, 0x100000,
otadata,  data, ota,     0x310000, 0x2000,
storage,  data, spiffs,  0x320000, 0x40000, encrypted
mine,     0x40, 0x01,    0x360000, 0x1000,
";

fn emitted(partitions: &[Partition]) -> [u8; TABLE_LEN] {
    let mut bytes = [0; TABLE_LEN];
    partition::emit(partitions, &mut bytes).unwrap();
    bytes
}

fn same(ours: &Partition, theirs: &esp_idf_part::Partition) -> bool {
    let theirs = (
        theirs.name(),
        u8::from(theirs.ty()),
        u8::from(theirs.subtype()),
        theirs.offset(),
        theirs.size(),
        theirs.flags().bits(),
    );
    let (kind, subtype) = ours.kind().numbers();
    (ours.label.to_string(), kind, subtype, ours.offset, ours.size, ours.flags) == theirs
}

#[test]
fn they_read_the_table_we_write() {
    let layout = partition::default_layout();
    let theirs = Theirs::try_from_bytes(emitted(&layout)).unwrap();
    assert_eq!(theirs.partitions().len(), layout.len());
    for (ours, theirs) in layout.iter().zip(theirs.partitions()) {
        assert!(same(ours, theirs), "{ours:?} is not {theirs:?}");
    }
}

#[test]
fn we_write_the_bytes_they_write() {
    let layout = partition::default_layout();
    let ours = emitted(&layout);
    let theirs = Theirs::try_from_bytes(ours).unwrap().to_bin().unwrap();
    assert_eq!(ours[..], theirs[..]);
}

#[test]
fn we_read_the_table_they_write() {
    let theirs = Theirs::try_from_str(CSV).unwrap();
    let bytes = theirs.to_bin().unwrap();
    let ours = PartitionTable::parse(&bytes).unwrap();
    assert_eq!(ours.iter().count(), theirs.partitions().len());
    for (ours, theirs) in ours.iter().zip(theirs.partitions()) {
        assert!(same(&ours, theirs), "{ours:?} is not {theirs:?}");
    }
    let label = |partition: Option<Partition>| partition.map(|partition| partition.label);
    assert_eq!(label(ours.otadata()).as_deref(), Some("otadata"));
    assert_eq!(label(ours.factory()).as_deref(), Some("factory"));
    assert_eq!((ours.slots(), label(ours.slot(1)).as_deref()), (2, Some("ota_1")));
    assert!(theirs.find_by_subtype(Type::App, SubType::app(0x11)).is_some());
}

#[test]
fn both_refuse_a_wrong_md5() {
    let good = emitted(&partition::default_layout());
    for at in [4, 40, 100, 6 * 32 + 16, 6 * 32 + 31] {
        let mut bytes = good;
        bytes[at] ^= 1;
        assert!(Theirs::try_from_bytes(bytes).is_err(), "byte {at}");
        assert!(PartitionTable::parse(&bytes).is_err(), "byte {at}");
    }
}

#[test]
fn the_tables_of_the_firmware_are_ours_and_have_whole_blocks() {
    for size in [4, 8, 16] {
        let file = format!("{}/../../firmware/partitions-{size}mb.csv", env!("CARGO_MANIFEST_DIR"));
        let theirs = Theirs::try_from_str(std::fs::read_to_string(file).unwrap()).unwrap();
        let bytes = theirs.to_bin().unwrap();
        let ours = PartitionTable::parse(&bytes).unwrap();
        if size == 4 {
            assert!(ours.iter().eq(partition::default_layout()));
        }
        for slot in [0, 1] {
            let slot = ours.slot(slot).unwrap();
            // The large erase block of NOR flash, and the MMU's page.
            assert!(slot.offset.is_multiple_of(0x1_0000) && slot.size.is_multiple_of(0x1_0000));
            assert!(slot.offset + slot.size <= size << 20);
        }
        assert!(ours.otadata().is_some() && ours.find_label("otaru").is_some_and(|part| part.size == 0x8000));
    }
}
