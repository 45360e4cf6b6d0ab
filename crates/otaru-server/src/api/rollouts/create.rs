//! `POST /rollouts`.

use std::sync::Arc;

use axum::extract::State;
use otaru_api::{NewRollout, Rollout};

use crate::app::Shared;
use crate::idempotency::{Answer, Once};
use crate::problem::Problem;
use crate::rollouts::new;
use crate::rollouts::view::RolloutView;
use crate::web::extract::{Body, IdempotencyKey};
use crate::web::login::Operator;

/// Create a rollout, and start it unless it is a draft
#[utoipa::path(post, path = "/rollouts", tag = "rollouts", operation_id = "create_rollout",
    params(("Idempotency-Key" = Option<String>, Header, description = "Name of this request; a repeated request with the same name is carried out once.", min_length = 1, max_length = 128, pattern = "^[ -~]+$")),
    request_body = NewRollout, responses((status = 201, body = Rollout)))]
pub(super) async fn create(
    State(app): State<Shared>,
    Operator(caller): Operator,
    key: IdempotencyKey,
    Body(order): Body<NewRollout>,
) -> Result<Answer, Problem> {
    let once = Once::new(key.0, &caller, "rollout", &order);
    // Why it cannot be is told by the write, which may also know the answer of an earlier request.
    let prepared = Arc::new(new::prepare(&order, &app).await);
    let to_apply = Arc::clone(&prepared);
    let made = once.run_with(&app.db, app.clock.now(), move |tx, now| {
        let prepared = to_apply.as_ref().as_ref().map_err(Problem::clone)?;
        let (kept, changes) = new::make(&order, tx, &caller, prepared, now)?;
        Ok((Answer::created(&Rollout::from(RolloutView::of(tx, kept)?)), changes))
    });
    let (answer, changes) = made.await?;
    // Nothing changed where the answer is one that was given before.
    if let (Some(changes), Ok(prepared)) = (changes, prepared.as_ref()) {
        changes.tell(&app);
        prepared.tell(&app);
    }
    Ok(answer)
}
