//! Every refusal that a caller can meet: one kind, one status, one stable URI.

use crate::base::ApprovalId;

/// Why an exchange is refused, as the caller, the log, the record and the metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Refusal {
    /// The head or body is malformed or could be read in two ways.
    BadRequest,
    /// A body of JSON that a person is asked about has a name twice in one object.
    AmbiguousBody,
    /// A limit of the head was passed.
    HeadTooLarge,
    /// The request line is too long.
    TargetTooLong,
    /// A method that is not offered.
    MethodNotAllowed,
    /// No token, two tokens, or one that does not hold.
    Unauthenticated,
    /// No rule permits it, or one forbids it.
    Denied,
    /// No resource of that name.
    NoResource,
    /// The name is not served on this listener.
    Misdirected,
    /// The request did not come in time.
    RequestTimeout,
    /// The body is larger than allowed, or than can be looked at.
    BodyTooLarge,
    /// The body's coding or type cannot be masked or decided on.
    UnsupportedBody,
    /// An expectation other than `100-continue`.
    ExpectationFailed,
    /// A transfer coding or an upgrade that is not offered.
    NotImplemented,
    /// A version of the protocol that is not offered.
    BadVersion,
    /// The upstream answered what cannot be passed on.
    BadUpstream,
    /// The upstream could not be reached.
    Unreachable,
    /// The upstream was silent for too long.
    UpstreamTimeout,
    /// The answer could not be masked.
    Unmaskable,
    /// Nothing can be recorded at the moment.
    Unrecordable,
    /// The gateway is draining, or at its limits.
    Overloaded,
    /// Too many tokens of the caller's address did not hold.
    TooManyFailures,
    /// A person has to approve first, and nobody did so far.
    ApprovalRequired,
    /// A person said no.
    ApprovalDenied,
    /// Nobody decided in time, or the approval was taken back.
    ApprovalExpired,
    /// The rule asks for the caller's reason.
    ReasonRequired,
}

impl Refusal {
    /// All of them, for tables of counters.
    pub const ALL: [Self; 26] = [
        Self::BadRequest,
        Self::AmbiguousBody,
        Self::HeadTooLarge,
        Self::TargetTooLong,
        Self::MethodNotAllowed,
        Self::Unauthenticated,
        Self::Denied,
        Self::NoResource,
        Self::Misdirected,
        Self::RequestTimeout,
        Self::BodyTooLarge,
        Self::UnsupportedBody,
        Self::ExpectationFailed,
        Self::NotImplemented,
        Self::BadVersion,
        Self::BadUpstream,
        Self::Unreachable,
        Self::UpstreamTimeout,
        Self::Unmaskable,
        Self::Unrecordable,
        Self::Overloaded,
        Self::TooManyFailures,
        Self::ApprovalRequired,
        Self::ApprovalDenied,
        Self::ApprovalExpired,
        Self::ReasonRequired,
    ];

