//! Fields: the bodies of metadata entries (tag, length, bytes).

/// What a field holds. Numbers are stable: they are on disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum Tag {
    /// Issuer of the caller's token. Text.
    Iss = 1,
    /// Subject. Text.
    Sub = 2,
    /// One actor of a delegation, outermost first; repeated. Text.
    Actor = 3,
    /// Client id. Text.
    ClientId = 4,
    /// SHA-256 of the token. 32 bytes.
    TokenDigest = 5,
    /// Resource name. Text.
    Resource = 6,
    /// Listener name. Text.
    Listener = 7,
    /// Rule id. Text.
    Rule = 8,
    /// `permit`, `deny`, `hold`. Text.
    Decision = 9,
    /// Fixed label of a refusal. Text.
    Refusal = 10,
    /// Request method. Text.
    Method = 11,
    /// Canonical path after the resource segment. Bytes.
    Path = 12,
    /// Query. Bytes.
    Query = 13,
    /// Status of the answer. Number.
    Status = 14,
    /// Model that the request names. Bytes.
    Model = 15,
    /// Name of the credential that was put in. Text.
    Credential = 16,
    /// Digest of the policy. 32 bytes.
    PolicyDigest = 17,
    /// Body bytes from the caller. Number.
    BytesIn = 18,
    /// Body bytes to the caller. Number.
    BytesOut = 19,
    /// Nanoseconds from the request's first byte to the decision. Number.
    DecideNs = 20,
    /// Nanoseconds until an upstream connection stood. Number.
    ConnectNs = 21,
    /// Nanoseconds until the answer's first byte. Number.
    FirstByteNs = 22,
    /// Nanoseconds of the whole exchange. Number.
    TotalNs = 23,
    /// Address of the caller. Text.
    Peer = 24,
    /// A detector that found something; each is followed by its [`Tag::Count`]. Text.
    Detector = 25,
    /// How often. Number.
    Count = 26,
    /// Keyed hash of a masked value. Bytes.
    MaskHash = 27,
    /// A message head as it was sent, without credentials. Bytes.
    Head = 28,
    /// Protocol: `http`, `tcp`, `postgres`. Text.
    Protocol = 29,
    /// Groups of the caller that counted; repeated. Text.
    Group = 30,
    /// Name of a mask in force; repeated. Text.
    Mask = 31,
    /// Generation of the policy. Number.
    PolicyGeneration = 32,
    /// Fixed label of a failure. Text.
    Failure = 33,
    /// How it ended: `whole` when request and answer, or its refusal, came to their last bytes;
    /// else `cut`. Text.
    Ending = 34,
    /// Asserted LangGraph node. Bytes.
    Node = 35,
    /// Asserted LangGraph step. Bytes.
    Step = 36,
    /// Asserted LangGraph task. Bytes.
    Task = 37,
    /// Asserted run. Bytes.
    Run = 38,
    /// Asserted thread. Bytes.
    Thread = 39,
    /// Wall nanoseconds. Number.
    WallNs = 40,
    /// Monotonic nanoseconds. Number.
    MonoNs = 41,
    /// Free text for an operator. Text.
    Note = 42,
    /// Address of the upstream. Text.
    Upstream = 43,
    /// How much is recorded, where it is not all of it: `meta`. Text.
    Level = 44,
    /// An operator's name. Text.
    Operator = 45,
    /// Approval request. Text.
    Approval = 46,
    /// Content type of a body. Bytes.
    ContentType = 47,
    /// Statement text. Bytes.
    Statement = 48,
    /// SQLSTATE of an error that an exchange ended with. Text.
    SqlState = 49,
    /// Rows that went to the caller. Number.
    Rows = 50,
    /// User that a caller named, which counts for nothing. Bytes.
    User = 51,
    /// Application that a caller named. Bytes.
    Application = 52,
    /// Digest of the exact operation that an approval is about. 32 bytes.
    Fingerprint = 53,
    /// Digest of what a person was shown of it. 32 bytes.
    Shown = 54,
    /// Why, in a person's words. Text.
    Reason = 55,
    /// By what a vote came, where that is not the API itself: `link:HOOK`, `callback:HOOK`. Text.
    Via = 56,
}

