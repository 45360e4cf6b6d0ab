//! CAs that devices trust, as they report them: what they are called, and which devices are lost when one ends.

use std::collections::BTreeMap;

use otaru_api::{EndingCa, Timestamp, TrustedCa};
use otaru_rollout::{Span, Time};
use serde_json::Value;

use crate::app::App;
use crate::db::{Connection, DbError, ToValue as _};
use crate::tls::KnownCa;

/// Time before its end in which a CA is told to be about to end: as long as a fleet may take to get a release.
const SOON: Span = Span::hours(90 * 24);
/// The most CAs that are asked about at once; a server knows fewer.
const MOST: usize = 16;

/// Returns the CAs that a report names, with what the server knows of them.
pub(crate) fn of_report(report: Option<&Value>, known: &[KnownCa]) -> Vec<TrustedCa> {
    let text = report.and_then(|report| report["tls"]["trusts"].as_str()).unwrap_or_default();
    let ids = text.split_whitespace();
    ids.map(|id| {
        let ca = known.iter().find(|ca| ca.id == id);
        let name = ca.and_then(|ca| ca.name.clone());
        TrustedCa { id: id.to_owned(), name, ends_at: ca.and_then(|ca| moment(ca.ends)) }
    })
    .collect()
}

/// Returns the known CAs that end soon, or have ended, and that some devices trust and no other. Reports are read once for all of them, and not
/// at all where none ends.
///
/// # Errors
/// Errors of the database.
fn ending(tx: &Connection, known: &[KnownCa], now: Time) -> Result<Vec<EndingCa>, DbError> {
    let ends_soon = |ca: &&KnownCa| ca.ends.0 <= now.0.saturating_add(SOON.0);
    let ending: Vec<&KnownCa> = known.iter().filter(ends_soon).take(MOST).collect();
    if ending.is_empty() {
        return Ok(Vec::new());
    }
    let devices = devices_by_only_ca(tx, &ending)?;
    let told = |ca: &KnownCa| Some(told(ca, *devices.get(&ca.id)?, now));
    Ok(ending.into_iter().filter_map(told).collect())
}

/// Counts the devices that trust one of these CAs and no other, by the CA.
fn devices_by_only_ca(tx: &Connection, cas: &[&KnownCa]) -> Result<BTreeMap<String, u64>, DbError> {
    let ids = vec!["?"; cas.len()].join(", ");
    let sql = format!(
        "SELECT trusts, count(*) FROM devices WHERE retired_at IS NULL AND trusts IN ({ids}) GROUP BY trusts"
    );
    let ids: Vec<_> = cas.iter().map(|ca| ca.id.to_value()).collect();
    let rows = tx.prepare(&sql);
    rows.query_map(ids, |row| Ok((row.get(0)?, row.get::<i64>(1)?.unsigned_abs())))?.collect()
}

/// Reads them now.
///
/// # Errors
/// Errors of the database.
pub(crate) async fn ending_now(app: &App) -> Result<Vec<EndingCa>, DbError> {
    let (known, now) = (app.cas.all(), app.clock.now());
    app.db.read(move |tx| ending(tx, &known, now)).await
}

fn told(ca: &KnownCa, devices: u64, now: Time) -> EndingCa {
    let ca_told = TrustedCa { id: ca.id.clone(), name: ca.name.clone(), ends_at: moment(ca.ends) };
    let ends = ca_told.ends_at.map(|ends| ends.utc().format("%Y-%m-%d").to_string()).unwrap_or_default();
    let verb = if now > ca.ends { "ended" } else { "ends" };
    let (number, trust) = if devices == 1 { ("1 device", "trusts") } else { ("devices", "trust") };
    let number = if devices == 1 { number.to_owned() } else { format!("{devices} {number}") };
    let detail = format!(
        "the CA \u{201c}{}\u{201d} {verb} on {ends}, and {number} {trust} no other: they cannot come back after that. Send them a \
         release that trusts its successor too; `otaru devices --only-trusts {}` lists them",
        ca.name.as_deref().unwrap_or("without a name"),
        ca.id
    );
    EndingCa { ca: ca_told, devices, detail }
}

fn moment(time: Time) -> Option<Timestamp> {
    i64::try_from(time.0).ok().and_then(Timestamp::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{Db, params};

    const NOW: Time = Time(1_800_000_000_000);

    fn known(number: usize, days: i64) -> KnownCa {
        let id = format!("{number:016x}");
        KnownCa {
            id,
            name: Some(format!("ca {number}")),
            ends: Time(NOW.0.saturating_add_signed(days * 24 * 3_600_000)),
        }
    }

    /// The CAs of these that are told to end, with the number of devices, where each device's last report was one of these.
    async fn told(known: Vec<KnownCa>, reports: Vec<(&'static str, bool)>) -> Vec<(String, u64)> {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("otaru.db")).unwrap();
        let ending = db.write(move |tx| {
            for (number, (report, is_retired)) in reports.iter().enumerate() {
                let report: Value = serde_json::from_str(report).unwrap_or_default();
                tx.execute(
                    "INSERT INTO devices (id, first_seen, trusts, retired_at) VALUES (?, 1, ?, ?)",
                    params![
                        number.to_string(),
                        report["tls"]["trusts"].as_str(),
                        is_retired.then_some(1_i64)
                    ],
                )?;
            }
            ending(tx, &known, NOW)
        });
        ending.await.unwrap().into_iter().map(|ending| (ending.ca.id, ending.devices)).collect()
    }

    #[tokio::test]
    async fn all_cas_that_end_are_told_each_with_its_own_devices() {
        let (first, second) =
            (r#"{"tls":{"trusts":"0000000000000001"}}"#, r#"{"tls":{"trusts":"0000000000000002"}}"#);
        let both = r#"{"tls":{"trusts":"0000000000000001 0000000000000002"}}"#;
        let third = r#"{"tls":{"trusts":"0000000000000003"}}"#;
        let reports = vec![
            (first, false),
            (second, false),
            (second, false),
            (second, true),
            (both, false),
            (third, false),
            (r#"{"tls":{"trusts":1}}"#, false),
            ("{}", false),
            ("no JSON", false),
        ];
        let cas = vec![known(1, 30), known(2, -1), known(3, 91), known(4, 1)];
        let expected = vec![("0000000000000001".to_owned(), 1), ("0000000000000002".to_owned(), 2)];
        assert_eq!(told(cas, reports.clone()).await, expected);
        assert_eq!(told(vec![known(3, 91)], reports).await, []);
    }

    #[tokio::test]
    async fn so_many_cas_are_asked_about_and_no_more() {
        let report =
            |number: usize| -> &'static str { format!(r#"{{"tls":{{"trusts":"{number:016x}"}}}}"#).leak() };
        let reports = (0..2 * MOST).map(|number| (report(number), false)).collect();
        let cas = (0..2 * MOST).map(|number| known(number, 1)).collect();
        assert_eq!(told(cas, reports).await.len(), MOST);
    }
}
