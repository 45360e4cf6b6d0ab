//! Readers take any bytes without a panic, and what a writer writes its reader reads.

use otaru_format::chip::Chip;
use otaru_format::command::{Command, MAX_COMMAND, Offer};
use otaru_format::digest::Digest;
use otaru_format::image::{DescriptorFields, HEAD_LEN, Head, Header, ImageCheck, ImageError, ImageFields};
use otaru_format::otadata::{RECORD_LEN, Record, State, next_seq, select};
use otaru_format::partition::{self, Partition, PartitionTable, PartitionType, TABLE_LEN};
use otaru_format::status::{Code, FailedImage, Fault, Status, UpdateState};
use otaru_format::topic::{self, MAX_NAME, Topics};
use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes that begin like the real thing, so that readers get past the first check.
fn beginning_with(start: &'static [u8], len: usize) -> impl Strategy<Value = Vec<u8>> {
    (vec(any::<u8>(), 0..len), any::<bool>()).prop_map(|(mut bytes, real)| {
        if real && bytes.len() >= start.len() {
            bytes[..start.len()].copy_from_slice(start);
        }
        bytes
    })
}

/// Feeds an image in pieces of these lengths, over and over.
fn check_in_pieces(bytes: &[u8], pieces: &[usize], limit: u32) -> Result<(u32, Digest), ImageError> {
    let mut check = ImageCheck::new(limit);
    let (mut rest, mut lengths) = (bytes, pieces.iter().cycle());
    while !rest.is_empty() {
        let length = lengths.next().copied().unwrap_or(1).clamp(1, rest.len());
        let (piece, later) = rest.split_at(length);
        check.feed(piece)?;
        rest = later;
    }
    check.finish().map(|summary| (summary.len, summary.digest))
}

fn image(project: &str, version: &str, more: &[Vec<u32>]) -> Vec<u8> {
    let elf_sha256 = Digest::of(project.as_bytes());
    let descriptor = DescriptorFields { project, version, secure_version: 0, elf_sha256 };
    let words = |words: &Vec<u32>| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let data: Vec<Vec<u8>> = std::iter::once(Vec::new()).chain(more.iter().map(words)).collect();
    let segments: Vec<_> = data.iter().map(|data| (0x4200_0020, data.as_slice())).collect();
    ImageFields { chip: Chip::Esp32C6, descriptor, segments: &segments, hash_appended: true }.emit()
}

fn state() -> impl Strategy<Value = State> {
    prop_oneof![(0_u32..6).prop_map(State::from), any::<u32>().prop_map(State::from)]
}

fn partition() -> impl Strategy<Value = Partition> {
    ("[a-z0-9_]{0,16}", any::<u8>(), any::<u8>(), any::<u32>(), any::<u32>(), any::<u32>()).prop_map(
        |(label, kind, subtype, offset, size, flags)| {
            let kind = PartitionType::from_numbers(kind, subtype);
            let mut partition = Partition::new(&label, kind, offset, size);
            partition.flags = flags;
            partition
        },
    )
}

