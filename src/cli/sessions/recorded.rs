//! Request and answer of an exchange, put together again from its entries.

use crate::base::ExchangeId;
use crate::record::fields::{Reader, Tag};
use crate::record::gap::Gap;
use crate::record::reader::OwnedEntry;
use crate::record::{Flags, Kind};
use ring::digest::{Context, SHA256};

/// One exchange.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) id: ExchangeId,
    pub(super) request: Request,
    /// As the caller got it; `None` when nothing of it was recorded.
    pub(super) answer: Option<Answer>,
}

/// What went upstream, in its recorded form.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) fields: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    /// A mask was in force: the real request may have been another.
    pub(super) masked: bool,
    /// Its body was not to be recorded.
    meta: bool,
    /// The last byte of it is there.
    whole: bool,
}

/// An answer without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Weight,
    pub(super) masked: bool,
}

/// What tells one body from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Weight {
    pub(super) len: u64,
    /// Hexadecimal.
    pub(super) sha256: String,
}

/// A body that is weighed as it comes.
pub(super) struct Body {
    context: Context,
    len: u64,
}

impl Default for Body {
    fn default() -> Self {
        Self { context: Context::new(&SHA256), len: 0 }
    }
}

impl Body {
    pub(super) fn push(&mut self, part: &[u8]) {
        self.context.update(part);
        self.len += part.len() as u64;
    }

    pub(super) fn finish(self) -> Weight {
        let digest = self.context.finish();
        let sha256 = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Weight { len: self.len, sha256 }
    }
}

impl Recorded {
    /// Reads the entries of one exchange, in order.
    ///
    /// # Errors
    /// Why there is no request in them.
    pub(super) fn of(entries: &[OwnedEntry]) -> Result<Self, String> {
        let of_kind = |kind| entries.iter().filter(move |entry| entry.meta.kind == kind);
        if of_kind(Kind::Data).next().is_some() {
            return Err("only http requests can be sent again: this one is of opaque bytes".into());
        }
        // A head that went out twice, since its first connection was dead, is the same head.
        let Some(head) = of_kind(Kind::RequestHead).next_back() else {
            return Err("nothing of this request went upstream (it was refused), \
                        so none of it can be sent again"
                .into());
        };
        let (method, target, fields) =
            parse(&head.body).ok_or("the recorded request head is damaged")?;
        let bodies = || of_kind(Kind::RequestBody);
        let body: Vec<u8> = bodies().flat_map(|entry| entry.body.iter().copied()).collect();
        let masked = |entry: &OwnedEntry| entry.meta.flags.has(Flags::MASKED);
        let text = |tag| field(entries, tag);
        let meta = text(Tag::Level).as_deref() == Some("meta");
        let masked = masked(head) || bodies().any(masked);
        let length = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length: Option<u64> =
            length.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok());
        let chunked = fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding"));
        let ended = text(Tag::Ending).as_deref() == Some("whole");
        let came = body.len() as u64;
        // What went on unrecorded is not there to be sent.
        let gap = gap(entries);
        let whole = gap.bytes_in == 0
            && match length {
                // What is masked has another length than what was sent.
                Some(length) if !masked => length == came,
                _ if chunked || masked => ended,
                _ => came == 0,
            };
        let request = Request { method, target, fields, body, masked, meta, whole };
        Ok(Self { id: head.meta.exchange, request, answer: answer(entries) })
    }
}

impl Request {
    /// Whether it is what was asked then.
    ///
    /// # Errors
    /// What is missing of it, or that its masked form must be asked for.
    pub(super) fn may_be_sent(&self, masked: bool) -> Result<(), String> {
        if self.meta {
            return Err("the request was recorded without its body (record = \"meta\")".into());
        }
        if !self.whole {
            return Err(
                "the recorded request is incomplete: it was cut before its last byte, or its \
                 body had no room in the record"
                    .into(),
            );
        }
        if self.masked && !masked {
            return Err(
                "the request was recorded in its masked form, which is not what was asked \
                        then; --masked sends it all the same"
                    .into(),
            );
        }
        Ok(())
    }
}

fn gap(entries: &[OwnedEntry]) -> Gap {
    let mut sum = Gap::default();
    let gaps = entries.iter().filter(|entry| entry.meta.kind == Kind::Gap);
    gaps.for_each(|entry| sum.add(&Gap::read(&entry.body)));
    sum
}

fn answer(entries: &[OwnedEntry]) -> Option<Answer> {
    if gap(entries).bytes_out > 0 {
        return None;
    }
    let of_kind = |kind| entries.iter().filter(move |entry| entry.meta.kind == kind);
    let head = of_kind(Kind::ResponseHead).next_back()?;
    let status = head.body.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok())?;
    let mut body = Body::default();
    // A refusal of the gateway's own is one entry, its body behind the head.
    if let Some(end) = memchr::memmem::find(&head.body, b"\r\n\r\n") {
        body.push(head.body.get(end + 4..).unwrap_or_default());
    }
    let mut masked = head.meta.flags.has(Flags::MASKED);
    for entry in of_kind(Kind::ResponseBody) {
        masked |= entry.meta.flags.has(Flags::MASKED);
        body.push(&entry.body);
    }
    Some(Answer { status: status.parse().ok()?, body: body.finish(), masked })
}

type Head = (String, String, Vec<(String, Vec<u8>)>);

/// Method, target and fields of a head.
fn parse(head: &[u8]) -> Option<Head> {
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.trim_ascii_end());
    let first = std::str::from_utf8(lines.next()?).ok()?;
    let (method, rest) = first.split_once(' ')?;
    let (target, version) = rest.rsplit_once(' ')?;
    if !version.starts_with("HTTP/") || !target.starts_with('/') {
        return None;
    }
    let mut fields = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let colon = memchr::memchr(b':', line)?;
        let (name, value) = line.split_at_checked(colon)?;
        let name = std::str::from_utf8(name).ok()?.to_owned();
        fields.push((name, value.get(1..)?.trim_ascii().to_vec()));
    }
    Some((method.to_owned(), target.to_owned(), fields))
}

/// The last field of this tag, as text.
fn field(entries: &[OwnedEntry], tag: Tag) -> Option<String> {
    let facts = entries.iter().rev().filter(|entry| !entry.meta.kind.is_raw());
    facts.into_iter().find_map(|entry| {
        let mut fields = Reader::new(&entry.body).map_while(Result::ok);
        let found = fields.find(|field| field.tag() == Some(tag))?;
        Some(found.as_text().into_owned())
    })
}
