//! Why a message was refused. Every variant is the fault of the peer that sent it.

use std::fmt;

macro_rules! faults {
    ($($(#[$line:meta])* $name:ident = $label:literal;)*) => {
        /// Why a message was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum WireError {
            $($(#[$line])* $name,)*
        }

        impl WireError {
            /// Every variant, for metrics that are made ahead.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// A fixed label for metrics and the record; never bytes of the peer.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

faults! {
    /// A length below what it must cover, or negative and not the one that says NULL.
    Length = "length";
    /// A message or packet longer than its limit.
    TooLong = "too_long";
    /// The body ends within a field.
    Truncated = "truncated";
    /// Bytes after the last field.
    Trailing = "trailing";
    /// A string or a list without its terminating zero byte.
    Terminator = "terminator";
    /// A count that is negative or contradicts another one.
    Count = "count";
    /// A format code other than text (0) and binary (1).
    Format = "format";
    /// Describe or Close of something other than a statement (`S`) or a portal (`P`).
    Target = "target";
    /// A transaction status other than `I`, `T` and `E`.
    Status = "status";
    /// A tag that this side of the protocol has not.
    UnknownTag = "unknown_tag";
    /// A start-up packet of another major version than 3.
    Version = "version";
    /// A request before the start that is none of SSL, GSS and cancel.
    UnknownRequest = "unknown_request";
    /// A cancel secret that is not of 4 to 256 bytes.
    Secret = "secret";
    /// A start-up parameter that stands twice, also in another case of letters.
    DuplicateParameter = "duplicate_parameter";
    /// More start-up parameters than the limit.
    TooManyParameters = "too_many_parameters";
    /// A field of an error or notice that stands twice.
    DuplicateField = "duplicate_field";
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl std::error::Error for WireError {}