proptest! {
    #[test]
    fn image_readers_take_any_bytes(bytes in beginning_with(&[0xE9, 2], 600), pieces in vec(1_usize..70, 1..8)) {
        let _ = Header::parse(&bytes);
        if let Ok(head) = Head::parse(&bytes) {
            let _ = head.descriptor.map(|d| (d.project().len(), d.version().len(), d.date().len(), d.elf_sha256()));
        }
        let _ = check_in_pieces(&bytes, &pieces, 4096);
    }

    #[test]
    fn the_verdict_does_not_depend_on_the_pieces(
        more in vec(vec(any::<u32>(), 0..40), 0..6),
        pieces in vec(1_usize..300, 1..8),
        damage in proptest::option::of((any::<prop::sample::Index>(), 1_u8..)),
    ) {
        let mut bytes = image("p", "1", &more);
        if let Some((at, flip)) = damage {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        let limit = bytes.len() as u32;
        let verdict = check_in_pieces(&bytes, &pieces, limit);
        prop_assert_eq!(verdict, check_in_pieces(&bytes, &[usize::MAX], limit));
        // Byte 23 says whether a hash follows: without it the checksum alone is left, as it is for the bootloader.
        prop_assert_eq!(verdict.is_ok(), damage.is_none() || (bytes[23] == 0));
    }

    #[test]
    fn an_image_larger_than_its_slot_is_refused(words in vec(any::<u32>(), 0..64)) {
        let bytes = image("p", "1", &[words]);
        let limit = bytes.len() as u32 - 1;
        prop_assert_eq!(check_in_pieces(&bytes, &[64], limit), Err(ImageError::TooLarge { limit }));
    }

    #[test]
    fn descriptors_lead_back(project in "[ -~]{0,31}", version in "[ -~]{0,31}") {
        let bytes = image(&project, &version, &[]);
        let head = Head::parse(&bytes[..HEAD_LEN]).unwrap();
        let descriptor = head.descriptor.unwrap();
        prop_assert_eq!(descriptor.project(), project.as_str());
        prop_assert_eq!(descriptor.version(), version.as_str());
        prop_assert_eq!(descriptor.elf_sha256(), Digest::of(project.as_bytes()));
    }

    #[test]
    fn descriptors_cut_long_texts_at_a_character(project in "\\PC{0,40}") {
        let bytes = image(&project, "1", &[]);
        let descriptor = Head::parse(&bytes).unwrap().descriptor.unwrap();
        prop_assert!(project.starts_with(descriptor.project()));
        prop_assert!(project.len() > 31 || project == descriptor.project());
    }

    #[test]
    fn headers_lead_back(fields in any::<(u8, u8, u32, u16, u16, u16, bool)>(), segments in 1_u8..=16) {
        let (spi_mode, spi_speed_size, entry, chip_id, min_revision, max_revision, hash_appended) = fields;
        let header = Header {
            segments, spi_mode, spi_speed_size, entry, chip_id, min_revision, max_revision, hash_appended,
        };
        prop_assert_eq!(Header::parse(&header.emit()), Ok(header));
    }

    #[test]
    fn partition_tables_take_any_bytes(bytes in beginning_with(&[0xAA, 0x50, 0, 0x10], 400)) {
        if let Ok(table) = PartitionTable::parse(&bytes) {
            let _ = (table.iter().count(), table.slots(), table.otadata(), table.factory());
            let _ = (0..=u8::MAX).filter_map(|index| table.slot(index)).count();
        }
    }

    #[test]
    fn partition_tables_lead_back(partitions in vec(partition(), 1..=94)) {
        let mut bytes = [0; TABLE_LEN];
        partition::emit(&partitions, &mut bytes).unwrap();
        prop_assert!(PartitionTable::parse(&bytes).unwrap().iter().eq(partitions));
    }

    #[test]
    fn records_take_any_bytes(bytes in vec(any::<u8>(), 0..40)) {
        let _ = Record::parse(&bytes);
    }

    #[test]
    fn records_lead_back(seq in 1..u32::MAX, label in any::<[u8; 20]>(), state in state()) {
        let record = Record { seq, label, state };
        prop_assert_eq!(Record::parse(&record.emit()), Some(record));
    }

    #[test]
    fn a_torn_record_is_none_or_the_whole_one(
        seq in 1..u32::MAX, state in state(), whole in 0..RECORD_LEN, mask in any::<u8>(),
    ) {
        let record = Record::new(seq, state);
        let wanted = record.emit();
        let mut flash = [0xFF; RECORD_LEN];
        flash[..whole].copy_from_slice(&wanted[..whole]);
        flash[whole] = wanted[whole] | mask;
        prop_assert!(Record::parse(&flash).is_none_or(|read| read == record));
    }

    #[test]
    fn the_chosen_record_is_bootable_and_the_highest(seqs in any::<[u32; 2]>(), states in [state(), state()]) {
        let records = [0, 1].map(|at| Some(Record::new(seqs[at], states[at])));
        let best = records.iter().flatten().filter(|record| record.bootable()).map(|record| record.seq).max();
        prop_assert_eq!(select(&records).and_then(|sector| records[sector]).map(|record| record.seq), best);
    }

    #[test]
    fn the_next_sequence_is_the_lowest_for_its_slot(above in any::<u32>(), slot in 0_u8..4, slots in 1_u8..=16) {
        let slot = slot % slots;
        if let Some(seq) = next_seq(above, slot, slots) {
            prop_assert!(seq > above && seq - above <= u32::from(slots));
            prop_assert_eq!(Record::new(seq, State::New).slot(slots), slot);
        } else {
            prop_assert!(above >= u32::MAX - 1 - u32::from(slots));
        }
    }

    #[test]
    fn commands_take_any_bytes(payload in vec(any::<u8>(), 0..1100), room in 0_usize..1100) {
        let mut scratch = vec![0; room];
        let _ = Command::parse(&payload, &mut scratch);
    }

    #[test]
    fn commands_take_anything_like_json(inner in "[\\\\\"{}\\[\\]:,a-z0-9/ untrefals\u{e9}]{0,200}", room in 0_usize..300) {
        let mut scratch = vec![0; room];
        for payload in [format!("{{{inner}}}"), format!("{{\"url\":\"http://h/{inner}\"}}")] {
            let _ = Command::parse(payload.as_bytes(), &mut scratch);
        }
    }

    #[test]
    fn offers_lead_back(
        path in "[!-~]{0,80}", image in any::<Option<[u8; 32]>>(), deployment in proptest::option::of("\\P{Cc}{0,16}"),
        force in any::<bool>(), order in any::<Option<u64>>(),
    ) {
        let url = format!("http://h/{path}");
        let offer = Offer { url: &url, image: image.map(Digest), deployment: deployment.as_deref(), force, order };
        let (mut buf, mut scratch) = ([0; MAX_COMMAND], [0; MAX_COMMAND]);
        let json = offer.emit_json(&mut buf).unwrap();
        prop_assert_eq!(Command::parse(json.as_bytes(), &mut scratch), Ok(Command::Update(offer)));
    }

    #[test]
    fn status_reports_are_json_whatever_their_texts_hold(
        texts in any::<[String; 3]>(), progress in any::<Option<u8>>(), code in any::<u8>(), boots in any::<u8>(),
    ) {
        let [version, detail, deployment] = texts.each_ref().map(String::as_str);
        let status = Status::<&str> {
            device: "d",
            chip: "esp32",
            state: UpdateState::Failed,
            project: "p",
            product: Some(deployment),
            version,
            image: Digest::ZERO,
            slot: 0,
            confirmed: true,
            progress,
            attempt: 2,
            deployment: Some(deployment),
            error: Some(Fault { code: Code::from_number(code), detail }),
            failed: Some(FailedImage { version, image: Digest::ZERO, boots }),
            guards_lost: true,
            left_tls: true,
            tls: None,
            boot: "software",
            uptime: 1,
            rssi: None,
            free_heap: None,
            free_stack: None,
            order: None,
            epoch: None,
            boots: None,
            n: None,
        };
        let mut buf = vec![0; 64 * 1024];
        let json = status.to_json(&mut buf).unwrap();
        let read: Status<String> = serde_json::from_str(json).unwrap();
        prop_assert_eq!((read.version.as_str(), read.deployment.as_deref()), (version, Some(deployment)));
        prop_assert_eq!(read.product(), deployment);
        let error = read.error.unwrap();
        prop_assert_eq!((error.code, error.detail.as_str()), (Code::from_number(code), detail));
        prop_assert_eq!((read.progress, read.failed.unwrap().boots), (progress, boots));
    }

    #[test]
    fn devices_are_found_in_their_topics(base in "([A-Za-z0-9]{1,5}/){0,4}[a-z]", device in "[A-Za-z0-9_.-]{1,20}") {
        let topics = Topics::new(&base, &device).unwrap();
        let (status, all) = (topics.status(), topics.update_all());
        prop_assert_eq!(topic::device_of(&base, &status, "status"), Some(device.as_str()));
        prop_assert_eq!(topic::device_of(&base, &all, "update"), None);
    }

    #[test]
    fn topic_readers_take_anything(base in ".{0,20}", topic in ".{0,40}", leaf in ".{0,10}") {
        let _ = topic::device_of(&base, &topic, &leaf);
        let _ = Topics::new(&base, &topic).map(|topics| (topics.status(), topics.update_one()));
    }
}

#[test]
fn the_longest_names_fit_their_topics() {
    let name = "x".repeat(MAX_NAME);
    let topics = Topics::new(&name, &name).unwrap();
    assert_eq!(topics.update_one(), format!("{name}/{name}/update").as_str());
    assert_eq!(topics.status(), format!("{name}/{name}/status").as_str());
    assert_eq!(topics.online(), format!("{name}/{name}/online").as_str());
}
