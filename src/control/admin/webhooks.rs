//! `/api/v1/webhooks`: how notices get on, and what could not be delivered.

use super::{Admin, problem};
use crate::base::time_text;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;

/// Behind the guard of those who may look at everything.
pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/api/v1/webhooks", get(list))
        .route("/api/v1/webhooks/dead", get(dead))
        .route("/api/v1/webhooks/dead/{id}/retry", post(retry))
}

async fn list(State(admin): State<Arc<Admin>>) -> Response {
    let hooks = admin.notifier.readings().into_iter().map(|(name, reading, queued, dead)| {
        let error =
            reading.error.map(|(text, at_ns)| json!({"text": *text, "at": time_text(at_ns)}));
        json!({
            "name": name, "delivered": reading.delivered, "failed": reading.failed,
            "failing": reading.failing, "queued": queued, "dead": dead,
            "delivered_at": reading.delivered_ns.map(time_text), "last_error": error,
            "callbacks": reading.callbacks,
        })
    });
    Json(hooks.collect::<Value>()).into_response()
}

async fn dead(State(admin): State<Arc<Admin>>) -> Response {
    let letters = admin.notifier.dead().into_iter().map(|one| {
        json!({
            "id": one.id, "webhook": one.hook, "approval": one.approval, "event": one.event,
            "at": time_text(one.at_ns), "dead_at": time_text(one.dead_ns), "tries": one.tries,
            "error": one.error,
        })
    });
    Json(letters.collect::<Value>()).into_response()
}

async fn retry(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Response {
    match admin.notifier.retry(&id).await {
        Ok(true) => {
            tracing::info!(delivery = %id.escape_default(), "a dead letter is sent again");
            Json(json!({ "id": id })).into_response()
        }
        Ok(false) => problem(StatusCode::NOT_FOUND, "unknown", "There is no such dead letter."),
        Err(error) => {
            tracing::error!(%error, "a dead letter cannot be sent again");
            let detail = "The outbox cannot be written at the moment; try again.";
            problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
        }
    }
}
