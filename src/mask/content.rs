//! What a body is, as far as masking must know.

/// How a body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// One JSON text.
    Json,
    /// Plain text, or markup.
    Text,
    /// JSON texts with line ends between.
    Ndjson,
    /// An event stream.
    Sse(Shape),
    /// Anything else: it cannot be masked.
    Opaque,
}

/// Whose events an event stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// OpenAI chat completions and what speaks like them.
    OpenAi,
    /// Anthropic messages.
    Anthropic,
    /// No known vendor: each event is masked for itself.
    Plain,
}

impl Content {
    /// Reads a `Content-Type` value. Only UTF-8 and supersets of ASCII can be masked.
    #[must_use]
    pub fn of(content_type: &[u8], shape: Shape) -> Self {
        let mut parts = content_type.split(|&byte| byte == b';');
        let media = parts.next().unwrap_or_default().trim_ascii();
        for parameter in parts {
            let Some(charset) = strip(parameter.trim_ascii(), b"charset") else { continue };
            let charset = charset.trim_ascii().strip_prefix(b"=").unwrap_or_default();
            let charset = charset.trim_ascii();
            let charset = charset.strip_prefix(b"\"").unwrap_or(charset);
            let charset = charset.strip_suffix(b"\"").unwrap_or(charset);
            if !is(charset, &["utf-8", "utf8", "us-ascii", "iso-8859-1"]) {
                return Self::Opaque;
            }
        }
        let application = strip(media, b"application/");
        match media {
            _ if is(media, &["application/json", "text/json"]) => Self::Json,
            _ if application.is_some_and(|media| is(media, LINES)) => Self::Ndjson,
            _ if is(media, &["text/event-stream"]) => Self::Sse(shape),
            _ if application.is_some_and(|media| is(media, TEXTS)) => Self::Text,
            _ if application.is_some_and(ends_with_json) => Self::Json,
            _ if strip(media, b"text/").is_some() => Self::Text,
            _ => Self::Opaque,
        }
    }
}

/// What of `application/` is JSON line by line, and what is text.
const LINES: &[&str] = &["x-ndjson", "ndjson", "jsonl", "x-jsonlines", "jsonlines"];
const TEXTS: &[&str] = &["xml", "yaml", "javascript"];

fn is(text: &[u8], names: &[&str]) -> bool {
    names.iter().any(|name| text.eq_ignore_ascii_case(name.as_bytes()))
}

/// What stands behind `prefix`, written in either case.
fn strip<'t>(text: &'t [u8], prefix: &[u8]) -> Option<&'t [u8]> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn ends_with_json(media: &[u8]) -> bool {
    let end = media.len().checked_sub(5).and_then(|start| media.get(start..));
    end.is_some_and(|end| end.eq_ignore_ascii_case(b"+json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_is_read_or_opaque() {
        let of = |text: &str| Content::of(text.as_bytes(), Shape::Plain);
        assert_eq!(of("Application/JSON; charset=UTF-8"), Content::Json);
        assert_eq!(of("application/problem+json"), Content::Json);
        assert_eq!(of("application/x-ndjson"), Content::Ndjson);
        assert_eq!(of("text/event-stream;charset=\"utf-8\""), Content::Sse(Shape::Plain));
        assert_eq!(of("text/html"), Content::Text);
        for opaque in
            ["", "application/octet-stream", "text/plain; charset=utf-16", "multipart/mixed"]
        {
            assert_eq!(of(opaque), Content::Opaque, "{opaque}");
        }
    }
}
