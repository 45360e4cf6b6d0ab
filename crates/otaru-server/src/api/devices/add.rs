//! `POST /devices`.

use axum::extract::State;
use otaru_api::{AddedDevice, ChangeDevice, NewDevice};

use crate::app::Shared;
use crate::devices::commands::{self, device_id};
use crate::devices::remarks::LoginChange;
use crate::idempotency::{Answer, Once};
use crate::problem::Problem;
use crate::web::extract::{Body, IdempotencyKey};
use crate::web::login::Admin;

/// Add a device, and create a login for it
///
/// Only this answer has the password, in `password`; the user name and the MQTT client id are the device's id.
#[utoipa::path(post, path = "/devices", tag = "devices", operation_id = "add_device",
    params(("Idempotency-Key" = Option<String>, Header, description = "Name of this request; a repeated request with the same name is carried out once.", min_length = 1, max_length = 128, pattern = "^[ -~]+$")),
    request_body = NewDevice, responses((status = 201, body = AddedDevice)))]
pub(super) async fn add(
    State(app): State<Shared>,
    Admin(caller): Admin,
    key: IdempotencyKey,
    Body(new): Body<NewDevice>,
) -> Result<Answer, Problem> {
    let id = device_id(&app, &new.id)?;
    let most = app.config.device_limits.devices;
    let remarks = LoginChange::Made.remarks(&app.config);
    let answer = Once::new(key.0, &caller, "device", &new).run(&app.db, app.clock.now(), move |tx, now| {
        let change =
            ChangeDevice { label: new.label.clone(), tags: new.tags.clone(), remove_tags: Vec::new() };
        let (device, password) = commands::add(tx, &caller, &id, &change, most, now)?;
        Ok(Answer::created(&device).and_remarks(&remarks).and_secretly("password", password))
    });
    answer.await
}
