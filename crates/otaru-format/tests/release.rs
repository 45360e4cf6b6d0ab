//! Release files: readers take any bytes, what is written reads back, and no bit is without meaning.

use otaru_format::digest::Digest;
use otaru_format::release::{
    Envelope, HEADER_LEN, KeyId, MAX_ENVELOPE, MAX_SEQUENCE, Manifest, ManifestFields, PayloadFields,
    PayloadKind, ReleaseError, SemVer, ToSign, block_size, emit_unsigned, envelope_len,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// A manifest's fields, owned.
#[derive(Debug, Clone)]
struct Release {
    product: String,
    version: String,
    chip_id: u16,
    sequence: u64,
    size: u32,
    blocks: Vec<Digest>,
    payloads: Vec<(PayloadKind, u32, Vec<u32>)>,
    min_base: Option<String>,
    secure_version: u32,
    revoked: Vec<KeyId>,
    also: Vec<String>,
}

impl Release {
    fn emit(&self) -> Result<Vec<u8>, ReleaseError> {
        let payloads: Vec<_> = self
            .payloads
            .iter()
            .map(|(kind, len, frames)| PayloadFields { kind: *kind, len: *len, frames })
            .collect();
        let also: Vec<&str> = self.also.iter().map(String::as_str).collect();
        let fields = ManifestFields {
            product: &self.product,
            chip_id: self.chip_id,
            version: &self.version,
            sequence: self.sequence,
            image: Digest::of(b"image"),
            size: self.size,
            blocks: &self.blocks,
            payloads: &payloads,
            min_base: self.min_base.as_deref(),
            secure_version: self.secure_version,
            revoked: &self.revoked,
            also: &also,
        };
        fields.emit(&mut [0; MAX_ENVELOPE]).map(<[u8]>::to_vec)
    }
}

/// A release of an image of this size, with frames of these shares of their block.
fn release_of(size: u32, shares: &[u8], deltas: &[u32]) -> Release {
    let block = block_size(size);
    let lengths = (0..size.div_ceil(block)).map(|index| block.min(size - index * block));
    let frames: Vec<u32> = lengths
        .zip(shares.iter().cycle())
        .map(|(len, share)| (u64::from(len) * u64::from(*share) / 255).max(1) as u32)
        .collect();
    let delta = |(index, len): (usize, &u32)| {
        (PayloadKind::Delta { base: Digest::of(&index.to_le_bytes()) }, *len, Vec::new())
    };
    let mut payloads: Vec<_> = deltas.iter().enumerate().map(delta).collect();
    payloads.push((PayloadKind::Lzma, frames.iter().sum(), frames));
    payloads.push((PayloadKind::Raw, size, Vec::new()));
    Release {
        product: "lamp".into(),
        version: "1.2.3".into(),
        chip_id: 5,
        sequence: 7,
        size,
        blocks: (0..size.div_ceil(block)).map(|index| Digest::of(&index.to_le_bytes())).collect(),
        payloads,
        min_base: Some("1.0.0".into()),
        secure_version: 3,
        revoked: vec![KeyId([1; 8]), KeyId([2; 8])],
        also: vec!["lamp-2".into(), "light".into()],
    }
}

fn release() -> impl Strategy<Value = Release> {
    let size = prop_oneof![1_u32..200_000, 1_u32..20_000_000, Just(64 << 20), Just(1 << 30)];
    let image = (size, vec(any::<u8>(), 1..9), vec(1_u32..9999, 0..4));
    let text = "[ -~é]{1,16}";
    let revoked = prop::collection::btree_set(any::<[u8; 8]>(), 0..5);
    let names = (text, text, prop::collection::btree_set(text, 0..5));
    (image, names, any::<u16>(), 1..=MAX_SEQUENCE, any::<u32>(), revoked, any::<bool>()).prop_map(
        |((size, shares, deltas), names, chip_id, sequence, secure_version, revoked, base)| {
            let (product, version, also) = names;
            let also = also.into_iter().filter(|name| *name != product).collect();
            let min_base = base.then(|| "2.0.0-rc.1".to_owned());
            let revoked = revoked.into_iter().map(KeyId).collect();
            let rest = release_of(size, &shares, &deltas);
            Release { product, version, chip_id, sequence, min_base, secure_version, revoked, also, ..rest }
        },
    )
}

/// Looks at everything a manifest has.
fn look_at(manifest: &Manifest<'_>) {
    for index in (0..manifest.block_count() + 2).chain([usize::MAX, usize::MAX / 32]) {
        let block = manifest.block(index);
        assert_eq!(block.is_some(), index < manifest.block_count());
        for payload in manifest.payloads() {
            let frame = payload.frame(manifest, index);
            assert_eq!(frame.is_some(), block.is_some() && !payload.kind.needs_base());
            if let Some(frame) = frame {
                assert!(frame.offset >= payload.offset);
                assert!(frame.offset + frame.len <= payload.offset + payload.len);
            }
        }
    }
    assert!(manifest.also().all(|name| manifest.is_for(name)) && manifest.also().count() <= 4);
    assert!(manifest.revoked().count() <= 4 && manifest.blocks().count() == manifest.block_count());
}

fn signed_bytes(envelope: &Envelope<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    envelope.signed_bytes(&mut |piece| bytes.extend_from_slice(piece));
    bytes
}

proptest! {
    #[test]
    fn any_bytes_are_taken(bytes in vec(any::<u8>(), 0..600), header in any::<[u8; HEADER_LEN]>()) {
        let _ = envelope_len(&header);
        let _ = Envelope::parse(&bytes);
        if let Ok(manifest) = Manifest::parse(&bytes) {
            look_at(&manifest);
        }
    }

    #[test]
    fn any_damage_to_a_manifest_is_taken(
        release in release(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        end in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = release.emit().unwrap();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        if let Ok(manifest) = Manifest::parse(&bytes) {
            look_at(&manifest);
        }
    }

    #[test]
    fn a_written_manifest_reads_back(release in release()) {
        let bytes = release.emit().unwrap();
        let manifest = Manifest::parse(&bytes).unwrap();
        look_at(&manifest);
        prop_assert_eq!(manifest.product, &release.product);
        prop_assert_eq!(manifest.version, &release.version);
        prop_assert_eq!(manifest.chip_id, release.chip_id);
        prop_assert_eq!(manifest.sequence, release.sequence);
        prop_assert_eq!(manifest.image, Digest::of(b"image"));
        prop_assert_eq!(manifest.size, release.size);
        prop_assert_eq!(manifest.min_base, release.min_base.as_deref());
        prop_assert_eq!(manifest.secure_version, release.secure_version);
        prop_assert_eq!(manifest.revoked().collect::<Vec<_>>(), release.revoked);
        prop_assert_eq!(manifest.also().collect::<Vec<_>>(), release.also);
        let hashes: Vec<_> = manifest.blocks().map(|block| block.hash).collect();
        prop_assert_eq!(hashes, release.blocks);
        prop_assert_eq!(manifest.blocks().map(|block| u64::from(block.len)).sum::<u64>(), u64::from(release.size));
        let payloads: Vec<_> = manifest.payloads().map(|payload| (payload.kind, payload.len)).collect();
        let written: Vec<_> = release.payloads.iter().map(|(kind, len, _)| (*kind, *len)).collect();
        prop_assert_eq!(payloads, written);
        let lzma = manifest.payloads().find(|payload| payload.kind == PayloadKind::Lzma).unwrap();
        let frames: Vec<_> =
            (0..manifest.block_count()).map(|i| lzma.frame(&manifest, i).unwrap().len).collect();
        let (.., written) = &release.payloads[release.payloads.len() - 2];
        prop_assert_eq!(&frames, written);
    }
}

#[test]
fn every_flipped_bit_is_refused_or_signed() {
    let manifest = release_of(150_000, &[100, 255], &[77]).emit().unwrap();
    let to_sign = ToSign { key_id: KeyId([9; 8]), payload: &manifest };
    let mut good = to_sign.emit(&[0x5A; 64], &mut [0; MAX_ENVELOPE]).unwrap().to_vec();
    let envelope = Envelope::parse(&good).unwrap();
    let (signed, signature) = (signed_bytes(&envelope), *envelope.signature().unwrap());
    for bit in 0..good.len() * 8 {
        good[bit / 8] ^= 1 << (bit % 8);
        if let Ok(other) = Envelope::parse(&good) {
            let same = signed_bytes(&other) == signed && other.signature() == Some(&signature);
            assert!(!same, "bit {bit} has no meaning");
        }
        good[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn every_truncation_is_refused() {
    let manifest = release_of(150_000, &[100], &[]).emit().unwrap();
    let envelope = emit_unsigned(&manifest, &mut [0; MAX_ENVELOPE]).unwrap().to_vec();
    for len in 0..envelope.len() {
        assert!(Envelope::parse(&envelope[..len]).is_err(), "{len}");
    }
    for len in 0..manifest.len() {
        assert!(Manifest::parse(&manifest[..len]).is_err(), "{len}");
    }
}

#[test]
fn the_largest_release_fits() {
    // 64 blocks, frames with the longest lengths, and as many deltas as go beside them.
    let mut release = release_of(64 << 24, &[254], &[1 << 20; 14]);
    release.product = "p".repeat(32);
    release.version = "v".repeat(32);
    release.sequence = MAX_SEQUENCE;
    release.also = (0..4).map(|number| number.to_string().repeat(32)).collect();
    assert!(release.emit().unwrap().len() + 100 < MAX_ENVELOPE);
}

/// One change to a good release, and what is said of it.
#[test]
fn bad_fields_are_refused() {
    type Change = fn(&mut Release);
    let changes: [(Change, &str); 25] = [
        (|r| r.product.clear(), "product"),
        (|r| r.product = "x".repeat(33), "product"),
        (|r| r.product = "a\x1bb".into(), "product"),
        (|r| r.version = "x".repeat(33), "version"),
        (|r| r.sequence = 0, "sequence"),
        (|r| r.sequence = 1 << 53, "again with a lower one"),
        (|r| r.sequence = u64::MAX, "again with a lower one"),
        (|r| r.size = 0, "empty"),
        (|r| r.blocks.truncate(1), "hash a block"),
        (|r| r.blocks.push(Digest::ZERO), "hash a block"),
        (|r| r.payloads.clear(), "1 to 16 payloads"),
        (|r| r.payloads.reverse(), "order"),
        (|r| r.payloads[1].1 += 1, "not as long as their payload"),
        (|r| r.payloads[1].2[0] = 65537, "longer than its block"),
        (|r| r.payloads[1].2.truncate(1), "one frame a block"),
        (|r| r.payloads[2].1 -= 1, "as long as the image"),
        (|r| r.payloads.truncate(1), "needs a base"),
        (|r| r.min_base = Some("one".into()), "semantic version"),
        (|r| r.revoked = vec![KeyId([1; 8]); 2], "revoked"),
        (|r| r.also = vec!["b".into(), "a".into()], "further products"),
        (|r| r.also = vec!["a".into(); 2], "further products"),
        (|r| r.also = vec![r.product.clone()], "further products"),
        (|r| r.also = vec!["x".repeat(33)], "further products"),
        (|r| r.also = (0..5).map(|number| number.to_string()).collect(), "further products"),
        (|r| r.payloads.insert(0, r.payloads[0].clone()), "same base"),
    ];
    for (index, (change, word)) in changes.into_iter().enumerate() {
        let mut release = release_of(150_000, &[100], &[77]);
        change(&mut release);
        let error = release.emit().unwrap_err().to_string();
        assert!(error.contains(word), "{index}: {error}");
    }
}

#[test]
fn unknown_fields_and_formats_are_refused() {
    let good = release_of(1000, &[100], &[]).emit().unwrap();
    let mut newer = good.clone();
    newer[2] = 2;
    assert_eq!(Manifest::parse(&newer).unwrap_err(), ReleaseError::NewerLayout { version: 2 });
    let mut more = good.clone();
    more[0] += 1;
    more.extend([15, 0]);
    assert!(Manifest::parse(&more).unwrap_err().to_string().contains("unknown fields"));
    let mut following = good;
    following.push(0);
    assert!(Manifest::parse(&following).unwrap_err().to_string().contains("follows"));
}

#[test]
fn versions_compare_by_precedence() {
    assert!(SemVer::parse("1.10.0").unwrap() > SemVer::parse("v1.9.9").unwrap());
}
