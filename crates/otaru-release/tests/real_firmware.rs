//! Real firmware, if `OTARU_FIRMWARE_PAIRS` names a folder of folders with `.bin` files: released, verified, and how
//! much smaller it gets. Otherwise there is nothing to do, and nothing to install that would change it.

use otaru_release::build::{Options, build};
use otaru_release::keys::SecretKey;
use otaru_release::verify::{kind_name, verify};
use otaru_testing::firmware::real_files;

#[test]
fn real_firmware_is_released_and_gets_smaller() {
    let key = SecretKey::from_seed(&[1; 32]);
    let mut total = (0_u64, 0_u64);
    for path in real_files() {
        let image = std::fs::read(&path).unwrap();
        let unsigned = build(&image, &Options::new(1), &mut |_| ()).unwrap();
        let file = unsigned.sign(&key).unwrap();
        let manifest = verify(&file, &[key.public()]).unwrap().file.manifest;
        let payload = manifest.payloads().next().unwrap();
        let percent = f64::from(payload.len) * 100.0 / f64::from(manifest.size);
        println!("{percent:5.1} %  {}  {}", kind_name(payload.kind), path.display());
        assert!(percent < 70.0, "{percent} % of {}", path.display());
        total = (total.0 + u64::from(payload.len), total.1 + u64::from(manifest.size));
    }
    println!("all: {} of {} bytes", total.0, total.1);
}