/// Tag and name of every field.
const NAMES: &[(Tag, &str)] = &[
    (Tag::Iss, "iss"),
    (Tag::Sub, "sub"),
    (Tag::Actor, "actor"),
    (Tag::ClientId, "client_id"),
    (Tag::TokenDigest, "token_digest"),
    (Tag::Resource, "resource"),
    (Tag::Listener, "listener"),
    (Tag::Rule, "rule"),
    (Tag::Decision, "decision"),
    (Tag::Refusal, "refusal"),
    (Tag::Method, "method"),
    (Tag::Path, "path"),
    (Tag::Query, "query"),
    (Tag::Status, "status"),
    (Tag::Model, "model"),
    (Tag::Credential, "credential"),
    (Tag::PolicyDigest, "policy_digest"),
    (Tag::BytesIn, "bytes_in"),
    (Tag::BytesOut, "bytes_out"),
    (Tag::DecideNs, "decide_ns"),
    (Tag::ConnectNs, "connect_ns"),
    (Tag::FirstByteNs, "first_byte_ns"),
    (Tag::TotalNs, "total_ns"),
    (Tag::Peer, "peer"),
    (Tag::Detector, "detector"),
    (Tag::Count, "count"),
    (Tag::MaskHash, "mask_hash"),
    (Tag::Head, "head"),
    (Tag::Protocol, "protocol"),
    (Tag::Group, "group"),
    (Tag::Mask, "mask"),
    (Tag::PolicyGeneration, "policy_generation"),
    (Tag::Failure, "failure"),
    (Tag::Ending, "ending"),
    (Tag::Node, "node"),
    (Tag::Step, "step"),
    (Tag::Task, "task"),
    (Tag::Run, "run"),
    (Tag::Thread, "thread"),
    (Tag::WallNs, "wall_ns"),
    (Tag::MonoNs, "mono_ns"),
    (Tag::Note, "note"),
    (Tag::Upstream, "upstream"),
    (Tag::Level, "level"),
    (Tag::Operator, "operator"),
    (Tag::Approval, "approval"),
    (Tag::ContentType, "content_type"),
    (Tag::Statement, "statement"),
    (Tag::SqlState, "sqlstate"),
    (Tag::Rows, "rows"),
    (Tag::User, "user"),
    (Tag::Application, "application"),
    (Tag::Fingerprint, "fingerprint"),
    (Tag::Shown, "shown"),
    (Tag::Reason, "reason"),
    (Tag::Via, "via"),
];

impl Tag {
    /// The tag of a stored number.
    #[must_use]
    pub fn of(number: u8) -> Option<Self> {
        NAMES.get(usize::from(number).checked_sub(1)?).map(|(tag, _)| *tag)
    }

    /// Its name in listings.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.get((self as usize).wrapping_sub(1)).map_or("", |(_, name)| *name)
    }

    /// Whether the bytes are a number (8 bytes, little-endian).
    #[must_use]
    pub fn is_number(self) -> bool {
        matches!(
            self,
            Self::Status
                | Self::BytesIn
                | Self::BytesOut
                | Self::DecideNs
                | Self::ConnectNs
                | Self::FirstByteNs
                | Self::TotalNs
                | Self::Count
                | Self::PolicyGeneration
                | Self::WallNs
                | Self::MonoNs
                | Self::Rows
        )
    }
}

/// Longest value of one field, above every head limit; [`Writer`] cuts longer ones.
pub const VALUE_MAX: usize = 128 << 10;

/// Appends fields to a buffer that the caller reuses.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Empties `out` and writes to it.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        out.clear();
        Self { out }
    }

    /// Appends bytes or text, cut at [`VALUE_MAX`].
    pub fn bytes(&mut self, tag: Tag, value: &[u8]) -> &mut Self {
        debug_assert!(!tag.is_number());
        let value = value.get(..VALUE_MAX).unwrap_or(value);
        self.put(tag, value)
    }

    /// Appends text.
    pub fn text(&mut self, tag: Tag, value: &str) -> &mut Self {
        self.bytes(tag, value.as_bytes())
    }

    /// Appends text where there is some.
    pub fn maybe(&mut self, tag: Tag, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(tag, value),
            None => self,
        }
    }

    /// Appends a number.
    pub fn number(&mut self, tag: Tag, value: u64) -> &mut Self {
        debug_assert!(tag.is_number());
        self.put(tag, &value.to_le_bytes())
    }

    /// Appends fields that another writer wrote.
    pub fn fields(&mut self, written: &[u8]) -> &mut Self {
        self.out.extend_from_slice(written);
        self
    }

    fn put(&mut self, tag: Tag, value: &[u8]) -> &mut Self {
        // At most VALUE_MAX, which fits.
        let [a, b, c, d] = u32::try_from(value.len()).unwrap_or(0).to_le_bytes();
        self.out.reserve(value.len() + 5);
        self.out.extend_from_slice(&[tag as u8, a, b, c, d]);
        self.out.extend_from_slice(value);
        self
    }
}

