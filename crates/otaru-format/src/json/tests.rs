use super::reader::DEPTH;
use super::*;
use proptest::prelude::*;
use std::string::String;
use std::vec::Vec;
use std::{format, vec};

/// An object's members, as [`Object`] reads them.
fn read(text: &str) -> Result<Vec<(String, String)>, BadJson> {
    let mut object = Object::open(text)?;
    let mut members = vec![];
    while let Some((name, value)) = object.next()? {
        let shown = match value {
            Value::Text(text) => format!("{:?}", unescaped(text)),
            Value::Number(number) => format!("{number}"),
            Value::Flag(flag) => format!("{flag}"),
            Value::Null => "null".into(),
            Value::Other => "other".into(),
        };
        members.push((unescaped(name), shown));
    }
    Ok(members)
}

fn unescaped(text: Text<'_>) -> String {
    let mut buf = vec![0; 4096];
    let plain = String::from(text.unescape(&mut buf).unwrap().0);
    assert!(text.is(&plain));
    assert!(!text.is(&format!("{plain}x")) && !text.is(plain.get(1..).unwrap_or("x")));
    plain
}

/// The same as serde_json reads it. It drops the first of two members of one name, so these are compared by name and last value.
fn reference(text: &str) -> Option<Vec<(String, String)>> {
    let serde_json::Value::Object(map) = serde_json::from_str(text).ok()? else { return None };
    let shown = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => format!("{text:?}"),
        serde_json::Value::Bool(flag) => format!("{flag}"),
        serde_json::Value::Null => "null".into(),
        serde_json::Value::Number(number) => {
            number.as_u64().map_or("other".into(), |number| format!("{number}"))
        }
        _ => "other".into(),
    };
    Some(map.iter().map(|(name, value)| (name.clone(), shown(value))).collect())
}

fn agree(text: &str) {
    let ours = read(text).ok().map(|members| {
        let mut last = std::collections::BTreeMap::new();
        last.extend(members);
        last.into_iter().collect::<Vec<_>>()
    });
    let mut theirs = reference(text);
    if let Some(theirs) = &mut theirs {
        theirs.sort();
    }
    // A number that serde_json's f64 cannot hold is JSON all the same.
    if theirs.is_none() && text.contains(['e', 'E']) {
        return;
    }
    assert_eq!(ours, theirs, "{text}");
}

#[test]
fn objects_are_read_as_the_rfc_has_them() {
    for text in [
        "{}",
        " { } ",
        r#"{"a":1}"#,
        "\t{\n\"a\" : \"b\" , \"c\":null}\r\n",
        r#"{"a":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}"#,
        r#"{"a":"é😀\u0000"}"#,
        r#"{"\u0061b":true,"c":false}"#,
        r#"{"n":0,"m":-0,"o":-1,"p":1.5,"q":1e3,"r":1E-3,"s":18446744073709551615,"t":18446744073709551616}"#,
        r#"{"a":[],"b":{},"c":[1,"x",[true,null],{"y":[{}]}],"d":{"e":{"f":[[[]]]}}}"#,
        // Not JSON.
        "",
        "{",
        "}",
        "{}x",
        "{}{}",
        "[]",
        "{,}",
        r#"{"a":1,}"#,
        r#"{"a":1 "b":2}"#,
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{a:1}"#,
        r#"{"a":01}"#,
        r#"{"a":-}"#,
        r#"{"a":1.}"#,
        r#"{"a":.5}"#,
        r#"{"a":1e}"#,
        r#"{"a":+1}"#,
        r#"{"a":0x1}"#,
        r#"{"a":tru}"#,
        r#"{"a":nullx}"#,
        r#"{"a":"x}"#,
        r#"{"a":"\x"}"#,
        r#"{"a":"\u12"}"#,
        r#"{"a":"\u+123"}"#,
        r#"{"a":"\ud83d"}"#,
        r#"{"a":"\ud83dx"}"#,
        r#"{"a":"\ud83d\u0041"}"#,
        r#"{"a":"\ude00"}"#,
        "{\"a\":\"\n\"}",
        r#"{"a":[}"#,
        r#"{"a":[1,]}"#,
        r#"{"a":[1}]}"#,
        r#"{"a":{"b":1]}"#,
        r#"{"a":{"b"}}"#,
        r#"{"a":[1 2]}"#,
        r#"{"a":[{"b":1},{"c":}]}"#,
    ] {
        agree(text);
    }
}

#[test]
fn nesting_has_a_bound() {
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert!(read(&nested(DEPTH as usize)).is_ok());
    assert_eq!(read(&nested(DEPTH as usize + 1)), Err(BadJson));
}

#[test]
fn a_buffer_that_is_too_short_is_told() {
    let write = |len: usize| {
        let mut buf = vec![0; len];
        let mut writer = Writer::new(&mut buf);
        writer.text("a", "b");
        writer.finish().map(String::from)
    };
    assert_eq!(write(9).as_deref(), Some(r#"{"a":"b"}"#));
    assert!((0..9).all(|len| write(len).is_none()));
}

/// JSON, and text near it: pieces of the grammar in any order.
fn near_json() -> impl Strategy<Value = String> {
    const PIECES: [&str; 34] = [
        "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\"a\":", "\"b\":1", " ", "\n", "0", "1", "-", ".5",
        "12", "e3", "true", "false", "null", "\\", "\\n", "\\u00e9", "\\ud83d", "\\ude00", "é", "x", "\u{1}",
        "{}", "[]", "1,", "\"c\":\"", "\"d\":[",
    ];
    prop::collection::vec(prop::sample::select(&PIECES[..]), 0..14)
        .prop_map(|pieces| format!("{{{}}}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn anything_is_read_as_serde_json_reads_it(text in near_json()) {
        agree(&text);
    }

    #[test]
    fn what_is_written_leads_back(text in ".{0,40}", number: u64, signed: i32, flag: bool) {
        let mut buf = [0; 1024];
        let mut writer = Writer::new(&mut buf);
        writer.text("text", &text);
        writer.number("number", number);
        writer.signed("signed", signed);
        writer.open("within");
        writer.flag("flag", flag);
        writer.close();
        writer.text_if("none", None);
        let json: serde_json::Value = serde_json::from_str(writer.finish().unwrap()).unwrap();
        prop_assert_eq!(
            json,
            serde_json::json!({"text": text, "number": number, "signed": signed, "within": {"flag": flag}})
        );
    }
}