    /// Position in [`Self::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// The fixed label; also the last part of the problem's `type`.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.parts().0
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        self.parts().1
    }

    /// The problem's `title` (RFC 9457, section 3.1.3): constant for the kind.
    #[must_use]
    pub fn title(self) -> &'static str {
        self.parts().2
    }

    /// The error's `type` that the SDKs of LLM providers read.
    #[must_use]
    pub fn sdk_type(self) -> &'static str {
        match self.status() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            400..500 => "invalid_request_error",
            _ => "api_error",
        }
    }

    fn parts(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::BadRequest => ("bad-request", 400, "The request is malformed"),
            Self::AmbiguousBody => {
                ("ambiguous-body", 400, "An object of the JSON body has a name twice")
            }
            Self::HeadTooLarge => ("head-too-large", 431, "The request head is too large"),
            Self::TargetTooLong => ("target-too-long", 414, "The request target is too long"),
            Self::MethodNotAllowed => ("method-not-allowed", 405, "The method is not offered"),
            Self::Unauthenticated => ("unauthenticated", 401, "A valid token is needed"),
            Self::Denied => ("denied", 403, "The policy does not permit this operation"),
            Self::NoResource => ("no-resource", 404, "There is no such resource"),
            Self::Misdirected => ("misdirected", 421, "The name is not served here"),
            Self::RequestTimeout => ("request-timeout", 408, "The request did not come in time"),
            Self::BodyTooLarge => ("body-too-large", 413, "The request body is too large"),
            Self::UnsupportedBody => {
                ("unsupported-body", 415, "The request body cannot be decided on")
            }
            Self::ExpectationFailed => ("expectation-failed", 417, "The expectation cannot be met"),
            Self::NotImplemented => ("not-implemented", 501, "This is not offered"),
            Self::BadVersion => ("bad-version", 505, "The protocol version is not offered"),
            Self::BadUpstream => ("bad-upstream", 502, "The resource answered out of order"),
            Self::Unreachable => ("unreachable", 502, "The resource cannot be reached"),
            Self::UpstreamTimeout => {
                ("upstream-timeout", 504, "The resource did not answer in time")
            }
            Self::Unmaskable => ("unmaskable", 502, "The answer cannot be masked"),
            Self::Unrecordable => ("unrecordable", 503, "The exchange cannot be recorded"),
            Self::Overloaded => ("overloaded", 503, "The gateway takes no new work"),
            Self::TooManyFailures => {
                ("too-many-failures", 429, "Too many tokens of this address were not valid")
            }
            Self::ApprovalRequired => {
                ("approval-required", 403, "A person has to approve this operation first")
            }
            Self::ApprovalDenied => ("approval-denied", 403, "A person refused this operation"),
            Self::ApprovalExpired => {
                ("approval-expired", 403, "The approval of this operation is not in force")
            }
            Self::ReasonRequired => {
                ("reason-required", 403, "This operation takes a reason, in x-weirgate-reason")
            }
        }
    }
}

/// Writes the problem document (RFC 9457) with the `error` member that SDKs read. `rule` and
/// `request_id` are names of ours; nothing of the caller's or the upstream's bytes is in it.
pub(super) fn write_problem(
    refusal: Refusal,
    request_id: &[u8],
    rule: Option<&str>,
    approval: Option<ApprovalId>,
    to: &mut Vec<u8>,
) {
    let mut text = |part: &[u8]| to.extend_from_slice(part);
    text(b"{\"type\":\"https://weirgate.dev/problems/");
    text(refusal.label().as_bytes());
    text(b"\",\"title\":\"");
    text(refusal.title().as_bytes());
    text(b"\",\"status\":");
    text(refusal.status().to_string().as_bytes());
    text(b",\"detail\":\"");
    text(refusal.title().as_bytes());
    text(b"\",\"request_id\":\"");
    text(request_id);
    text(b"\"");
    if let Some(rule) = rule {
        text(b",\"rule\":");
        text(serde_json::Value::from(rule).to_string().as_bytes());
    }
    if let Some(id) = approval {
        text(b",\"approval\":\"");
        text(&id.hex());
        text(b"\",\"approval_url\":\"/.weirgate/approvals/");
        text(&id.hex());
        text(b"\"");
    }
    text(b",\"error\":{\"message\":\"");
    text(refusal.title().as_bytes());
    text(b" (request ");
    text(request_id);
    text(b")\",\"type\":\"");
    text(refusal.sdk_type().as_bytes());
    text(b"\",\"code\":\"");
    text(refusal.label().as_bytes());
    text(b"\",\"param\":null}}");
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_place_a_label_of_its_own_and_a_valid_document() {
        let mut labels = std::collections::BTreeSet::new();
        for (place, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal.index(), place);
            assert!(labels.insert(refusal.label()));
            let mut bytes = Vec::new();
            let approval = Some(ApprovalId(1));
            write_problem(refusal, b"0123", Some("a \"rule\""), approval, &mut bytes);
            let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(value["status"], refusal.status());
            assert_eq!(value["rule"], "a \"rule\"");
            assert_eq!(value["approval"], "00000000000000000000000000000001");
            assert_eq!(value["error"]["code"], refusal.label());
        }
    }
}
