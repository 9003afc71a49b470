//! Why a head or a body was refused. Every variant is the peer's fault.

use std::fmt;

macro_rules! faults {
    ($(#[$doc:meta])* $type:ident { $($(#[$line:meta])* $name:ident = $status:literal, $label:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $type {
            $($(#[$line])* $name,)*
        }

        impl $type {
            /// Every variant, for metrics that are made ahead.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The status that a caller hears when the fault is in its request.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// A fixed label for metrics and the record; never bytes of the peer.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.label())
            }
        }
    };
}

faults! {
    /// What is wrong with a head.
    HeadFault {
        /// A line that does not end in CRLF (RFC 9112, section 2.2).
        BareLineFeed = 400, "bare_line_feed";
        /// Empty lines where a start line is due: more than one, or any in a response.
        EmptyLine = 400, "empty_line";
        /// CR elsewhere than before LF.
        LineEnd = 400, "line_end";
        /// The start line is not of its grammar.
        StartLine = 400, "start_line";
        /// The start line is longer than the limit.
        LineTooLong = 414, "line_too_long";
        /// The whole head is longer than the limit.
        HeadTooLong = 431, "head_too_long";
        /// One field is longer than the limit.
        FieldTooLong = 431, "field_too_long";
        /// More fields than the limit.
        TooManyFields = 431, "too_many_fields";
        /// The connection preface of HTTP/2.
        Http2Preface = 400, "http2_preface";
        /// A version other than 1.0 and 1.1.
        Version = 505, "version";
        /// `CONNECT`, `TRACE` or `TRACK`, in any case of letters.
        MethodNotOffered = 405, "method_not_offered";
        /// A field name that is no token, a folded line, white space before the colon.
        FieldName = 400, "field_name";
        /// A control byte in a field value.
        FieldValue = 400, "field_value";
        /// A second line of a field of which there may be one only.
        DuplicateField = 400, "duplicate_field";
        /// A name with `_` or kin that a CGI-style upstream would read as a field of weight.
        UnderscoreAlias = 400, "underscore_alias";
        /// `Content-Length` and `Transfer-Encoding` together (RFC 9112, section 6.3).
        AmbiguousLength = 400, "ambiguous_length";
        /// `Content-Length` that is not one plain number of 64 bits.
        ContentLength = 400, "content_length";
        /// `Content-Length` above the limit.
        BodyTooLarge = 413, "body_too_large";
        /// `Transfer-Encoding` other than one plain coding, or in HTTP/1.0.
        TransferEncoding = 400, "transfer_encoding";
        /// A well-formed transfer coding that is not `chunked`.
        UnknownCoding = 501, "unknown_transfer_coding";
        /// HTTP/1.1 without `Host`.
        HostMissing = 400, "host_missing";
        /// `Host` or an authority that is no host with an optional port.
        HostMalformed = 400, "host_malformed";
        /// The authority of the target is not the `Host`.
        HostMismatch = 400, "host_mismatch";
        /// A target form that is not offered: authority form, a strange scheme, `*` out of place.
        TargetForm = 400, "target_form";
        /// A byte or escape in the target that is outside of the grammar.
        TargetByte = 400, "target_byte";
        /// A path that two servers could read in two ways.
        PathAmbiguous = 400, "path_ambiguous";
        /// `Connection` that is no list of tokens, or too long a list.
        Connection = 400, "connection";
        /// `Connection` that names a field which is not hop by hop by nature.
        ConnectionNames = 400, "connection_names_field";
        /// An expectation other than `100-continue`.
        Expectation = 417, "expectation";
        /// A status outside of 100 to 599.
        Status = 400, "status";
        /// 101 that nobody asked for.
        UnaskedUpgrade = 400, "unasked_upgrade";
    }
}

faults! {
    /// What is wrong with a body. For an upstream's body the caller hears 502 instead.
    BodyError {
        /// The size of a chunk is missing, too long or no number.
        ChunkSize = 400, "chunk_size";
        /// The extension of a chunk is not of its grammar.
        ChunkExtension = 400, "chunk_extension";
        /// The size line of a chunk is too long, or all extensions together are.
        ChunkLineTooLong = 400, "chunk_line_too_long";
        /// A line of the framing that does not end in CRLF.
        ChunkLineEnd = 400, "chunk_line_end";
        /// Bytes after the data of a chunk.
        ChunkData = 400, "chunk_data";
        /// A trailer field that is not of the grammar of fields.
        Trailer = 400, "trailer";
        /// Too many trailer fields, or too many bytes of them.
        TrailersTooLong = 431, "trailers_too_long";
        /// More bytes than the limit.
        TooLarge = 413, "body_too_large";
        /// The peer ended before the body did.
        Incomplete = 400, "body_incomplete";
    }
}

impl std::error::Error for BodyError {}

/// Why a head was refused, and whose head it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadError {
    kind: HeadFault,
    upstream: bool,
}

impl HeadError {
    pub(super) fn request(kind: HeadFault) -> Self {
        Self { kind, upstream: false }
    }

    pub(super) fn response(kind: HeadFault) -> Self {
        Self { kind, upstream: true }
    }

    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> HeadFault {
        self.kind
    }

    /// The status that the caller hears: 502 for whatever an upstream did.
    #[must_use]
    pub fn status(&self) -> u16 {
        if self.upstream { 502 } else { self.kind.status() }
    }

    /// A fixed label for metrics and the record.
    #[must_use]
    pub fn label(&self) -> &'static str {
        self.kind.label()
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl std::error::Error for HeadError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn labels_are_unique_and_an_upstream_is_always_a_bad_gateway() {
        let labels: HashSet<_> = HeadFault::ALL.iter().map(|fault| fault.label()).collect();
        assert_eq!(labels.len(), HeadFault::ALL.len());
        let labels: HashSet<_> = BodyError::ALL.iter().map(|fault| fault.label()).collect();
        assert_eq!(labels.len(), BodyError::ALL.len());
        for fault in HeadFault::ALL {
            assert_eq!(HeadError::response(*fault).status(), 502);
            assert!((400..=505).contains(&HeadError::request(*fault).status()));
        }
    }
}
