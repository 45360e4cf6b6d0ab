//! Products: what a device takes a release for, and what says nothing about itself.

use super::*;

fn nameless(version: &str) -> Vec<u8> {
    changed(&image(version), |image| image[DESCRIPTOR_AT] ^= 1)
}

#[test]
fn what_says_nothing_about_itself_fits_nothing() {
    let empty = changed(&image("1.1.0"), |image| image[NAME_AT..NAME_AT + 32].fill(0));
    let unreadable = changed(&image("1.1.0"), |image| image[NAME_AT + 1] = 0xFF);
    for bytes in [nameless("1.1.0"), empty, unreadable] {
        run(async {
            let lab = lab(Setup::default()).await;
            let before = slot(&lab, SIZE);
            let end = update(&lab, &bytes).await;
            assert_eq!(outcome(&end), refused(Code::NoProduct), "{end:?}");
            let end = command(&lab, &bytes, &offer(Digest::of(&bytes))).await;
            assert_eq!(outcome(&end), refused(Code::NoProduct), "{end:?}");
            assert!(slot(&lab, SIZE) == before, "the slot was touched");
            let end = command(&lab, &bytes, forced()).await;
            assert_eq!((end.state, end.image), (UpdateState::Confirmed, Digest::of(&bytes)), "{end:?}");
            // From then on the device does not know its product, and takes nothing but by force.
            let end = update(&lab, &image("1.2.0")).await;
            assert_eq!(outcome(&end), refused(Code::NoProduct), "{end:?}");
            assert_eq!(command(&lab, &image("1.2.0"), forced()).await.version, "1.2.0");
            assert_eq!(update(&lab, &image("1.3.0")).await.version, "1.3.0");
        });
    }
}

#[test]
fn a_product_that_was_set_outlasts_an_image_without_a_name() {
    run(async {
        let mut setup = Setup::default();
        setup.config.product = Some(PROJECT);
        let lab = lab(setup).await;
        assert_eq!(command(&lab, &nameless("1.1.0"), forced()).await.state, UpdateState::Confirmed);
        let end = update(&lab, &of_product("toaster", "1.2.0")).await;
        assert_eq!(outcome(&end), refused(Code::WrongProduct), "{end:?}");
        assert_eq!((end.project.as_str(), end.product()), ("", PROJECT));
        assert_eq!(update(&lab, &image("1.2.0")).await.version, "1.2.0");
    });
}

#[test]
fn a_lamps_image_is_never_confirmed_on_a_lock() {
    let lamp = of_product("lamp", "9.9.9");
    let release = |recipe: Recipe| recipe.make(&lamp).unwrap();
    let releases = [
        release(Recipe { product: "lamp".into(), ..Recipe::new("9.9.9", 99) }),
        release(Recipe { product: "lamp".into(), also: vec!["lamp-2".into()], ..Recipe::new("9.9.9", 99) }),
    ];
    run(async {
        let lab = lab_with(strict(), &of_product("lock", "1.0.0")).await;
        let digest = Digest::of(&lamp);
        for bytes in releases.iter().chain([&lamp]) {
            for payload in [
                "http://files/new.bin".to_owned(),
                offer(digest),
                forced().to_owned(),
                format!(r#"{{"url":"http://files/new.bin","image":"{digest}","force":true}}"#),
            ] {
                let end = command(&lab, bytes, &payload).await;
                assert_eq!(end.state, UpdateState::Refused, "{payload}: {end:?}");
                assert!(
                    matches!(code(&end), Some(Code::WrongProduct | Code::Unsigned)),
                    "{payload}: {end:?}"
                );
                assert!(!end.error.unwrap().detail.contains("lamp"), "what a server sent is not told");
            }
        }
        assert!(lab.reports().iter().all(|report| report.version == "1.0.0"));
    });
}

#[test]
fn a_fleet_is_renamed_by_a_release_that_is_for_the_old_name_too() {
    let new_name = |version: &str| of_product("lab-pro", version);
    let release = |version: &str, sequence, product: &str, also: &[&str]| {
        let also = also.iter().map(|name| (*name).to_owned()).collect();
        let recipe = Recipe { product: product.into(), also, ..Recipe::new(version, sequence) };
        recipe.make(&new_name(version)).unwrap()
    };
    run(async {
        let mut lab = lab(strict()).await;
        let end = update(&lab, &release("1.1.0", 5, "lab-pro", &[])).await;
        assert_eq!(outcome(&end), refused(Code::WrongProduct), "{end:?}");
        let end = update(&lab, &release("1.1.0", 5, "lab-pro", &["lab", "laboratory"])).await;
        assert_eq!((end.state, end.product()), (UpdateState::Confirmed, "lab-pro"), "{end:?}");
        lab.power_on();
        lab.ready().await;
        assert_eq!(lab.reports().last().unwrap().product(), "lab-pro");
        let end = update(&lab, &release("1.2.0", 6, "lab", &[])).await;
        assert_eq!(outcome(&end), refused(Code::WrongProduct), "{end:?}");
        assert_eq!(update(&lab, &release("1.2.0", 6, "lab-pro", &[])).await.version, "1.2.0");
    });
    // Or by a setting, whatever the image's own name is.
    run(async {
        let mut setup = strict();
        setup.config.product = Some("shelf");
        setup.config.products = &["lab-pro"];
        let lab = lab(setup).await;
        assert_eq!(lab.reports().last().unwrap().product(), "shelf");
        let end = update(&lab, &release("1.1.0", 5, "lab", &[])).await;
        assert_eq!(outcome(&end), refused(Code::WrongProduct), "{end:?}");
        assert_eq!(update(&lab, &release("1.1.0", 5, "lab-pro", &[])).await.version, "1.1.0");
        assert_eq!(update(&lab, &release("1.2.0", 6, "shelf", &[])).await.version, "1.2.0");
    });
}

#[test]
fn a_release_that_is_rolled_back_renames_nothing() {
    run(async {
        let lab = lab(strict()).await;
        let spec =
            FirmwareSpec { project: "lab-pro".into(), ..firmware_spec("1.1.0", SIZE, Behaviour::Crash) };
        let recipe =
            Recipe { product: "lab-pro".into(), also: vec!["lab".into()], ..Recipe::new("1.1.0", 5) };
        let end = update(&lab, &recipe.make(&spec.build()).unwrap()).await;
        assert_eq!((end.state, end.product()), (UpdateState::RolledBack, "lab"), "{end:?}");
    });
}
