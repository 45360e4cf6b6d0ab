//! Questions and answers in JSON: `/v1/broker/connect`, `/publish` and `/subscribe`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use bytes::Bytes;
use otaru_api::{BrokerAnswer, BrokerDecision, BrokerLogin, BrokerTopic};
use serde::de::DeserializeOwned;

use super::decide::{Attempt, Decision, Decisions, Proof, address};
use crate::http::Peer;
use crate::problem::Problem;

/// The answer, or a problem that brokers take for a refusal.
type Answer = Result<Json<BrokerAnswer>, Problem>;

pub(super) async fn connect(
    State(decisions): State<Arc<Decisions>>,
    Extension(broker): Extension<Peer>,
    body: Bytes,
) -> Answer {
    let attempt = attempt(read(&body)?, broker)?;
    let decided = decisions.connect(&attempt).await;
    decisions.metrics().broker_asked("connect", decided.as_ref().ok());
    decided.map(answer)
}

pub(super) async fn publish(State(decisions): State<Arc<Decisions>>, body: Bytes) -> Answer {
    let BrokerTopic { client_id, username, topic } = read(&body)?;
    let decided = decisions.publish(&client_id, given(username).as_deref(), &topic).await;
    decisions.metrics().broker_asked("publish", decided.as_ref().ok());
    decided.map(answer)
}

pub(super) async fn subscribe(State(decisions): State<Arc<Decisions>>, body: Bytes) -> Answer {
    let BrokerTopic { client_id, username, topic } = read(&body)?;
    let decided = decisions.subscribe(&client_id, given(username).as_deref(), &topic).await;
    decisions.metrics().broker_asked("subscribe", decided.as_ref().ok());
    decided.map(answer)
}

fn attempt(login: BrokerLogin, broker: Peer) -> Result<Attempt, Problem> {
    let BrokerLogin { client_id: client, username, password, certificate, address: from } = login;
    // Brokers that fill in a template have empty texts where there is nothing.
    let certificate = certificate.filter(|certificate| !certificate.common_name.is_empty());
    let proof = match (given(password), certificate) {
        (Some(password), _) => Some(Proof::Password(password)),
        (None, Some(certificate)) => Some(Proof::Certificate {
            common_name: certificate.common_name,
            serial: serial(&certificate.serial).ok_or_else(|| {
                Problem::invalid("`certificate.serial` is the certificate's serial number in hexadecimal")
            })?,
        }),
        (None, None) => None,
    };
    let bad_address = || Problem::invalid("`address` is an address, with a port or without");
    let address = given(from).map(|text| address(&text).ok_or_else(bad_address)).transpose()?;
    Ok(Attempt { client, username: given(username), proof, address, broker: broker.0 })
}

/// Returns a text, unless it is empty.
fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Returns a serial number as the server notes it.
fn serial(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|c| *c != ':').map(|c| c.to_ascii_lowercase()).collect();
    let good =
        !digits.is_empty() && digits.len() <= 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    good.then(|| digits.trim_start_matches('0').to_owned())
}

/// Reads a question. The library's words could have its password in them.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        let what = if error.is_data() { "not a question of this kind" } else { "no JSON" };
        Problem::new(StatusCode::BAD_REQUEST, "bad-json", format!("this is {what}: {place}"))
    })
}

fn answer(decision: Decision) -> Json<BrokerAnswer> {
    Json(match decision {
        Ok(()) => BrokerAnswer { result: BrokerDecision::Allow, reason: None },
        Err(reason) => BrokerAnswer { result: BrokerDecision::Deny, reason: Some(reason) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_read_however_it_is_written() {
        for (text, read) in
            [("0A:bc", Some("abc")), ("00ff", Some("ff")), ("", None), ("12 34", None), ("0x1f", None)]
        {
            assert_eq!(serial(text).as_deref(), read, "{text}");
        }
        assert_eq!(serial(&"f".repeat(65)), None);
    }

    #[test]
    fn what_is_wrong_with_a_question_is_told_without_its_password() {
        let bad = br#"{"client_id": "lamp", "password": ["s3cret"], "username": 7}"#;
        let problem = read::<BrokerLogin>(bad).unwrap_err();
        assert!(!format!("{problem:?}").contains("s3cret"), "{problem:?}");
    }
}
