//! `/api/v1/events`: tells whoever listens that something of the approvals changed.
//!
//! An event has an id, what happened and a state, and no content: what it is about is asked for by the
//! API, as whoever may see it. Who is no viewer hears only of requests that it may see. With each sign of
//! life it is asked anew whether the listener is still let in, and a stream ends after a while anyhow.

use super::approvals::sees;
use super::{Access, Admin, Standing, problem};
use crate::control::approvals::Change;
use axum::Extension;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use serde_json::json;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc};
use tokio::time::{Instant, MissedTickBehavior};

pub(super) async fn listen(
    State(admin): State<Arc<Admin>>,
    Extension(access): Extension<Access>,
    Extension(standing): Extension<Standing>,
) -> Response {
    let Ok(place) = Arc::clone(&admin.insight.listeners).try_acquire_owned() else {
        return problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "listeners",
            "As many listen as may; ask for the lists instead, and try again later.",
        );
    };
    let (sender, receiver) = mpsc::channel(QUEUE);
    let changes = admin.desk.changes();
    tokio::spawn(tell(admin, (access, standing), changes, sender, place));
    let fields = [(header::CONTENT_TYPE, "text/event-stream")];
    (fields, Body::new(Stream(receiver))).into_response()
}

/// Passes changes on until the listener is gone, or its time is over.
async fn tell(
    admin: Arc<Admin>,
    (mut access, standing): (Access, Standing),
    mut changes: broadcast::Receiver<Change>,
    to: mpsc::Sender<Bytes>,
    _place: OwnedSemaphorePermit,
) {
    let until = Instant::now() + LASTS;
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    if to.send(Bytes::from_static(b"retry: 1000\n\nevent: hello\ndata: {}\n\n")).await.is_err() {
        return;
    }
    loop {
        let event = tokio::select! {
            () = tokio::time::sleep_until(until) => return,
            // Its end of the connection is gone.
            () = to.closed() => return,
            _ = beat.tick() => match admin.still(&standing).await {
                Some(still) => {
                    access = still;
                    Bytes::from_static(b": alive\n\n")
                }
                // Signed out, or the token does not count any more.
                None => return,
            },
            change = changes.recv() => match change {
                Ok(change) if may_hear(&admin, &access, &change).await => event(&change),
                Ok(_) => continue,
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    Bytes::from_static(b"event: lost\ndata: {}\n\n")
                }
                Err(broadcast::error::RecvError::Closed) => return,
            },
        };
        // Whoever takes nothing for so long is gone.
        match tokio::time::timeout(BEAT, to.send(event)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}

async fn may_hear(admin: &Admin, access: &Access, change: &Change) -> bool {
    if access.views() {
        return true;
    }
    let found = admin.desk.show(change.id).await;
    found.is_ok_and(|request| sees(access, &request))
}

fn event(change: &Change) -> Bytes {
    let state = change.state.map(|state| state.label());
    let data = json!({ "id": change.id.to_string(), "act": change.act, "state": state });
    Bytes::from(format!("event: approvals\ndata: {data}\n\n"))
}

/// A body of what is sent to it.
struct Stream(mpsc::Receiver<Bytes>);

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Events that wait for a slow listener.
const QUEUE: usize = 64;
/// How often something is sent, so that nobody between takes the connection for dead.
const BEAT: Duration = Duration::from_secs(15);
/// How long a stream lasts.
const LASTS: Duration = Duration::from_secs(300);