/// One field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The stored number of its tag.
    pub number: u8,
    /// What stands in it.
    pub value: &'a [u8],
}

impl<'a> Field<'a> {
    /// The tag, where this version knows it.
    #[must_use]
    pub fn tag(&self) -> Option<Tag> {
        Tag::of(self.number)
    }

    /// As a number: exactly 8 bytes.
    #[must_use]
    pub fn as_number(&self) -> Option<u64> {
        Some(u64::from_le_bytes(self.value.try_into().ok()?))
    }

    /// As text, what is no UTF-8 replaced.
    #[must_use]
    pub fn as_text(&self) -> std::borrow::Cow<'a, str> {
        String::from_utf8_lossy(self.value)
    }
}

/// The fields do not fill the body exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Where in the body the bad field begins.
    pub offset: usize,
}

/// Walks the fields of a body; ends after the first error.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    body: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Over a whole body.
    #[must_use]
    pub fn new(body: &'a [u8]) -> Self {
        Self { body, offset: 0 }
    }

    /// The first field with `tag`; errors count as the end.
    #[must_use]
    pub fn find(body: &'a [u8], tag: Tag) -> Option<Field<'a>> {
        Self::new(body).map_while(Result::ok).find(|field| field.number == tag as u8)
    }

    fn step(&self) -> Option<(Field<'a>, usize)> {
        let rest = self.body.get(self.offset..)?;
        let (number, rest) = rest.split_first()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
        Some((Field { number: *number, value: rest.get(..len)? }, 5 + len))
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Field<'a>, FieldError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.offset >= self.body.len() {
            return None;
        }
        if let Some((field, len)) = self.step() {
            self.offset += len;
            return Some(Ok(field));
        }
        let error = FieldError { offset: self.offset };
        self.offset = self.body.len();
        Some(Err(error))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn tags_keep_their_numbers() {
        for (place, (tag, name)) in NAMES.iter().enumerate() {
            assert_eq!(*tag as usize, place + 1, "{name}");
            assert_eq!((Tag::of(*tag as u8), tag.name()), (Some(*tag), *name));
        }
        assert_eq!(Tag::of(0), None);
        assert_eq!(Tag::of(255), None);
    }

    #[test]
    fn fields_read_back_and_each_cut_is_an_error_or_fewer_fields() {
        let mut body = vec![1, 2, 3];
        Writer::new(&mut body)
            .text(Tag::Sub, "ana")
            .maybe(Tag::ClientId, None)
            .number(Tag::Status, 200)
            .bytes(Tag::Path, b"")
            .bytes(Tag::Head, &vec![9; VALUE_MAX + 1]);
        let fields: Vec<_> = Reader::new(&body).collect::<Result<_, _>>().unwrap();
        assert_eq!(fields.len(), 4);
        assert_eq!(fields[0].as_text(), "ana");
        assert_eq!(fields[1].as_number(), Some(200));
        assert_eq!(fields[3].value.len(), VALUE_MAX);
        assert_eq!(Reader::find(&body, Tag::Status).unwrap().as_number(), Some(200));
        assert!(Reader::find(&body, Tag::Iss).is_none());
        for cut in 0..40 {
            let read: Vec<_> = Reader::new(&body[..cut]).collect();
            let whole = read.iter().filter(|field| field.is_ok()).count();
            assert!(read.len() <= whole + 1);
        }
        assert!(Reader::new(&[1, 255, 255, 255, 255, 0]).next().unwrap().is_err());
    }
}
