//! Images and sequences: which image is the same, and which number belongs to it.

use super::*;

#[test]
fn the_same_program_in_another_image_is_another_image() {
    // The header of a larger flash: nothing else differs.
    let other = changed(&image("1.0.0"), |image| image[FLASH_AT] = 0x40 | image[FLASH_AT] & 15);
    for payload in ["http://files/new.bin".to_owned(), offer(Digest::of(&other))] {
        run(async {
            let lab = lab(Setup::default()).await;
            let end = command(&lab, &other, &payload).await;
            assert_eq!((end.state, end.image), (UpdateState::Confirmed, Digest::of(&other)), "{payload}");
            let end = command(&lab, &other, &payload).await;
            assert_eq!(end.state, UpdateState::Current, "{payload}: {end:?}");
        });
    }
    // Of an image that was offered, nothing but its digest says that it runs.
    run(async {
        let lab = lab(Setup::default()).await;
        let end = command(&lab, &image("1.0.0"), &offer(Digest::of(&other))).await;
        assert_eq!(outcome(&end), (UpdateState::Failed, Some(Code::DigestMismatch)), "{end:?}");
    });
}

#[test]
fn the_same_program_in_another_image_did_not_fail_before() {
    let bad = firmware("1.1.0", SIZE, Behaviour::Crash);
    let other = changed(&bad, |image| image[FLASH_AT] = 0x30 | image[FLASH_AT] & 15);
    run(async {
        let lab = lab(Setup::default()).await;
        assert_eq!(update(&lab, &bad).await.state, UpdateState::RolledBack);
        assert_eq!(outcome(&update(&lab, &bad).await), refused(Code::FailedBefore));
        let end = command(&lab, &bad, &offer(Digest::of(&bad))).await;
        assert_eq!(outcome(&end), refused(Code::FailedBefore));
        assert_eq!(command(&lab, &other, &offer(Digest::of(&other))).await.state, UpdateState::RolledBack);
        // Only the last one is remembered.
        assert_eq!(update(&lab, &bad).await.state, UpdateState::RolledBack);
        assert_eq!(update(&lab, &other).await.state, UpdateState::RolledBack);
    });
}

#[test]
fn a_sequence_belongs_to_one_image() {
    let release = |version: &str, sequence| Recipe::new(version, sequence).make(&image(version)).unwrap();
    run(async {
        let lab = lab(strict()).await;
        assert_eq!(update(&lab, &release("1.1.0", 7)).await.version, "1.1.0");
        assert_eq!(update(&lab, &release("1.1.0", 7)).await.state, UpdateState::Current);
        let end = update(&lab, &release("1.2.0", 7)).await;
        assert_eq!(outcome(&end), refused(Code::Downgrade), "{end:?}");
        assert!(end.error.unwrap().detail.contains("sign this one again with a higher sequence"));
        assert_eq!(outcome(&update(&lab, &release("1.2.0", 6)).await), refused(Code::Downgrade));
        // The way back is the old image in a later release.
        assert_eq!(update(&lab, &release("1.0.0", 8)).await.version, "1.0.0");
        assert_eq!(outcome(&update(&lab, &release("1.1.0", 7)).await), refused(Code::Downgrade));
    });
}

#[test]
fn a_later_release_of_an_image_that_failed_is_tried() {
    let bad = firmware("1.1.0", SIZE, Behaviour::Crash);
    for named in [false, true] {
        for setup in [strict(), Setup::default()] {
            let lab_is_lax = setup.config.allow_unsigned;
            run(async {
                let lab = lab(setup).await;
                let key = Some(Key(1)).filter(|_| !lab_is_lax);
                let release = |sequence| Recipe { key, ..Recipe::new("1.1.0", sequence) }.make(&bad).unwrap();
                let payload = if named { offer(Digest::of(&bad)) } else { "http://files/new.bin".to_owned() };
                for sequence in [7, 8] {
                    let end = command(&lab, &release(sequence), &payload).await;
                    assert_eq!(end.state, UpdateState::RolledBack, "{sequence}: {end:?}");
                    let end = command(&lab, &release(sequence), &payload).await;
                    assert_eq!(outcome(&end), refused(Code::FailedBefore), "{sequence}: {end:?}");
                }
            });
        }
    }
}
