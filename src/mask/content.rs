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
        let media = parts.next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
        for parameter in parts {
            let parameter = parameter.trim_ascii().to_ascii_lowercase();
            if let Some(charset) = parameter.strip_prefix(b"charset") {
                let charset = charset.trim_ascii().strip_prefix(b"=").unwrap_or_default();
                let charset = charset.trim_ascii();
                let charset = charset.strip_prefix(b"\"").unwrap_or(charset);
                let charset = charset.strip_suffix(b"\"").unwrap_or(charset);
                if !matches!(charset, b"utf-8" | b"utf8" | b"us-ascii" | b"iso-8859-1") {
                    return Self::Opaque;
                }
            }
        }
        match media.as_slice() {
            b"application/json" | b"text/json" => Self::Json,
            b"application/x-ndjson"
            | b"application/ndjson"
            | b"application/jsonl"
            | b"application/x-jsonlines"
            | b"application/jsonlines" => Self::Ndjson,
            b"text/event-stream" => Self::Sse(shape),
            b"application/xml" | b"application/yaml" | b"application/javascript" => Self::Text,
            media if media.starts_with(b"application/") && media.ends_with(b"+json") => Self::Json,
            media if media.starts_with(b"text/") => Self::Text,
            _ => Self::Opaque,
        }
    }
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
