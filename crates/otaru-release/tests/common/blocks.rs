//! An image of several blocks, and keys to sign it with.

use otaru_release::keys::SecretKey;

/// Blocks of [`image`].
const BLOCKS: usize = 4;

/// A good image with blocks that compress well and one that does not at all.
pub(crate) fn image(project: &str, version: &str) -> Vec<u8> {
    let mut noise = 1_u32;
    let mut random = || {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 24) as u8
    };
    let code: Vec<u8> = (0..BLOCKS * 65536 - 20_000)
        .map(|at| if at / 65536 == 2 { random() } else { (at / 97) as u8 })
        .collect();
    crate::common::image_of(project, version, &code)
}

/// A key that is no secret.
pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}
