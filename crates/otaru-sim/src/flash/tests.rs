use std::rc::Rc;

use embedded_storage_async::nor_flash::{NorFlash as _, ReadNorFlash as _};

use super::*;

fn blank() -> Flash {
    Flash::from_bytes(vec![0xFF; FLASH_LEN as usize], Timing::INSTANT, SimClock::new(1.0))
}

#[tokio::test]
async fn programming_only_clears_bits() {
    let mut flash = blank();
    flash.write(0, &[0xF0; 4]).await.unwrap();
    flash.write(0, &[0x3C; 4]).await.unwrap();
    let mut bytes = [0; 4];
    flash.read(0, &mut bytes).await.unwrap();
    assert_eq!(bytes, [0x30; 4]);
    assert_eq!(flash.write(2, &[0; 4]).await, Err(FlashError::NotAligned));
    assert_eq!(flash.erase(0, 100).await, Err(FlashError::NotAligned));
    assert_eq!(flash.write(FLASH_LEN, &[0; 4]).await, Err(FlashError::OutOfBounds));
}

#[tokio::test]
async fn a_chip_that_shares_behaves_like_one_of_its_own() {
    use rand::{Rng as _, SeedableRng as _};
    let mut rng = rand::rngs::SmallRng::seed_from_u64(7);
    let mut contents = vec![0xFF; 4 * BLOCK as usize];
    rng.fill(&mut contents[..BLOCK as usize]);
    let clock = SimClock::new(1.0);
    let shared: Rc<[u8]> = contents.clone().into();
    let mut light = Flash::sharing(Rc::clone(&shared), Timing::INSTANT, clock.clone());
    let mut plain = Flash::from_bytes(contents, Timing::INSTANT, clock);
    for _ in 0..2_000 {
        let at = rng.random_range(0..4 * BLOCK - 3 * SECTOR) & !3;
        if rng.random_bool(0.3) {
            let from = at / SECTOR * SECTOR;
            let to = from + SECTOR * rng.random_range(1..=3);
            light.erase(from, to).await.unwrap();
            plain.erase(from, to).await.unwrap();
        } else {
            let bytes = vec![rng.random::<u8>(); 4 * rng.random_range(1..=2_048)];
            light.write(at, &bytes).await.unwrap();
            plain.write(at, &bytes).await.unwrap();
        }
    }
    assert_eq!(light.contents(), plain.contents());
    assert_ne!(light.contents().unwrap(), *shared, "something was changed");
    let fresh = Flash::sharing(Rc::clone(&shared), Timing::INSTANT, SimClock::new(1.0));
    assert_eq!(fresh.contents().unwrap(), *shared, "what others share is not");
}

#[tokio::test]
async fn aligned_blocks_are_erased_as_blocks() {
    let mut flash = blank();
    flash.erase(BLOCK - SECTOR, 2 * BLOCK + SECTOR).await.unwrap();
    let counts = flash.counts();
    assert_eq!((counts.sector_erases, counts.block_erases), (2, 1));
}

#[tokio::test]
async fn a_page_counts_as_read_unless_it_was_erased_before() {
    let mut flash = blank();
    flash.trace();
    let mut bytes = [0; 8];
    flash.read(PAGE - 4, &mut bytes).await.unwrap();
    flash.erase(SECTOR, 2 * SECTOR).await.unwrap();
    flash.read(SECTOR, &mut bytes).await.unwrap();
    flash.write(SECTOR + PAGE, &bytes).await.unwrap();
    flash.write(2 * SECTOR, &bytes).await.unwrap();
    assert!(flash.holds(3 * SECTOR, &[0xFF; 4]).unwrap());
    assert!(!flash.holds(3 * SECTOR, &[0; 4]).unwrap());
    assert_eq!(flash.pages_read(), [0, 1, 32, 48]);
}

#[tokio::test]
async fn a_cut_leaves_the_rest_untouched() {
    let mut flash = blank();
    flash.cut_at(PowerCut { operation: 1, byte: 5 });
    flash.write(0, &[0; 8]).await.unwrap();
    let lost = flash.wait_power_lost();
    tokio::select! {
        result = flash.write(256, &[0; 16]) => panic!("a chip without power answers {result:?}"),
        () = lost => {}
    }
    let contents = flash.contents().unwrap();
    assert_eq!(contents[256..261], [0; 5]);
    assert_eq!(contents[262..272], [0xFF; 10]);
}
