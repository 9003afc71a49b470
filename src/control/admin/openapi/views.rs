//! What viewers ask for: the record, the moment, the last minutes; and the events.

use super::{get, id, joined, object, open, query, reference};
use serde_json::{Value, json};

pub(super) fn paths() -> Value {
    let place = query("start", "When it began, as a list tells it: it is found sooner then");
    let text = json!({"schema": {"type": "string"}});
    json!({
        "/": open("The page"),
        "/approvals/{id}": open("The page, at a request"),
        "/page/{name}": open("What the page is made of"),
        "/api/v1/sessions": get(
            "Exchanges of the record, the newest first, 50 or `limit` (200 at most). Where a look \
             ends before that many were found, `next` goes on",
            &json!([
                query("caller", "Subject"), query("resource", "Name"),
                query("decision", "`permit`, `deny`, `hold`, or the label of a refusal"),
                query("since", "Began then or later: a date, a time in UTC, or an age like 90m"),
                query("until", "Began before"),
                query("q", "Words, each of which stands in what the list tells of an exchange"),
                query("limit", "How many"), query("cursor", "`next` of the page before"),
            ]),
            &reference("Sessions"),
        ),
        "/api/v1/sessions/{id}": get(
            "One exchange whole, as it was recorded: 512 KiB of each body. Who looks is logged",
            &json!([id(), place]), &reference("SessionWhole"),
        ),
        "/api/v1/sessions/{id}/replay": get(
            "What went by, with its times. Who looks is logged",
            &json!([id(), place, query("after", "`next` of the answer before")]),
            &reference("Replay"),
        ),
        "/api/v1/live": get(
            "Exchanges whose end is not recorded yet, 200 at most, and counts of connections",
            &json!([]), &reference("Live"),
        ),
        "/api/v1/charts": get(
            "Counts of the last 15 minutes, one point for 5 s", &json!([]), &reference("Charts"),
        ),
        "/api/v1/events": {"get": {
            "summary": "Tells that an approval changed: `approvals` events with id, act and state, \
                and `lost` to who fell behind. Ends after 5 minutes, or with the sign-in",
            "responses": {
                "200": {"description": "OK", "content": {"text/event-stream": text}},
                "default": {"$ref": "#/components/responses/problem"},
            },
        }},
    })
}

pub(super) fn schemas() -> Value {
    let (text, number, flag) =
        (json!({"type": "string"}), json!({"type": "integer"}), json!({"type": "boolean"}));
    let maybe = json!({"type": ["string", "null"]});
    let count = json!({"type": ["integer", "null"]});
    let time = json!({"type": "string", "format": "date-time"});
    let when = json!({"type": ["string", "null"], "format": "date-time"});
    let texts = json!({"type": "array", "items": {"type": "string"}});
    let any = json!({"type": "object"});
    let of = |name: &str| json!({"type": "array", "items": reference(name)});
    let session = json!({
        "id": text, "start": time, "end": when, "iss": maybe, "sub": maybe, "actors": texts,
        "client_id": maybe, "node": maybe, "run": maybe, "thread": maybe, "resource": maybe,
        "listener": maybe, "protocol": maybe, "rule": maybe, "decision": maybe, "refusal": maybe,
        "method": maybe, "path": maybe, "model": maybe, "credential": maybe, "peer": maybe,
        "status": count, "statement": maybe, "sqlstate": maybe, "rows": count,
        "bytes_in": number, "bytes_out": number, "masked": number, "ending": maybe,
        "gap_entries": number, "gap_bytes": number, "request_ids": texts,
    });
    let side = json!({"head": text, "bytes": number, "cut": flag, "masked": flag, "text": maybe,
        "hex": maybe});
    let told = json!({
        "Session": {"type": "object", "properties": session},
        "Sessions": object(&["sessions", "next", "reached"],
            &json!({"sessions": of("Session"), "next": maybe, "reached": when})),
        "Side": object(&["head", "bytes", "cut", "masked"], &side),
        "Fact": object(&["at_ms", "kind", "fields"], &json!({"at_ms": {"type": "number"},
            "time": time, "kind": text, "sequence": number, "worker": number, "fields": any})),
        "SessionWhole": object(&["session", "facts", "cut", "request", "response"],
            &json!({"session": reference("Session"), "facts": of("Fact"), "cut": flag,
                "transcript": {"type": ["object", "null"],
                    "properties": {"text": text, "cut": flag}},
                "request": reference("Side"), "response": reference("Side")})),
        "Step": object(&["at_ms", "kind", "sequence", "side", "masked"],
            &json!({"at_ms": {"type": "number"}, "kind": text, "sequence": number, "masked": flag,
                "side": {"enum": ["caller", "upstream", "gateway"]}, "bytes": number, "cut": flag,
                "text": text, "fields": any})),
        "Replay": object(&["steps", "next", "cut"],
            &json!({"steps": of("Step"), "next": count, "cut": flag})),
    });
    let moment = json!({
        "Live": object(&["sessions", "more", "at"], &json!({"sessions": of("Session"),
            "more": flag, "at": time, "reached": when, "connections": number,
            "upstream_busy": number, "upstream_idle": number, "pending": number,
            "waiters": number})),
        "Point": object(&["at", "ms"], &json!({"at": time, "ms": number, "exchanges": number,
            "permitted": number, "denied": number, "refusals": any, "stages": any,
            "bytes_in": number, "bytes_out": number, "masked": number, "connections": number,
            "upstream_busy": number, "upstream_idle": number, "pending": number,
            "granted": number, "waiters": number})),
        "Charts": object(&["step_ms", "points"],
            &json!({"step_ms": number, "points": of("Point")})),
    });
    joined([told, moment])
}
