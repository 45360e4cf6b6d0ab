//! Commands for the API's operations. The operations are read from the API's own description, so that none can be forgotten; those that
//! no command asks for are in a table of `docs/server.md`, with the reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use clap::CommandFactory as _;

use crate::cli::Cli;

/// Operations, and the command that asks for each.
const COMMANDS: [(&str, &str); 38] = [
    ("GET /devices", "devices"),
    ("POST /devices", "devices add"),
    ("POST /devices/tags", "devices tag"),
    ("GET /devices/{id}", "devices show"),
    ("PATCH /devices/{id}", "devices label"),
    ("POST /devices/{id}/allow-claim", "devices allow-claim"),
    ("GET /devices/{id}/history", "devices show"),
    ("POST /devices/{id}/password", "devices password"),
    ("POST /devices/{id}/retire", "devices retire"),
    ("POST /devices/{id}/unretire", "devices unretire"),
    ("GET /events", "watch"),
    ("GET /fleet", "watch"),
    ("GET /servers", "servers"),
    ("GET /fleet-keys", "devices key list"),
    ("POST /fleet-keys", "devices key create"),
    ("DELETE /fleet-keys/{id}", "devices key revoke"),
    ("GET /me", "login"),
    ("GET /releases", "release list"),
    ("POST /releases", "release upload"),
    ("GET /releases/{id}", "release show"),
    ("PATCH /releases/{id}", "release notes"),
    ("POST /releases/{id}/unyank", "release unyank"),
    ("POST /releases/{id}/yank", "release yank"),
    ("GET /rollouts", "rollout list"),
    ("POST /rollouts", "rollout create"),
    ("POST /rollouts/preview", "rollout create"),
    ("GET /rollouts/{id}", "rollout show"),
    ("POST /rollouts/{id}/abort", "rollout abort"),
    ("POST /rollouts/{id}/advance", "rollout advance"),
    ("GET /rollouts/{id}/deployments", "rollout show"),
    ("POST /rollouts/{id}/deployments/{device}/retry", "rollout retry"),
    ("POST /rollouts/{id}/finish", "rollout finish"),
    ("POST /rollouts/{id}/pause", "rollout pause"),
    ("POST /rollouts/{id}/resume", "rollout resume"),
    ("POST /rollouts/{id}/start", "rollout start"),
    ("GET /tokens", "token list"),
    ("POST /tokens", "token create"),
    ("DELETE /tokens/{id}", "token revoke"),
];

/// Whether there is such a command.
fn exists(command: &str) -> bool {
    let mut at = Some(Cli::command());
    for word in command.split(' ') {
        at = at.and_then(|parent| parent.find_subcommand(word).cloned());
    }
    at.is_some()
}

#[test]
fn every_operation_has_a_command_or_the_document_says_why_it_has_none() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/server.md");
    let document = fs::read_to_string(document).unwrap();
    let mut commands = BTreeMap::from(COMMANDS);
    for operation in otaru_server::api::operations() {
        let is_explained = document.contains(&format!("| `{operation}` | "));
        match commands.remove(operation.as_str()) {
            Some(command) => {
                assert!(exists(command), "there is no command for {operation}: otaru {command}");
                assert!(!is_explained, "the document says that {operation} has no command");
            }
            None => assert!(
                is_explained,
                "{operation} is new: name its command here, or say in docs/server.md why it has none"
            ),
        }
    }
    assert!(commands.is_empty(), "the API has these no more: {commands:?}");
}
