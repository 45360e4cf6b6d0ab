//! Everything that is known of one device.

use crate::db::{Connection, DbError};
use otaru_api::{DeploymentInShort, DeviceCertificate, DeviceDetails, Name, Timestamp};
use otaru_rollout::DeviceId;

use super::{rows, trusted};
use crate::access::serials;
use crate::app::App;
use crate::problem::Problem;

/// Returns all that is known of a device.
///
/// # Errors
/// When there is none.
pub(crate) fn details(tx: &Connection, id: &DeviceId) -> Result<DeviceDetails, Problem> {
    let device = rows::get(tx, id)?.ok_or_else(|| Problem::not_found(format_args!("device {id}")))?;
    let rows = tx.prepare(
        "SELECT d.rollout, r.name, d.standing, d.error_code, d.updated_at
         FROM deployments d JOIN rollouts r ON r.id = d.rollout WHERE d.device = ? ORDER BY d.rollout DESC LIMIT 50",
    );
    let deployments = rows.query_map([id.as_str()], |row| {
        Ok(DeploymentInShort {
            rollout: row.get(0)?,
            name: row.get(1)?,
            standing: Name::of(&row.get::<String>(2)?),
            error_code: row.get(3)?,
            updated_at: row.get(4)?,
        })
    })?;
    let deployments = deployments.collect::<Result<_, _>>()?;
    Ok(DeviceDetails {
        device,
        report: rows::report(tx, id)?,
        deployments,
        contested: None,
        trusts: Vec::new(),
        certificates: certificates(tx, id)?,
        remarks: Vec::new(),
    })
}

fn certificates(tx: &Connection, id: &DeviceId) -> Result<Vec<DeviceCertificate>, DbError> {
    let good = serials::good(tx, id)?.into_iter();
    let shown = good.map(|(serial, first_seen)| DeviceCertificate {
        serial,
        first_seen: first_seen.into(),
        ends_at: None,
    });
    Ok(shown.collect())
}

/// Adds what the broker knows of the device, and what the server does of its certificates and of the CAs that it trusts.
pub(crate) fn and_contested(details: DeviceDetails, app: &App) -> DeviceDetails {
    let contested = app.connections.contested(&details.device.id);
    let trusts = trusted::of_report(details.report.as_ref(), &app.cas.all());
    let end = |certificate: DeviceCertificate| DeviceCertificate {
        ends_at: app.certificate_ends.end(&certificate.serial).map(Timestamp::from),
        ..certificate
    };
    let certificates = details.certificates.into_iter().map(end).collect();
    DeviceDetails { contested, trusts, certificates, ..details }
}
