//! `POST /rollouts`.

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
    let prepared = new::prepare(&order, &app).await;
    let (sender, changes) = tokio::sync::oneshot::channel();
    let answer = once.run(&app.db, app.clock.now(), move |tx, now| {
        let prepared = prepared?;
        let (kept, changes) = new::make(&order, tx, &caller, &prepared, now)?;
        // Nobody waits for it where the answer is one that was given before.
        let _ = sender.send((changes, prepared));
        Ok(Answer::created(&Rollout::from(RolloutView::of(tx, kept)?)))
    });
    let answer = answer.await?;
    if let Ok((changes, prepared)) = changes.await {
        changes.tell(&app);
        prepared.tell(&app);
    }
    Ok(answer)
}
