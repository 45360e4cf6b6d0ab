//! CAs that devices trust, as they report them: what they are called, and which devices are lost when one ends.

use otaru_api::{EndingCa, Timestamp, TrustedCa};
use otaru_rollout::{Span, Time};
use serde_json::Value;

use super::list::{self, Filter};
use crate::app::App;
use crate::db::{Connection, DbError};
use crate::tls::KnownCa;

/// Time before its end in which a CA is told to be about to end: as long as a fleet may take to get a release.
const SOON: Span = Span::hours(90 * 24);

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

/// Returns the known CAs that end soon, or have ended, and that some devices trust and no other.
///
/// # Errors
/// Errors of the database.
pub(crate) fn ending(tx: &Connection, known: &[KnownCa], now: Time) -> Result<Vec<EndingCa>, DbError> {
    let mut ending = Vec::new();
    for ca in known.iter().filter(|ca| ca.ends.0 <= now.0.saturating_add(SOON.0)) {
        let filter = Filter { only_trusts: Some(ca.id.clone()), ..Filter::default() };
        let devices = list::count(tx, &filter)?;
        if devices > 0 {
            ending.push(told(ca, devices, now));
        }
    }
    Ok(ending)
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
