//! Files that are not quite an image: damage, and blocks behind the image.

use super::*;

fn with_signature_block(image: &[u8]) -> Vec<u8> {
    let mut file = image.to_vec();
    file.resize(file.len().next_multiple_of(4096), 0xFF);
    file.extend([0xE7, 0x02]);
    file.extend((0..4094_u32).map(|at| (at % 251) as u8));
    file
}

#[test]
fn damage_to_the_first_block_is_fetched_again_and_not_believed() {
    let release = Recipe { compressed: false, ..Recipe::new("1.1.0", 5) }.make(&image("1.1.0")).unwrap();
    run(async {
        let lab = lab(Setup { facts: facts(3, 4 << 20), ..strict() }).await;
        let at = release.windows(4).position(|bytes| bytes == &image("1.1.0")[..4]).unwrap();
        let good = release.clone();
        lab.http.handle(move |request| {
            let mut bytes = good.clone();
            if request.number == 0 {
                bytes[at + MIN_REVISION_AT + 1] = 9;
            }
            file(request, &bytes, "\"r\"")
        });
        assert_eq!(lab.update(LONG).await.unwrap().version, "1.1.0");
    });
}

#[test]
fn a_signature_block_is_kept_and_anything_else_is_named_and_cut() {
    let new = image("1.1.0");
    let signed = with_signature_block(&new);
    let line = "Leaving out what follows the image.";
    let written = |lab: &Lab| slot(lab, signed.len() + 8192);
    let blank_from = |bytes: &[u8], at: usize| bytes[at..].iter().all(|byte| *byte == 0xFF);
    let release = Recipe::new("1.1.0", 5);
    let release = release.make_of(&signed, Digest::of(&new)).unwrap();
    for (setup, file) in [(Setup::default(), &signed), (strict(), &release)] {
        run(async {
            let lab = lab(setup).await;
            let end = update(&lab, file).await;
            assert_eq!((end.state, end.image), (UpdateState::Confirmed, Digest::of(&new)), "{end:?}");
            let slot = written(&lab);
            assert!(slot.starts_with(&signed) && blank_from(&slot, signed.len()));
            assert!(!lab.lines().iter().any(|have| have == line));
        });
    }
    let junk = |front: &[u8]| [front, &[0x55; 3000]].concat();
    let mut no_block = signed.clone();
    no_block[signed.len() - 4096] = 0xE8;
    let mut no_gap = signed.clone();
    no_gap[new.len()] = 0;
    for (file, kept) in [(junk(&new), &new), (no_block, &new), (no_gap, &new), (junk(&signed), &signed)] {
        run(async {
            let lab = lab(Setup::default()).await;
            let end = update(&lab, &file).await;
            assert_eq!((end.state, end.image), (UpdateState::Confirmed, Digest::of(&new)), "{end:?}");
            let slot = written(&lab);
            assert!(slot.starts_with(kept) && blank_from(&slot, kept.len()), "more was written than is kept");
            assert!(lab.lines().iter().any(|have| have == line), "{:?}", lab.lines());
        });
    }
}

#[test]
fn a_signature_block_survives_a_connection_that_breaks_before_it() {
    let new = image("1.1.0");
    let signed = with_signature_block(&new);
    for cut in [new.len(), new.len() + 5, signed.len() - 4096, signed.len() - 4095, signed.len() - 1] {
        let bytes = signed.clone();
        run(async {
            let lab = lab(Setup::default()).await;
            lab.http.handle(move |request| {
                let mut acts = file(request, &bytes, "\"s\"");
                if request.number == 0
                    && let Some(Act::Send(body)) = acts.get_mut(1)
                {
                    body.truncate(cut);
                    acts.push(Act::Close);
                }
                acts
            });
            assert_eq!(lab.update(LONG).await.unwrap().version, "1.1.0");
            assert!(slot(&lab, signed.len()) == signed, "cut at {cut}");
        });
    }
}
