//! `/api/v1/approvals/{id}/estimate`: what a held statement would touch, by the database's plan.

use super::approvals::{refused, sees};
use super::{Access, Admin, problem};
use crate::control::database::plan::Estimate;
use crate::policy::approval::{ActFault, ApprovalId, Ask, Statement, is_another};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Asks the database of what is asked for. It blocks, for seconds at most.
pub type Plan = dyn Fn(&Ask, &Statement) -> Result<Estimate, String> + Send + Sync;

/// Few at a time: each is a connection to a database.
static PLANNING: Semaphore = Semaphore::const_new(PLANNING_MAX);

pub(super) async fn estimate(
    State(admin): State<Arc<Admin>>,
    Extension(access): Extension<Access>,
    Path(id): Path<String>,
) -> Response {
    let Some(id) = ApprovalId::parse(&id) else { return refused(ActFault::Unknown) };
    let request = match admin.desk.show(id).await {
        Ok(found) if sees(&access, &found) => found,
        Ok(_) => return refused(ActFault::Unknown),
        Err(fault) => return refused(fault),
    };
    // Who asks could learn of rows that it may not read, with nobody's approval.
    if let Access::Person { party, .. } = &access
        && let Err(fault) = is_another(party, &request.ask)
    {
        return refused(fault);
    }
    if !request.ask.terms.estimate {
        return problem(StatusCode::NOT_FOUND, "no-estimate", "The rule asks for no estimate.");
    }
    let statement = match admin.desk.statement(id).await {
        Ok(statement) => statement,
        Err(fault) => return refused(fault),
    };
    let Ok(permit) = PLANNING.try_acquire() else {
        let detail = "Others are being estimated; try again.";
        return problem(StatusCode::SERVICE_UNAVAILABLE, "busy", detail);
    };
    let planned = tokio::task::spawn_blocking(move || {
        // Until it is done, whether or not somebody waits for it yet.
        let _permit = permit;
        (admin.plan)(&request.ask, &statement)
    });
    let planned = planned.await;
    match planned {
        Ok(Ok(Estimate { rows, cost, plan })) => {
            Json(json!({ "rows": rows, "cost": cost, "plan": plan })).into_response()
        }
        Ok(Err(why)) => {
            tracing::info!(approval = %id, %why, "a statement is not estimated");
            problem(
                StatusCode::UNPROCESSABLE_ENTITY,
                "no-estimate",
                &format!("No estimate: {why}."),
            )
        }
        Err(_) => refused(ActFault::Unavailable),
    }
}

const PLANNING_MAX: usize = 2;
