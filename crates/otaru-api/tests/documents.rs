//! The examples in the documents are what they say.

use otaru_api::Spec;
use otaru_format::digest::Digest;
use otaru_rollout::Attempts;
use serde_json::Value;

#[test]
fn the_documented_order_is_read() {
    let text = include_str!("../../../docs/rollouts.md");
    let json = text.split("```json").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let shown: Value =
        serde_json::from_str(&json.replace("9a2f…e528", &Digest::of(b"x").to_string())).unwrap();
    let spec: Spec = serde_json::from_value(shown.clone()).unwrap();
    let engine = spec.engine().unwrap();
    assert_eq!(engine.validate(), Ok(()));
    assert_eq!(engine.attempts, Attempts::default());
    // Every field is shown.
    let all = serde_json::to_value(spec).unwrap();
    assert_eq!(shown.as_object().unwrap().len(), all.as_object().unwrap().len());
}
