//! `/api/v1/sessions` and `/api/v1/live`: what the record tells, for viewers.
//!
//! The record is read on threads for work that blocks, by few at once, and each look has a bound of
//! bytes and time. What a person opens is logged: who, and which exchange.

use super::{Access, Admin, problem};
use crate::base::ExchangeId;
use crate::control::archive::{
    self, ArchiveError, Budget, Filter, Page, Place, parse_time, row_json, time_text,
};
use crate::record::summary::Row;
use crate::runtime;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

type Shared = State<Arc<Admin>>;

pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/api/v1/sessions", get(list))
        .route("/api/v1/sessions/{id}", get(show))
        .route("/api/v1/sessions/{id}/replay", get(replay))
        .route("/api/v1/live", get(live))
}

/// What a list asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    caller: Option<String>,
    resource: Option<String>,
    decision: Option<String>,
    since: Option<String>,
    until: Option<String>,
    /// Words that stand anywhere in a row.
    q: Option<String>,
    limit: Option<usize>,
    /// Where the page before ended.
    cursor: Option<String>,
}

/// Where an exchange is, and from where on.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Where {
    /// When it began, which makes it quick to find.
    start: Option<String>,
    /// The step before the first that is asked for.
    after: Option<u64>,
}

async fn list(State(admin): Shared, wanted: Result<Query<Wanted>, QueryRejection>) -> Response {
    let Ok(Query(wanted)) = wanted else {
        return bad(
            "The query takes `caller`, `resource`, `decision`, `since`, `until`, `q`, `limit` and \
             `cursor`.",
        );
    };
    let now_ns = runtime::now().wall_ns;
    let times = [&wanted.since, &wanted.until].map(|text| match text.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => parse_time(text, now_ns).map(Some).ok_or(()),
    });
    let [Ok(since_ns), Ok(until_ns)] = times else {
        return bad("A time is like 2026-01-31, 2026-01-31T10:20:30Z, or an age like 90m or 7d.");
    };
    let before = match wanted.cursor.as_deref().map(cursor) {
        None => None,
        Some(Some(place)) => Some(place),
        Some(None) => return bad("`cursor` is what the page before named as `next`."),
    };
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    let words = wanted.q.iter().flat_map(|text| text.split_whitespace());
    let words: Vec<String> = words.take(WORDS_MAX).map(ToOwned::to_owned).collect();
    let filter = Filter {
        caller: some(wanted.caller),
        resource: some(wanted.resource),
        decision: some(wanted.decision),
        since_ns,
        until_ns,
        words,
        ..Filter::default()
    };
    let count = wanted.limit.unwrap_or(COUNT).clamp(1, COUNT_MAX);
    let found = read(&admin, move |dir| {
        archive::search(dir, &filter, before, count, Budget::new(SEARCH_BYTES, SEARCH_TIME))
    });
    match found.await {
        Ok(page) => Json(page_json(&page)).into_response(),
        Err(answer) => *answer,
    }
}

fn page_json(page: &Page) -> Value {
    let next = page.next.map(|place| format!("{}-{:032x}", place.start_ns, place.id));
    let reached = (page.reached_ns > 0).then(|| time_text(page.reached_ns));
    json!({
        "sessions": page.rows.iter().map(row).collect::<Value>(),
        "next": next, "reached": reached,
    })
}

fn cursor(text: &str) -> Option<Place> {
    let (start_ns, id) = text.split_once('-')?;
    Some(Place { start_ns: start_ns.parse().ok()?, id: u128::from_str_radix(id, 16).ok()? })
}

/// A row with what a list shows of a statement.
fn row(row: &Row) -> Value {
    let mut value = row_json(row);
    let statement = row.statement.as_deref().map(|text| {
        let end = text.floor_char_boundary(STATEMENT_MAX.min(text.len()));
        text.get(..end).unwrap_or_default()
    });
    if let Value::Object(object) = &mut value {
        object.insert("statement".to_owned(), json!(statement));
        object.insert("rows".to_owned(), json!(row.rows));
        object.insert("sqlstate".to_owned(), json!(row.sqlstate));
    }
    value
}

async fn show(
    admin: Shared,
    access: Extension<Access>,
    id: Path<String>,
    place: Result<Query<Where>, QueryRejection>,
) -> Response {
    exchange(admin, access, id, place, "show", |found, _| archive::whole(found)).await
}

async fn replay(
    admin: Shared,
    access: Extension<Access>,
    id: Path<String>,
    place: Result<Query<Where>, QueryRejection>,
) -> Response {
    exchange(admin, access, id, place, "replay", archive::replay).await
}

