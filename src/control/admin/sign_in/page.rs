//! The page of a one-time link: static, so that it says nothing to whoever asks for it.
//!
//! The secret is in the fragment of its address, which browsers send to nobody: it is in no log of
//! a proxy, and a program that follows links finds a page without any.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

/// `GET /sign-in/link`
pub(super) async fn link() -> Response {
    page("Sign in", LINK_BODY, LINK_SCRIPT)
}

/// A page of its own with one script and one style, which are the only ones that run in it.
pub(super) fn page(title: &str, body: &str, script: &str) -> Response {
    let hash = |text: &str| STANDARD.encode(digest(&SHA256, text.as_bytes()));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(script),
        hash(STYLE)
    );
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title} - Weirgate</title>\n<style>{STYLE}</style>\n{body}\n\
         <script>{script}</script>\n</html>\n"
    );
    let mut answer = Html(html).into_response();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    answer
}

/// A page that says something, with a way to begin anew.
pub(super) fn notice(status: StatusCode, text: &str) -> Response {
    let body = format!(
        "<main>\n<h1>Sign in to Weirgate</h1>\n<p role=\"status\">{text}</p>\n\
         <p><a href=\"sign-in\">Try again</a></p>\n</main>"
    );
    (status, page("Sign in", &body, "")).into_response()
}

const STYLE: &str = include_str!("page.css");
const LINK_SCRIPT: &str = include_str!("link.js");
const LINK_BODY: &str = "<main>
<h1>Sign in to Weirgate</h1>
<p id=\"say\" role=\"status\">Looking at the link ...</p>
<p id=\"who\" hidden><strong id=\"sub\"></strong><br><span id=\"iss\"></span></p>
<p id=\"warn\" hidden>Is that not you? Then somebody else made this link: close the page.</p>
<button id=\"go\" hidden>Sign in</button>
<noscript><p>This page needs JavaScript: the link's secret is not sent with its address.</p></noscript>
</main>";
