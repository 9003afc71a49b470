//! Why a body could not be masked.

use super::detector::What;
use crate::scan::json::JsonError;
use crate::scan::sse::SseError;
use std::fmt;

/// Why a body could not be masked. Nothing more of it may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MaskError {
    /// Content that cannot be read under a mask.
    Unsupported,
    /// What should be JSON is not.
    Broken(JsonError),
    /// A value whose operator is `block`.
    Blocked(What),
    /// An event above the bound.
    EventTooLong,
    /// More texts open at a time than are tracked.
    TooManyTexts,
    /// A private key that does not end.
    Endless,
}

impl MaskError {
    /// A fixed word for counters and records.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unsupported => "mask_unsupported",
            Self::Broken(_) => "mask_broken_json",
            Self::Blocked(_) => "mask_blocked",
            Self::EventTooLong => "mask_event_too_long",
            Self::TooManyTexts => "mask_too_many_texts",
            Self::Endless => "mask_endless_secret",
        }
    }
}

impl fmt::Display for MaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported => f.write_str("this kind of content cannot be masked"),
            Self::Broken(JsonError::TooDeep) => f.write_str("the JSON is nested too deep"),
            Self::Broken(JsonError::Truncated) => f.write_str("the JSON ends too early"),
            Self::Broken(_) => f.write_str("the JSON is broken"),
            Self::Blocked(What::Entity(detector)) => write!(f, "a value of {detector} is blocked"),
            Self::Blocked(What::Field) => f.write_str("a field is blocked"),
            Self::Blocked(What::Column) => f.write_str("a column is blocked"),
            Self::EventTooLong => f.write_str("an event is too long"),
            Self::TooManyTexts => f.write_str("too many texts are open at a time"),
            Self::Endless => f.write_str("a private key does not end"),
        }
    }
}

impl std::error::Error for MaskError {}

impl From<JsonError> for MaskError {
    fn from(error: JsonError) -> Self {
        Self::Broken(error)
    }
}

impl From<SseError> for MaskError {
    fn from(error: SseError) -> Self {
        match error {
            SseError::TooLong => Self::EventTooLong,
        }
    }
}
