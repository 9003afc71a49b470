//! `/api/v1/openapi.json`: what is here, for programs that make clients of it.

mod views;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

pub(super) async fn document() -> Response {
    Json(value()).into_response()
}

pub(super) fn value() -> Value {
    let mut all = decided();
    for (place, more) in [("/paths", views::paths()), ("/components/schemas", views::schemas())] {
        if let (Some(Value::Object(known)), Value::Object(more)) = (all.pointer_mut(place), more) {
            known.extend(more);
        }
    }
    all
}

fn decided() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Weirgate admin", "version": env!("CARGO_PKG_VERSION")},
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http", "scheme": "bearer",
                    "description":
                        "A token of the admin issuer, or the admin token, which decides nothing",
                },
                "session": {
                    "type": "apiKey", "in": "cookie", "name": "__Host-weirgate",
                    "description": "A browser's session; `weirgate` where public_url is not \
                        https. Whatever is not a GET needs `x-weirgate-csrf` with it",
                },
            },
            "schemas": schemas(),
            "responses": {"problem": {
                "description": "Why not (RFC 9457)",
                "content": {"application/problem+json": {"schema": reference("Problem")}},
            }},
        },
        "security": [{"bearer": []}, {"session": []}],
        "paths": {
            "/healthz": open("The process is alive"),
            "/readyz": open("Traffic can be served; else 503 and the reasons"),
            "/metrics": open("Prometheus text"),
            "/api/v1/resources": get("The configured resources", &json!([]), &json!({})),
            "/api/v1/me": get("Who asks, and the CSRF value of its session", &json!([]),
                &reference("Me")),
            "/api/v1/sign-in-links": sign_in_links(),
            "/sign-in": json!({"get": {"summary": "Sends the browser to the issuer", "security": [],
                "parameters": [query("next", "`/approvals/{id}`: where it leads afterwards")],
                "responses": {"303": {"description": "To the issuer"}}}}),
            "/sign-in/callback": sign_in_answer(),
            "/sign-in/link": link("Signs the browser in: 204 and a cookie; the link is used up"),
            "/sign-in/link/look": look(),
            "/sign-out": sign_out(),
            "/api/v1/openapi.json": get("This document", &json!([]), &json!({})),
            "/api/v1/approvals": get(
                "Requests, the newest first, 1000 at most: of a viewer all, else those that the \
                 token may decide and its own",
                &json!([query("state", "States, with commas between them"),
                    query("review", "`owed`: break-glass that nobody has looked at")]),
                &list("Approval"),
            ),
            "/api/v1/approvals/{id}": get("One request", &json!([id()]), &reference("Approval")),
            "/api/v1/approvals/{id}/approve": vote("Approve what was shown"),
            "/api/v1/approvals/{id}/deny": vote("Deny it; one denial ends it"),
            "/api/v1/approvals/{id}/review": post(
                "Somebody other than the caller has looked at what was done under break-glass",
                &json!([id()]), "Review", &reference("Approval"),
            ),
            "/api/v1/approvals/{id}/reveal": post(
                "The summary with nothing masked, for the groups that the rule names; who looks is \
                 written down",
                &json!([id()]), "Nothing", &reference("Original"),
            ),
            "/api/v1/approvals/{id}/before": get(
                "What the same caller had approved before, the newest first, 20 at most",
                &json!([id()]), &list("Before"),
            ),
            "/api/v1/approvals/{id}/estimate": get(
                "What a held statement would touch, by its database's plan, where the rule asks for it",
                &json!([id()]), &reference("Estimate"),
            ),
            "/api/v1/grants": get("Grants with uses left", &json!([]), &list("Approval")),
            "/api/v1/grants/revoke": post(
                "Takes grants and pending requests back, by one of four ways to name them; what \
                 runs under them ends",
                &json!([]), "Revoke", &reference("TakenBack"),
            ),
            "/api/v1/webhooks": get("Webhooks, and how notices get on", &json!([]),
                &list("Webhook")),
            "/api/v1/webhooks/dead": get("Notices that are not sent any more, the newest first",
                &json!([]), &list("DeadLetter")),
            "/api/v1/webhooks/dead/{id}/retry": retry(),
            "/callback/{webhook}": callback(),
        },
    })
}

fn retry() -> Value {
    let id = json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string"}});
    json!({"post": {"summary": "Sends a dead letter again", "parameters": [id],
        "responses": responses(&object(&["id"], &json!({"id": {"type": "string"}})))}})
}

fn callback() -> Value {
    let name =
        json!({"name": "webhook", "in": "path", "required": true, "schema": {"type": "string"}});
    let field = |name: &str| json!({"name": name, "in": "header", "required": true, "schema": {"type": "string"}});
    json!({"post": {
        "summary": "A vote, signed by the webhook's secret (Standard Webhooks) and cast by the \
            approver's own token; of a Slack webhook a form that Slack signed, answered with a link",
        "security": [],
        "parameters": [name, field("webhook-id"), field("webhook-timestamp"),
            field("webhook-signature")],
        "requestBody": {"required": true,
            "content": {"application/json": {"schema": reference("Callback")}}},
        "responses": responses(&object(&["approval", "state"],
            &json!({"approval": {"type": "string"}, "state": {"type": "string"}}))),
    }})
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn list(name: &str) -> Value {
    json!({"type": "array", "items": reference(name)})
}

fn id() -> Value {
    json!({"name": "id", "in": "path", "required": true,
        "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"}})
}

