//! `/servers`: who shares the database, and what each does.

use axum::Json;
use axum::extract::State;
use otaru_api::{ServerMember, Servers, Timestamp};
use otaru_rollout::Time;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::Shared;
use crate::caller::Caller;
use crate::cluster::leases::{self, Member, Task};
use crate::cluster::shard::SHARDS;
use crate::problem::Problem;

/// The routes.
pub fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(list))
}

/// List the servers that share the database
///
/// A server that has its database to itself is alone, with all shards and tasks.
#[utoipa::path(get, path = "/servers", tag = "servers", operation_id = "list_servers", responses((status = 200, body = Servers)))]
async fn list(State(app): State<Shared>, _: Caller) -> Result<Json<Servers>, Problem> {
    let Some(me) = app.holdings.id().map(str::to_owned) else { return Ok(Json(alone(&app))) };
    let members = app.db.read(leases::members).await?;
    Ok(Json(Servers { items: members.into_iter().map(|member| shown(member, &me)).collect() }))
}

fn alone(app: &Shared) -> Servers {
    let now = Timestamp::from(app.clock.now());
    Servers {
        items: vec![ServerMember {
            id: "only".to_owned(),
            name: app.public_base.clone(),
            broker: app.broker(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: app.started_at.into(),
            seen_at: now,
            clock_ahead_ms: None,
            broker_away_since: None,
            shards: SHARDS,
            tasks: Task::ALL.map(|task| task.name().to_owned()).to_vec(),
            answers: true,
        }],
    }
}

fn shown(member: Member, me: &str) -> ServerMember {
    let moment = |at: i64| Timestamp::from(Time(at.unsigned_abs()));
    ServerMember {
        answers: member.id == me,
        id: member.id,
        name: member.name,
        broker: member.broker,
        version: member.version,
        started_at: moment(member.started_at),
        seen_at: moment(member.seen_at),
        clock_ahead_ms: member.clock_ahead,
        broker_away_since: member.broker_away.map(moment),
        shards: u16::try_from(member.shards).unwrap_or(SHARDS),
        tasks: member.tasks.into_iter().map(|task| task.name().to_owned()).collect(),
    }
}
