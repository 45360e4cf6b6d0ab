//! The style of the API's description: every part is described, in one kind of sentence, by types that say what they hold.

use serde_json::Value;

/// Words with which no text begins: it says what the thing is, or does.
const QUESTIONS: [&str; 9] = ["What", "Who", "Whose", "Which", "Those", "How", "Where", "When", "Its"];

fn document() -> Value {
    serde_json::to_value(otaru_server::api::document()).unwrap()
}

/// Calls `look` with each operation and its name: `GET /api/v1/devices`.
fn each_operation(document: &Value, look: &mut impl FnMut(&str, &Value)) {
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            look(&format!("{} {path}", method.to_uppercase()), operation);
        }
    }
}

/// Calls `look` with each field of each schema and its name: `Device.id`.
fn each_field(document: &Value, look: &mut impl FnMut(&str, &Value)) {
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        for (field, value) in schema["properties"].as_object().into_iter().flatten() {
            look(&format!("{name}.{field}"), value);
        }
    }
}

/// Says what is wrong with a text, if something is.
fn fault(text: &str) -> Option<&'static str> {
    let first = text.split_whitespace().next().unwrap_or_default();
    let is_begun = text.starts_with(|first: char| first.is_uppercase() || first == '`');
    match () {
        () if text.is_empty() => Some("nothing is said"),
        () if QUESTIONS.contains(&first) => Some("begins like a question"),
        () if !is_begun => Some("begins with a small letter"),
        () if text.contains("[`") => Some("has a link that leads nowhere outside of the sources"),
        () => None,
    }
}

#[test]
fn operations_say_what_they_do() {
    let document = document();
    let (mut seen, mut bad) = (0, Vec::new());
    each_operation(&document, &mut |name, operation| {
        let summary = operation["summary"].as_str().unwrap_or_default();
        let first = summary.split_whitespace().next().unwrap_or_default();
        // "List devices", neither "Lists devices" nor "The devices".
        let is_verb = !first.ends_with('s') && !["A", "The", "All", "An"].contains(&first);
        if let Some(fault) = fault(summary) {
            bad.push(format!("{name}: {summary}: {fault}"));
        } else if !is_verb || summary.ends_with('.') {
            bad.push(format!("{name}: {summary}: wants a verb first, and no full stop"));
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            let text = response["description"].as_str().unwrap_or_default();
            if let Some(fault) = fault(text) {
                bad.push(format!("{name}: {status}: {text}: {fault}"));
            }
        }
        seen += 1;
    });
    assert_eq!(bad, Vec::<String>::new());
    assert!(seen >= 40, "{seen}");
}

#[test]
fn parameters_and_fields_are_described() {
    let document = document();
    let (mut seen, mut bad) = (0, Vec::new());
    let mut look = |name: &str, text: &str| {
        seen += 1;
        let ends = text.ends_with(['.', '…', ':']);
        match fault(text) {
            Some(fault) => bad.push(format!("{name}: {text}: {fault}")),
            None if !ends => bad.push(format!("{name}: {text}: no full stop")),
            None => {}
        }
    };
    each_operation(&document, &mut |name, operation| {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let text = parameter["description"].as_str().unwrap_or_default();
            look(&format!("{name}: {}", parameter["name"]), text);
        }
    });
    each_field(&document, &mut |name, field| {
        // What may be null, too, says it within.
        let within = field["oneOf"].as_array().into_iter().flatten();
        let text = [field].into_iter().chain(within).find_map(|one| one["description"].as_str());
        look(name, text.unwrap_or_default());
    });
    assert_eq!(bad, Vec::<String>::new());
    assert!(seen >= 250, "{seen}");
}

#[test]
fn nothing_is_an_object_of_which_nothing_is_said() {
    let document = document();
    let mut bad = Vec::new();
    each_field(&document, &mut |name, field| {
        let says = ["$ref", "oneOf", "anyOf", "allOf", "enum", "properties", "additionalProperties", "items"];
        let typed = field["type"].as_str().is_some_and(|one| one != "object") || field["type"].is_array();
        if !typed && !says.iter().any(|part| !field[part].is_null()) {
            bad.push(format!("{name}: {field}"));
        }
    });
    assert_eq!(bad, Vec::<String>::new());
}
