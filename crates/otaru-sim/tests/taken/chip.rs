//! Revision and flash of the chip, held against the header.

use super::*;

fn asking(min: u16, max: u16, flash: u8) -> Vec<u8> {
    changed(&image("1.1.0"), |image| {
        image[FLASH_AT] = flash << 4 | image[FLASH_AT] & 15;
        image[MIN_REVISION_AT..MIN_REVISION_AT + 2].copy_from_slice(&min.to_le_bytes());
        image[MAX_REVISION_AT..MAX_REVISION_AT + 2].copy_from_slice(&max.to_le_bytes());
    })
}

#[test]
fn revision_and_flash_of_the_chip_are_held_against_the_header() {
    let chip = facts(103, 4 << 20);
    for (bytes, expected) in [
        (asking(0, 199, 2), None),
        (asking(103, 103, 1), None),
        (asking(0, 0, 0), None),
        (asking(0, 65535, 2), None),
        (asking(104, 199, 2), Some(Code::WrongRevision)),
        (asking(0, 99, 2), Some(Code::WrongRevision)),
        (asking(300, 0, 2), Some(Code::WrongRevision)),
        (asking(0, 199, 3), Some(Code::FlashTooSmall)),
        // A size that no chip has says nothing.
        (asking(0, 199, 9), None),
    ] {
        let raw = Recipe { compressed: false, ..Recipe::new("1.1.0", 5) }.make(&bytes).unwrap();
        let packed = Recipe::new("1.1.0", 5).make(&bytes).unwrap();
        let strict = Setup { facts: chip, ..strict() };
        let lax = Setup { facts: chip, ..Setup::default() };
        for (setup, file, kind) in
            [(lax, &bytes, "bare"), (strict.clone(), &raw, "raw"), (strict.clone(), &packed, "packed")]
        {
            run(async {
                let lab = lab(setup).await;
                let end = update(&lab, file).await;
                let Some(expected) = expected else {
                    assert_eq!(end.version, "1.1.0", "{kind}: {end:?}");
                    return;
                };
                assert_eq!(outcome(&end), refused(expected), "{kind}: {end:?}");
                // What was written of it is looked at, and refused without a byte more.
                let end = update(&lab, file).await;
                assert_eq!(outcome(&end), refused(expected), "{kind}: {end:?}");
                assert!(lab.runs("1.0.0"));
            });
        }
        // A chip that does not tell takes them all.
        run(async {
            let lab = lab(Setup::default()).await;
            assert_eq!(update(&lab, &bytes).await.version, "1.1.0");
        });
    }
}

#[test]
fn an_image_that_stands_in_the_slot_is_held_against_the_chip_too() {
    let bad = asking(300, 0, 2);
    for setup in [strict(), Setup::default()] {
        let setup = Setup { facts: facts(3, 4 << 20), ..setup };
        run(async {
            let allowed = setup.config.allow_unsigned;
            let lab = lab(setup).await;
            lab.flash.provision(SLOT_1 as u32, &bad).unwrap();
            let release = Recipe::new("1.1.0", 5).make(&bad).unwrap();
            let bytes = if allowed { &bad } else { &release };
            let sent = lab.http.sent();
            let end = command(&lab, bytes, &offer(Digest::of(&bad))).await;
            assert_eq!(outcome(&end), refused(Code::WrongRevision), "{end:?}");
            assert!(lab.http.sent() - sent < 60_000, "looked at in the slot");
        });
    }
}

#[test]
fn what_a_patch_makes_is_held_against_the_chip_too() {
    let (old, bad) = (image("1.0.0"), asking(300, 0, 2));
    let patch = otaru_delta::encode(&old, &bad).unwrap();
    let recipe = Recipe { patches: vec![(Digest::of(&old), patch)], ..Recipe::new("1.1.0", 5) };
    run(async {
        let lab = lab(Setup { facts: facts(3, 4 << 20), ..strict() }).await;
        let end = update(&lab, &recipe.make(&bad).unwrap()).await;
        assert_eq!(outcome(&end), refused(Code::WrongRevision), "{end:?}");
        assert!(lab.runs("1.0.0"));
    });
}
