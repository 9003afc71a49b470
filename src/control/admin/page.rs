//! The page: static files in the binary, which need no token and hold no data.
//!
//! Everything that it shows it asks the API for, as whoever is signed in. Nothing of it is inline and
//! nothing comes from elsewhere, so that the policy below leaves no place for what a caller wrote to be
//! run. A path of an approval serves the same shell: what a notice links to.

use super::Admin;
use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/", get(shell))
        .route("/approvals/{id}", get(shell))
        .route("/page/{name}", get(file))
}

async fn shell() -> Response {
    served("text/html; charset=utf-8", include_str!("page/index.html"))
}

async fn file(Path(name): Path<String>) -> Response {
    let found = FILES.iter().find(|(known, _)| *known == name);
    let Some((name, text)) = found else {
        return super::problem(StatusCode::NOT_FOUND, "not-found", "There is no such admin page.");
    };
    let kind = match name.rsplit('.').next() {
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/css; charset=utf-8",
    };
    served(kind, text)
}

fn served(kind: &'static str, text: &'static str) -> Response {
    let mut answer = text.into_response();
    let fields = answer.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    fields.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    answer
}

/// What the page may load, and do.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; font-src 'none'; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'none'";

/// The files by their names.
const FILES: &[(&str, &str)] = &[
    ("approval.js", include_str!("page/approval.js")),
    ("approvals.js", include_str!("page/approvals.js")),
    ("api.js", include_str!("page/api.js")),
    ("charts.js", include_str!("page/charts.js")),
    ("dom.js", include_str!("page/dom.js")),
    ("icon.svg", include_str!("page/icon.svg")),
    ("keys.js", include_str!("page/keys.js")),
    ("live.js", include_str!("page/live.js")),
    ("main.js", include_str!("page/main.js")),
    ("page.css", include_str!("page/page.css")),
    ("record.js", include_str!("page/record.js")),
    ("replay.js", include_str!("page/replay.js")),
    ("show.js", include_str!("page/show.js")),
    ("theme.js", include_str!("page/theme.js")),
    ("time.js", include_str!("page/time.js")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_inline_and_nothing_comes_from_elsewhere() {
        let shell = include_str!("page/index.html");
        assert!(!shell.contains("<style") && !shell.contains(" style="), "styles");
        let scripts = shell.matches("<script").count();
        let named = shell.matches(" src=\"/page/").count();
        assert!(scripts == 2 && named == scripts, "scripts");
        for (name, text) in FILES.iter().chain(&[("index.html", shell)]) {
            for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                assert!(!text.contains(word), "{name}: {word}");
            }
            let urls = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!urls.contains("http://") && !urls.contains("https://"), "{name}");
            assert!(
                !text.contains(".setAttribute(\"style\"") && !text.contains("javascript:"),
                "{name}"
            );
        }
    }

    #[test]
    fn every_module_that_is_imported_is_served() {
        for (name, text) in FILES.iter().filter(|(name, _)| name.ends_with(".js")) {
            for line in text.lines().filter(|line| line.contains(" from \"")) {
                let wanted =
                    line.split(" from \"./").nth(1).and_then(|rest| rest.split('"').next());
                assert!(FILES.iter().any(|(known, _)| Some(*known) == wanted), "{name}: {line}");
            }
        }
    }
}