fn query(name: &str, description: &str) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": {"type": "string"}})
}

fn open(summary: &str) -> Value {
    json!({"get": {"summary": summary, "security": [],
        "responses": {"200": {"description": "OK"}}}})
}

/// What needs no token: the link is one.
fn link(summary: &str) -> Value {
    json!({
        "get": {"summary": "A page with a button; it changes nothing", "security": [],
            "responses": {"200": {"description": "HTML"}}},
        "post": {"summary": summary, "security": [], "requestBody": body("Link"),
            "responses": {"204": {"description": "Signed in"},
                "default": {"$ref": "#/components/responses/problem"}}},
    })
}

fn sign_in_answer() -> Value {
    json!({
        "get": {"summary": "A page that posts the issuer's answer; it changes nothing",
            "security": [], "responses": {"200": {"description": "HTML"}}},
        "post": {"summary": "Signs the browser in by the issuer's answer: a cookie",
            "security": [], "requestBody": body("SignInAnswer"),
            "responses": responses(&reference("SignedIn"))},
    })
}

fn look() -> Value {
    json!({"post": {"summary": "For whom a link is; it stays as it is", "security": [],
        "requestBody": body("Link"), "responses": responses(&reference("LinkOf"))}})
}

fn sign_in_links() -> Value {
    json!({"post": {"summary": "A one-time link that signs a browser in as the token's person, \
        for two minutes", "security": [{"bearer": []}],
        "responses": responses(&reference("SignInLink"))}})
}

fn sign_out() -> Value {
    let content = json!({"application/json": {"schema": reference("SignOut")}});
    json!({"post": {"summary": "Ends the browser's session, or all of the person",
        "requestBody": {"required": false, "content": content},
        "responses": {"204": {"description": "Signed out"},
            "default": {"$ref": "#/components/responses/problem"}}}})
}

fn body(name: &str) -> Value {
    json!({"required": true, "content": {"application/json": {"schema": reference(name)}}})
}

fn responses(schema: &Value) -> Value {
    json!({
        "200": {"description": "OK", "content": {"application/json": {"schema": schema}}},
        "default": {"$ref": "#/components/responses/problem"},
    })
}

fn get(summary: &str, parameters: &Value, schema: &Value) -> Value {
    json!({"get": {"summary": summary, "parameters": parameters, "responses": responses(schema)}})
}

fn post(summary: &str, parameters: &Value, body: &str, schema: &Value) -> Value {
    json!({"post": {
        "summary": summary, "parameters": parameters, "responses": responses(schema),
        "requestBody": {"required": true,
            "content": {"application/json": {"schema": reference(body)}}},
    }})
}

fn vote(summary: &str) -> Value {
    post(summary, &json!([id()]), "Vote", &reference("Approval"))
}

fn object(required: &[&str], properties: &Value) -> Value {
    json!({"type": "object", "required": required, "properties": properties,
        "additionalProperties": false})
}

fn joined(objects: [Value; 2]) -> Value {
    let members = objects.into_iter().filter_map(|object| match object {
        Value::Object(members) => Some(members),
        _ => None,
    });
    Value::Object(members.flatten().collect())
}