async fn exchange(
    State(admin): Shared,
    Extension(access): Extension<Access>,
    Path(id): Path<String>,
    place: Result<Query<Where>, QueryRejection>,
    act: &'static str,
    tell: fn(&archive::Found, Option<u64>) -> Value,
) -> Response {
    let Ok(Query(Where { start, after })) = place else {
        return bad("The query takes `start` and `after`.");
    };
    let Some(id) = exchange_id(&id) else { return missing() };
    // Told to the millisecond: what began within it is behind it.
    let began_ns = start.as_deref().and_then(instant);
    let found = read(&admin, move |dir| {
        let budget = Budget::new(FIND_BYTES, FIND_TIME);
        let found = archive::find(dir, id, began_ns, BODIES_MAX, budget)?;
        Ok(found.map(|found| tell(&found, after).to_string()))
    });
    let text = match found.await {
        Ok(Some(text)) => text,
        Ok(None) => return missing(),
        Err(answer) => return *answer,
    };
    match &access {
        Access::Person { party, .. } => tracing::info!(
            iss = %party.iss, sub = %party.sub, exchange = %id, act, "a person looked into the record"
        ),
        _ => tracing::info!(exchange = %id, act, "the admin token looked into the record"),
    }
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

fn exchange_id(text: &str) -> Option<ExchangeId> {
    let hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u128::from_str_radix(text, 16).ok().filter(|_| hex).map(ExchangeId)
}

/// A time as the API tells it: its milliseconds are put behind.
fn instant(text: &str) -> Option<u64> {
    let (seconds, millis) = match text.trim_end_matches('Z').split_once('.') {
        Some((seconds, millis)) => (seconds, millis.parse::<u64>().ok()?),
        None => (text.trim_end_matches('Z'), 0),
    };
    let whole = parse_time(&format!("{seconds}Z"), 0)?;
    whole.checked_add(millis.checked_mul(1_000_000)?)
}

/// What runs at this moment: exchanges of this gateway in the record whose end is not there.
async fn live(State(admin): Shared) -> Response {
    // Whoever else asks waits for the same look.
    let mut last = admin.insight.ran.lock().await;
    if let Some((at, value)) = last.as_ref()
        && at.elapsed() < LIVE_FRESH
    {
        return Json(value).into_response();
    }
    let (running, since_ns) = (Arc::clone(&admin.insight.running), admin.insight.started_ns);
    let found = read(&admin, move |dir| {
        let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
        running.look(dir, since_ns, LIVE_MAX)
    });
    let page = match found.await {
        Ok(page) => page,
        Err(answer) => return *answer,
    };
    let sample = admin.insight.now();
    let [busy, idle] = sample.upstream;
    let mut value = page_json(&page);
    if let Value::Object(object) = &mut value {
        object.remove("next");
        object.insert("more".to_owned(), json!(page.next.is_some()));
        object.insert("at".to_owned(), json!(time_text(runtime::now().wall_ns)));
        object.insert("connections".to_owned(), json!(sample.connections));
        object.insert("upstream_busy".to_owned(), json!(busy));
        object.insert("upstream_idle".to_owned(), json!(idle));
        object.insert("pending".to_owned(), json!(sample.pending));
        object.insert("waiters".to_owned(), json!(sample.waiters));
    }
    let answer = Json(&value).into_response();
    *last = Some((Instant::now(), value));
    answer
}

/// Reads the record on a thread that may block, when it is this reader's turn.
async fn read<T: Send + 'static>(
    admin: &Admin,
    look: impl FnOnce(&std::path::Path) -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, Box<Response>> {
    let turn = Arc::clone(&admin.insight.readers).acquire_owned();
    let Ok(Ok(turn)) = tokio::time::timeout(TURN, turn).await else {
        return Err(Box::new(busy("Others read the record at the moment; try again.")));
    };
    let dir = admin.insight.dir.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let found = look(&dir);
        drop(turn);
        found
    });
    match looked.await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(ArchiveError::Spent)) => Err(Box::new(busy(
            "It was not found in the time that a look may take: use `weirgate sessions`.",
        ))),
        Ok(Err(error)) => {
            tracing::warn!(%error, "a look into the record failed");
            Err(Box::new(busy("The record cannot be read; the gateway's log says why.")))
        }
        Err(_) => Err(Box::new(busy("The look into the record failed."))),
    }
}

fn busy(detail: &str) -> Response {
    problem(StatusCode::SERVICE_UNAVAILABLE, "record", detail)
}

fn missing() -> Response {
    let detail = "There is no such session in the record (deleted by retention?).";
    problem(StatusCode::NOT_FOUND, "session", detail)
}

fn bad(detail: &str) -> Response {
    problem(StatusCode::BAD_REQUEST, "request", detail)
}

/// Rows of a page, and the most that may be asked for.
const COUNT: usize = 50;
/// See [`COUNT`].
const COUNT_MAX: usize = 200;
/// Words of one search.
const WORDS_MAX: usize = 8;
/// Of a statement, in a list.
const STATEMENT_MAX: usize = 300;
/// What a search for a page may read, and how long.
const SEARCH_BYTES: u64 = 256 << 20;
/// See [`SEARCH_BYTES`].
const SEARCH_TIME: Duration = Duration::from_secs(2);
/// What may be read to find one exchange, and how long.
const FIND_BYTES: u64 = 2 << 30;
/// See [`FIND_BYTES`].
const FIND_TIME: Duration = Duration::from_secs(5);
/// Bodies of one exchange that are kept for telling it.
const BODIES_MAX: usize = 8 << 20;
/// How long a look at the moment is good.
const LIVE_FRESH: Duration = Duration::from_secs(1);
/// Running exchanges that are listed.
const LIVE_MAX: usize = 200;
/// How long a reader waits for its turn.
const TURN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_cursors_and_ids_are_read_strictly() {
        assert_eq!(instant("1970-01-01T00:00:02.005Z"), Some(2_005_000_000));
        assert_eq!(instant("1970-01-01T00:00:02Z"), Some(2_000_000_000));
        assert_eq!(instant("nonsense"), None);
        assert_eq!(cursor("12-0a"), Some(Place { start_ns: 12, id: 10 }));
        for wrong in ["", "12", "-1", "x-1", "1-g"] {
            assert_eq!(cursor(wrong), None, "{wrong}");
        }
        assert!(exchange_id(&"a".repeat(32)).is_some());
        for wrong in ["", "a", &"g".repeat(32), &format!("+{}", "a".repeat(31))] {
            assert_eq!(exchange_id(wrong), None, "{wrong}");
        }
    }
}
