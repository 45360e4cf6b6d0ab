//! Releases: headers, envelopes and manifests are read without a panic, and promise nothing that is not there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use otaru_format::release::{
    Envelope, HEADER_LEN, MAX_BLOCKS, MAX_ENVELOPE, Manifest, PayloadKind, envelope_len,
};

fn manifest(bytes: &[u8]) {
    let Ok(manifest) = Manifest::parse(bytes) else { return };
    let count = manifest.block_count();
    assert!((1..=MAX_BLOCKS).contains(&count));
    let blocks = (0..count).map(|at| manifest.block(at).expect("it counted them"));
    assert_eq!(blocks.map(|block| u64::from(block.len)).sum::<u64>(), u64::from(manifest.size));
    assert!(manifest.block(count).is_none());
    let mut alone = 0;
    for payload in manifest.payloads() {
        let end = payload.offset.checked_add(payload.len).expect("it fits");
        if matches!(payload.kind, PayloadKind::Delta { .. }) {
            assert!(payload.frame(&manifest, 0).is_none());
            continue;
        }
        alone += 1;
        let mut at = payload.offset;
        for index in 0..count {
            let frame = payload.frame(&manifest, index).expect("one a block");
            assert_eq!(frame.offset, at);
            at += frame.len;
        }
        assert_eq!(at, end);
    }
    assert!(alone > 0);
    assert!(manifest.revoked().count() <= 4);
    assert!(manifest.also().count() <= 4 && manifest.also().all(|name| manifest.is_for(name)));
}

fuzz_target!(|bytes: &[u8]| {
    if let Some((header, rest)) = bytes.split_first_chunk::<HEADER_LEN>()
        && let Ok(len) = envelope_len(header)
    {
        assert!(len <= MAX_ENVELOPE);
        if let Ok(envelope) = Envelope::parse(rest.get(..len).unwrap_or(rest)) {
            let mut signed = 0;
            envelope.signed_bytes(&mut |piece| signed += piece.len());
            assert!(signed > envelope.payload().len());
            let _ = (envelope.key_id(), envelope.signature());
            manifest(envelope.payload());
        }
    }
    manifest(bytes);
});