fn schemas() -> Value {
    let (text, number, flag) =
        (json!({"type": "string"}), json!({"type": "integer"}), json!({"type": "boolean"}));
    let maybe = json!({"type": ["string", "null"]});
    let time = json!({"type": "string", "format": "date-time"});
    let when = json!({"type": ["string", "null"], "format": "date-time"});
    let digest = json!({"type": "string", "pattern": "^[0-9a-f]{64}$"});
    let texts = json!({"type": "array", "items": {"type": "string"}});
    let states = crate::policy::approval::State::ALL.map(|state| state.label());
    let people = json!({
        "Problem": {"type": "object", "properties": {"type": text, "title": text,
            "status": number, "detail": text}},
        "Me": object(&["iss", "sub", "groups", "viewer", "csrf", "expires_at", "sign_in"],
            &json!({"iss": maybe, "sub": maybe, "groups": texts, "viewer": flag, "csrf": maybe,
                "expires_at": when, "sign_in": object(&["oidc"], &json!({"oidc": flag}))})),
        "SignInAnswer": object(&["query"], &json!({"query": text})),
        "SignedIn": object(&["next"], &json!({"next": text})),
        "Link": object(&["link"], &json!({"link": text})),
        "LinkOf": object(&["iss", "sub"], &json!({"iss": text, "sub": text})),
        "SignOut": object(&[], &json!({"everywhere": flag})),
        "SignInLink": object(&["url", "expires_at"], &json!({"url": text, "expires_at": time})),
        "Vote": object(&["digest"], &json!({"digest": digest, "reason": maybe, "link": maybe})),
        "Callback": object(&["approval", "vote", "digest", "token"],
            &json!({"approval": text, "vote": {"enum": ["approve", "deny"]}, "digest": digest,
                "reason": maybe, "token": text})),
        "Webhook": object(&["name"], &json!({"name": text, "delivered": number, "failed": number,
            "failing": flag, "queued": number, "dead": number, "delivered_at": when,
            "last_error": {"type": ["object", "null"], "properties": {"text": text, "at": time}},
            "callbacks": {"type": "object", "additionalProperties": number}})),
        "DeadLetter": object(&["id"], &json!({"id": text, "webhook": text, "approval": text,
            "event": text, "at": time, "dead_at": time, "tries": number, "error": maybe})),
        "Review": object(&[], &json!({"reason": maybe})),
        "Nothing": object(&[], &json!({})),
        "Original": object(&["original"], &json!({"original": text})),
        "Look": object(&["iss", "sub", "at"], &json!({"iss": text, "sub": text, "at": time})),
        "Estimate": object(&["rows", "cost", "plan"],
            &json!({"rows": {"type": "number"}, "cost": {"type": "number"}, "plan": text})),
        "Before": object(&["id", "state", "rule", "resource", "summary_head", "requested_at"],
            &json!({"id": text, "state": {"enum": states}, "rule": text, "resource": text,
                "summary_head": text, "same_operation": flag, "requested_at": time,
                "ended_at": when, "used": number, "votes": list("Cast")})),
        "Revoke": object(&[], &json!({"id": text, "resource": text, "all": {"const": true},
            "caller": object(&["sub"], &json!({"sub": text, "iss": maybe})), "reason": maybe})),
        "TakenBack": object(&["revoked", "cancelled", "cut", "withheld"],
            &json!({"revoked": texts, "cancelled": texts, "cut": texts, "withheld": number})),
        "Cast": object(&["iss", "sub", "groups", "decision", "reason", "digest", "at"],
            &json!({"iss": text, "sub": text, "groups": texts, "reason": maybe, "digest": digest,
                "decision": {"enum": ["approve", "deny"]}, "at": time, "via": maybe})),
        "End": {"type": ["object", "null"], "properties": {"iss": maybe, "sub": maybe, "why": maybe,
            "by": {"enum": ["caller", "policy", "admin_token", "person"]}}},
        "Reviewed": {"type": ["object", "null"],
            "properties": {"iss": text, "sub": text, "reason": maybe, "at": time}},
    });
    // What the digest covers, and what may change while people vote.
    let asked = json!({
            "id": text, "iss": text, "sub": text, "client_id": maybe,
            "actors": texts, "groups": texts, "resource": text, "protocol": text, "rule": text,
            "credential": maybe, "scope": {"enum": ["exact", "shape", "resource", "session"]},
            "summary": text, "fingerprint": digest, "binding": digest,
            "reason": maybe, "exchange": text, "generation": number, "node": maybe, "run": maybe,
            "thread": maybe, "requested_at": time, "deadline": time,
            "approvers": texts, "count": number, "distinct_groups": flag, "ttl_ms": number,
            "uses": number, "break_glass": flag,
    });
    let stands = json!({
            "digest": {"type": ["string", "null"], "pattern": "^[0-9a-f]{64}$",
                "description": "Of what is shown; none where the summary is cut"},
            "summary_cut": flag, "revealable": flag, "reveal": texts, "looks": list("Look"),
            "state": {"enum": states}, "votes": list("Cast"),
            "reason_required": flag, "used": number, "uses_left": number, "until": when,
            "ended_at": when, "ended_by": reference("End"), "review_owed": flag,
            "review": reference("Reviewed"),
    });
    let approval = joined([asked, stands]);
    joined([people, json!({"Approval": {"type": "object", "properties": approval}})])
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    /// Every file of code of the admin surface.
    fn files(folder: &Path, found: &mut Vec<PathBuf>) {
        for path in std::fs::read_dir(folder).unwrap().map(|one| one.unwrap().path()) {
            if path.is_dir() {
                files(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs")
            {
                found.push(path);
            }
        }
    }

    #[test]
    fn every_route_is_described() {
        let control = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/control");
        let mut found = vec![control.join("admin.rs")];
        files(&control.join("admin"), &mut found);
        let document = value();
        let mut routes = 0;
        // Split, so that this file names none.
        let begins = concat!(".rou", "te(\"");
        for file in found {
            let code = std::fs::read_to_string(file).unwrap();
            for rest in code.split(begins).skip(1) {
                let path = rest.split('"').next().unwrap();
                routes += 1;
                assert!(document["paths"].get(path).is_some(), "{path}");
            }
        }
        assert!(routes > 30, "{routes}");
    }
}
