//! Commands: an offer or a request that is understood can be written, and is understood the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use otaru_format::command::{Command, MAX_COMMAND};

fuzz_target!(|payload: &[u8]| {
    let (mut scratch, mut buf, mut again) = ([0; MAX_COMMAND], [0; 8 * MAX_COMMAND], [0; MAX_COMMAND]);
    let offer = match Command::parse(payload, &mut scratch) {
        Ok(Command::Update(offer)) => offer,
        Ok(Command::Report(request)) => {
            let json = request.emit_json(&mut buf).expect("there is room");
            assert_eq!(Command::parse(json.as_bytes(), &mut again), Ok(Command::Report(request)));
            return;
        }
        Ok(Command::Cancel) | Err(_) => return,
    };
    let json = offer.emit_json(&mut buf).expect("there is room, even if all must be escaped");
    if json.len() <= MAX_COMMAND {
        assert_eq!(Command::parse(json.as_bytes(), &mut again), Ok(Command::Update(offer)));
    }
});
