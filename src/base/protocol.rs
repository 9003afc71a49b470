//! What is spoken with callers and with resources.

/// A protocol of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// Bytes.
    Tcp,
    /// The frontend/backend protocol of PostgreSQL, version 3.
    Postgres,
}

impl Protocol {
    /// Its word in configs and records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Postgres => "postgres",
        }
    }
}
