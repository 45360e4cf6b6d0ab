use super::*;
use std::borrow::ToOwned as _;
use std::string::String;

#[test]
fn a_report_leads_back_on_a_host() {
    let status = Status::<&str> {
        device: "d",
        chip: "esp32c3",
        state: UpdateState::RolledBack,
        project: "p",
        product: Some("q"),
        version: "1.0",
        image: Digest::of(b"x"),
        slot: 1,
        confirmed: true,
        progress: None,
        attempt: 0,
        deployment: None,
        error: Some(Fault { code: Code::Panic, detail: "at \"main\":\n1" }),
        failed: Some(FailedImage { version: "2.0", image: Digest::of(b"y"), boots: 3 }),
        guards_lost: false,
        left_tls: false,
        tls: None,
        boot: "panic",
        uptime: 7,
        rssi: None,
        free_heap: Some(117_040),
        free_stack: None,
        order: None,
        epoch: None,
        boots: None,
        n: None,
    };
    let mut buf = [0; 1024];
    let json = status.to_json(&mut buf).unwrap();
    let host: Status<String> = serde_json::from_str(json).unwrap();
    assert_eq!(host.state, UpdateState::RolledBack);
    assert_eq!(host.product(), "q");
    assert_eq!(host.error.unwrap().detail, "at \"main\":\n1");
    assert_eq!(status.number(), None, "an older device numbers nothing");
    let full = Status {
        progress: Some(40),
        attempt: 2,
        deployment: Some("d-7"),
        guards_lost: true,
        left_tls: true,
        tls: Some(TlsReport { trusts: "0123456789abcdef", dates: Dates::ClockUnknown }),
        rssi: Some(-71),
        free_stack: Some(16_384),
        order: Some(u64::MAX),
        epoch: Some(Epoch(0x0123_4567_89ab_cdef)),
        boots: Some(u32::MAX),
        n: Some(7),
        error: Some(Fault { code: Code::Panic, detail: "at main" }),
        ..status
    };
    let json = full.to_json(&mut buf).unwrap();
    assert_eq!(json, serde_json::to_string(&full).unwrap());
    assert!(json.ends_with(r#""epoch":"0123456789abcdef","boots":4294967295,"n":7}"#), "{json}");
    let host: Status<String> = serde_json::from_str(json).unwrap();
    let number = ReportNumber { epoch: Epoch(0x0123_4567_89ab_cdef), boots: u32::MAX, n: 7 };
    assert_eq!((host.number(), host.order), (Some(number), Some(u64::MAX)));
}

#[test]
fn an_epoch_is_16_digits() {
    for epoch in [Epoch(0), Epoch(1), Epoch(u64::MAX)] {
        assert_eq!(std::format!("{epoch}").parse(), Ok(epoch));
    }
    for text in ["", "1", "+123456789abcdef", "0123456789abcdeg", "0123456789abcdef0"] {
        assert_eq!(text.parse::<Epoch>(), Err(BadEpoch), "{text}");
    }
}

#[test]
fn words_of_newer_devices_are_unknown() {
    let status: Status<String> = serde_json::from_str(
        r#"{"device":"d","chip":"esp32p4","state":"pondering","project":"p","version":"9",
            "image":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","slot":0,
            "confirmed":true,"error":{"code":"moonstruck","detail":"full moon"},"boot":"tidal","uptime":1,
            "mood":{"is":"new"}}"#,
    )
    .unwrap();
    assert_eq!(status.state, UpdateState::Unknown);
    assert_eq!((status.product.as_deref(), status.product()), (None, "p"));
    assert!(!status.state.is_final());
    let error = status.error.unwrap();
    assert_eq!((error.code, error.detail.as_str()), (Code::Unknown, "full moon"));
}

#[test]
fn cas_are_named_by_the_start_of_their_digest_as_far_as_they_are_few() {
    let named = CaIds::of([&b"one"[..], b"two"]);
    let digests =
        [Digest::of(b"one"), Digest::of(b"two")].map(|digest| std::format!("{digest}")[..16].to_owned());
    assert_eq!(named.as_str(), digests.join(" "));
    assert_eq!(CaIds::of([&b"x"[..]; CaIds::MOST]).as_str().len(), 67);
    assert_eq!(CaIds::of([&b"x"[..]; CaIds::MOST + 1]).as_str(), "");
}

#[test]
fn words_about_dates_are_read_back_as_themselves() {
    for dates in [Dates::Checked, Dates::ClockUnknown, Dates::Unchecked, Dates::Unknown] {
        assert_eq!(serde_json::to_string(&dates).unwrap(), std::format!("\"{dates}\""));
    }
    assert_eq!(serde_json::from_str::<Dates>("\"sometimes\"").unwrap(), Dates::Unknown);
}

#[test]
fn every_state_is_read_back_as_itself() {
    for (place, state) in UpdateState::ALL.into_iter().enumerate() {
        assert_eq!(state as usize, place);
        assert_eq!(serde_json::to_string(&state).unwrap(), std::format!("\"{state}\""));
        assert_eq!(UpdateState::of_name(state.as_str()), state);
    }
}

#[test]
fn every_code_is_read_back_as_itself() {
    for number in 0..=255 {
        let code = Code::from_number(number);
        let json = serde_json::to_string(&code).unwrap();
        assert_eq!(json, std::format!("\"{code}\""));
        assert_eq!(serde_json::from_str::<Code>(&json).unwrap(), code);
    }
}

#[test]
fn numbers_of_codes_lead_back() {
    for number in 0..=255 {
        let code = Code::from_number(number);
        assert!(code == Code::Unknown || code.number() == number);
    }
}
