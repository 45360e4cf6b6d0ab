//! Merged flash images, which are no firmware.

use super::*;

/// A merged flash image, its bootloader here: bootloader, partition table, application.
fn merged(offset: usize, bootloader: &[u8]) -> Vec<u8> {
    let mut file = vec![0xFF; offset];
    file.extend(bootloader);
    file.resize(0x8000, 0xFF);
    file.extend([0xAA, 0x50, 1, 2]);
    file.resize(0x10000, 0xFF);
    file.extend(image("1.1.0"));
    file
}

fn bootloader() -> Vec<u8> {
    changed(&firmware("1.1.0", 5000, Behaviour::Healthy), |image| image[DESCRIPTOR_AT] ^= 1)
}

#[test]
fn a_merged_image_is_refused_before_the_slot_is_touched() {
    let whole_flash = {
        let mut file = merged(0, &bootloader());
        file.resize(4 << 20, 0xFF);
        file
    };
    let files =
        [merged(0, &bootloader()), merged(0x1000, &bootloader()), merged(0x2000, &bootloader()), whole_flash];
    run(async {
        let lab = lab(Setup::default()).await;
        let before = slot(&lab, 0x1F_0000);
        for bytes in &files {
            for payload in ["http://files/new.bin", forced()] {
                let end = command(&lab, bytes, payload).await;
                assert_eq!(outcome(&end), refused(Code::MergedImage), "{payload}: {end:?}");
                assert!(end.error.unwrap().detail.contains("the application's own .bin"));
            }
        }
        assert!(slot(&lab, 0x1F_0000) == before, "the slot was touched");
        assert_eq!(update(&lab, &image("1.1.0")).await.version, "1.1.0");
    });
}

#[test]
fn a_merged_image_is_found_whatever_the_pieces_it_comes_in() {
    for step in [1, 3, 1000, 1460] {
        run(async {
            let lab = lab(Setup::default()).await;
            let bytes = merged(0, &bootloader());
            lab.http.handle(move |_| {
                let pause = Duration::from_micros(1);
                let drip = Act::Drip { bytes: bytes.clone(), step, pause };
                vec![head(200, &[("Content-Length", &bytes.len().to_string())]), drip]
            });
            assert_eq!(outcome(&lab.update(LONG).await.unwrap()), refused(Code::MergedImage), "{step}");
        });
    }
}

#[test]
fn a_bootloader_that_tells_a_name_is_part_of_a_merged_image_all_the_same() {
    run(async {
        let lab = lab(Setup::default()).await;
        let bootloader = firmware("1.1.0", 5000, Behaviour::Healthy);
        let end = update(&lab, &merged(0, &bootloader)).await;
        assert_eq!(code(&end), Some(Code::MergedImage), "{end:?}");
        assert!(lab.runs("1.0.0"));
    });
}

#[test]
fn a_release_of_a_merged_image_is_refused_with_its_first_block() {
    let merged = merged(0, &bootloader());
    for (compressed, setup) in [(true, strict()), (false, strict()), (true, Setup::default())] {
        run(async {
            let key = Some(Key(1)).filter(|_| !setup.config.allow_unsigned);
            let payload = if key.is_none() { forced() } else { "http://files/new.bin" };
            let lab = lab(setup).await;
            let release = Recipe { compressed, key, ..Recipe::new("1.1.0", 5) }.make(&merged).unwrap();
            // The second time it stands in the slot already.
            for _ in 0..2 {
                let end = command(&lab, &release, payload).await;
                assert_eq!(outcome(&end), refused(Code::MergedImage), "{end:?}");
            }
            assert!(lab.runs("1.0.0"));
        });
    }
}
