//! Health of a device in one word: `well`, `updating`, `troubled` or `away`.

use std::sync::LazyLock;

use otaru_format::status::UpdateState;

/// The words.
pub(crate) const ALL: [&str; 4] = ["well", "updating", "troubled", "away"];

/// It as an expression of SQL, over a table of devices named `d`. A failure is told until something else happens, whether or not the
/// device can be reached.
pub(super) static SQL: LazyLock<String> = LazyLock::new(|| {
    format!(
        "CASE WHEN d.state IN ({}) THEN 'troubled' WHEN NOT d.reachable THEN 'away' \
         WHEN d.state IN ({}) THEN 'updating' ELSE 'well' END",
        names(UpdateState::is_failure),
        names(UpdateState::is_under_way)
    )
});

fn names(are: impl Fn(UpdateState) -> bool) -> String {
    let names = UpdateState::ALL.into_iter().filter(|state| are(*state));
    names.map(|state| format!("'{state}'")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_state_is_both() {
        assert!(UpdateState::ALL.into_iter().all(|state| !(state.is_failure() && state.is_under_way())));
        assert_eq!(names(UpdateState::is_failure), "'rolled_back', 'failed', 'refused'");
    }
}
