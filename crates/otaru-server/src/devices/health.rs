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

/// Conditions, over a table of devices named `d`, that are all true where [`SQL`] says this word: each a column and what it has to be, in a
/// form that its index is of use for.
pub(super) fn conditions(word: &str) -> Vec<(&'static str, String)> {
    let (failed, under_way) = (names(UpdateState::is_failure), names(UpdateState::is_under_way));
    let reachable = |is: &str| ("d.reachable", format!("= {is}"));
    match word {
        "troubled" => vec![("d.state", format!("IN ({failed})"))],
        "away" => vec![reachable("FALSE"), ("d.state", format!("NOT IN ({failed})"))],
        "updating" => vec![("d.state", format!("IN ({under_way})")), reachable("TRUE")],
        "well" => vec![reachable("TRUE"), ("d.state", format!("NOT IN ({failed}, {under_way})"))],
        // No such word: of no device.
        _ => vec![("d.id", "IS NULL".to_owned())],
    }
}

fn names(are: impl Fn(UpdateState) -> bool) -> String {
    let names = UpdateState::ALL.into_iter().filter(|state| are(*state));
    names.map(|state| format!("'{state}'")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn conditions_are_true_where_the_expression_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let db = crate::db::Db::open(&dir.path().join("otaru.db")).unwrap();
        let looked = db.write(|tx| {
            for (number, state) in UpdateState::ALL.into_iter().enumerate() {
                for reachable in [0, 1] {
                    let sql = "INSERT INTO devices (id, first_seen, state, reachable) VALUES (?, 1, ?, ?)";
                    let id = format!("{number}-{reachable}");
                    tx.execute(sql, crate::db::params![id, state.as_str(), reachable])?;
                }
            }
            let mut sums = [0; ALL.len()];
            for (word, sum) in ALL.iter().zip(&mut sums) {
                let all: Vec<_> =
                    conditions(word).into_iter().map(|(column, test)| format!("{column} {test}")).collect();
                let all = all.join(" AND ");
                let differ = format!(
                    "SELECT count(*) FILTER (WHERE ({all}) <> ({} = '{word}')), count(*) FILTER (WHERE {all}) FROM devices d",
                    *SQL,
                );
                let (wrong, count): (i64, i64) =
                    tx.query_row(&differ, (), |row| Ok((row.get(0)?, row.get(1)?)))?;
                assert_eq!(wrong, 0, "{word}");
                *sum = count;
            }
            Ok::<_, crate::db::DbError>(sums)
        });
        let sums = looked.await.unwrap();
        assert!(sums.iter().all(|sum| *sum > 0), "{sums:?}");
        assert_eq!(usize::try_from(sums.iter().sum::<i64>()).unwrap(), 2 * UpdateState::ALL.len());
    }

    #[test]
    fn no_state_is_both() {
        assert!(UpdateState::ALL.into_iter().all(|state| !(state.is_failure() && state.is_under_way())));
        assert_eq!(names(UpdateState::is_failure), "'rolled_back', 'failed', 'refused'");
    }
}
