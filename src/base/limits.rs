//! Every bound in one table. Each has a key under `[limits]` of the config with the same name.

use super::Pace;

/// The bounds that a gateway runs with. Sizes are bytes, times milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request line, without its line end (414 above it).
    pub request_line_max: u32,
    /// Request head with all fields (431).
    pub request_head_max: u32,
    /// One header field, name and value (431).
    pub field_max: u32,
    /// Header fields of a request (431).
    pub fields_max: u32,
    /// Response head of an upstream (502).
    pub response_head_max: u32,
    /// Header fields of a response (502).
    pub response_fields_max: u32,
    /// A chunk-size line with its extension (400).
    pub chunk_line_max: u32,
    /// All chunk extensions of one message (400).
    pub chunk_extensions_max: u32,
    /// Trailer fields, and their bytes (431 / 502).
    pub trailer_fields_max: u32,
    /// See [`Self::trailer_fields_max`].
    pub trailers_max: u32,
    /// Request body (413).
    pub body_max: u64,
    /// How much of a body is read before a decision that needs an attribute of it (413).
    pub lookahead_max: u32,
    /// All bytes that one worker holds for look-ahead at a time (413).
    pub lookahead_worker_max: u64,
    /// One event of an event stream, or one JSON scalar that must be held whole (502).
    pub event_max: u32,
    /// Interim (1xx) responses to one request (502).
    pub interim_max: u32,
    /// Expansion of a compressed body: output bytes per input byte.
    pub expansion_ratio_max: u32,
    /// The text of one SQL statement, or of several in one message.
    pub sql_text_max: u32,
    /// One database message that must be looked at whole: a statement with its values, a row that
    /// is rebuilt. What passes as it is has no such bound.
    pub message_max: u32,
    /// Caller connections of one worker.
    pub connections_max: u32,
    /// Addresses of callers whose budgets one worker keeps at a time; 64 bytes each.
    pub addresses_max: u32,
    /// TLS handshakes in flight of one address, on one worker; above it connections are reset.
    pub address_handshakes_max: u32,
    /// TLS handshakes of one address in a second, on one worker; likewise.
    pub address_handshakes_per_s: u32,
    /// TLS handshakes at once of an address that made none for a while.
    pub address_handshakes_burst: u32,
    /// Tokens of one address that may fail in a second, on one worker; above it the token is not
    /// looked at (429).
    pub address_failures_per_s: u32,
    /// Tokens at once that may fail of an address that had no failure for a while.
    pub address_failures_burst: u32,
    /// Idle upstream connections kept per resource and worker.
    pub upstream_idle_max: u32,
    /// Upstream connections per resource and worker, busy ones included.
    pub upstream_connections_max: u32,
    /// A token (401).
    pub token_max: u32,
    /// Entries of a worker's verified-token cache.
    pub token_cache_entries: u32,
    /// Bytes of a worker's verified-token cache.
    pub token_cache_bytes: u32,
    /// Approval requests that wait for a person, and grants that are not used up, of everybody.
    pub approvals_max: u32,
    /// The same, of one caller.
    pub approvals_caller_max: u32,
    /// Approval requests that have ended and are still shown.
    pub approvals_kept_max: u32,
    /// Requests of one worker that wait for a person's approval (503).
    pub held_max: u32,
    /// The same, of one caller (503).
    pub held_caller_max: u32,
    /// Bytes of the body of such a request (413).
    pub held_body_max: u32,
    /// How long a caller waits for an approval, unless it asks for another time (403).
    pub hold_ms: u64,
    /// The same, of a statement in a transaction, which keeps its locks meanwhile.
    pub hold_transaction_ms: u64,
    /// A complete request head must have come (408).
    pub head_ms: u64,
    /// TLS handshake of a caller.
    pub handshake_ms: u64,
    /// Silence while a request body is due (408).
    pub body_idle_ms: u64,
    /// Connecting to an upstream, TLS included (504).
    pub connect_ms: u64,
    /// First byte of the answer after the request was sent (504).
    pub first_byte_ms: u64,
    /// Silence between bytes of an answer.
    pub answer_idle_ms: u64,
    /// A whole exchange; of a database, one statement.
    pub exchange_ms: u64,
    /// An idle keep-alive connection of a caller.
    pub idle_ms: u64,
    /// A database session of a caller between two statements; a pool keeps sessions for hours.
    pub session_idle_ms: u64,
    /// Upstream sessions by rules' own credentials that one database session may have.
    pub session_credentials_max: u32,
    /// How long after its token has expired a database session still takes statements.
    pub token_grace_ms: u64,
    /// How long an approval request that has ended is still shown.
    pub approvals_kept_ms: u64,
    /// An idle pooled connection to an upstream.
    pub upstream_idle_ms: u64,
    /// A write that makes no progress.
    pub write_ms: u64,
    /// Draining after SIGTERM.
    pub drain_ms: u64,
    /// Reading and dropping after a refusal, so that the answer is not reset away.
    pub linger_ms: u64,
    /// See [`Self::linger_ms`].
    pub linger_max: u32,
}

impl Limits {
    /// How fast one address may make handshakes.
    #[must_use]
    pub fn handshakes(&self) -> Pace {
        Pace { per_s: self.address_handshakes_per_s, burst: self.address_handshakes_burst }
    }

    /// How fast one address may show tokens that fail.
    #[must_use]
    pub fn failures(&self) -> Pace {
        Pace { per_s: self.address_failures_per_s, burst: self.address_failures_burst }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_line_max: 8 << 10,
            request_head_max: 32 << 10,
            field_max: 17 << 10,
            fields_max: 100,
            response_head_max: 64 << 10,
            response_fields_max: 200,
            chunk_line_max: 256,
            chunk_extensions_max: 1 << 10,
            trailer_fields_max: 16,
            trailers_max: 8 << 10,
            body_max: 64 << 20,
            lookahead_max: 8 << 20,
            lookahead_worker_max: 64 << 20,
            event_max: 1 << 20,
            interim_max: 16,
            expansion_ratio_max: 200,
            sql_text_max: 64 << 10,
            message_max: 16 << 20,
            connections_max: 10_000,
            addresses_max: 4_096,
            address_handshakes_max: 512,
            address_handshakes_per_s: 200,
            address_handshakes_burst: 2_000,
            address_failures_per_s: 50,
            address_failures_burst: 500,
            upstream_idle_max: 256,
            upstream_connections_max: 1_024,
            token_max: 16 << 10,
            token_cache_entries: 2_048,
            token_cache_bytes: 4 << 20,
            approvals_max: 10_000,
            approvals_caller_max: 64,
            approvals_kept_max: 10_000,
            held_max: 1_024,
            held_caller_max: 256,
            held_body_max: 64 << 10,
            hold_ms: 120_000,
            hold_transaction_ms: 30_000,
            head_ms: 10_000,
            handshake_ms: 5_000,
            body_idle_ms: 30_000,
            connect_ms: 3_000,
            first_byte_ms: 300_000,
            answer_idle_ms: 60_000,
            exchange_ms: 3_600_000,
            idle_ms: 60_000,
            session_idle_ms: 28_800_000,
            session_credentials_max: 4,
            token_grace_ms: 0,
            approvals_kept_ms: 604_800_000,
            upstream_idle_ms: 30_000,
            write_ms: 30_000,
            drain_ms: 30_000,
            linger_ms: 2_000,
            linger_max: 64 << 10,
        }
    }
}
