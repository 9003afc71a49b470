//! The statements of a recorded connection to a database, put together again from its entries.
//!
//! An exchange is a cycle of the protocol: one simple query, or what goes up to a Sync. Its messages
//! become [`Unit`]s, each with what was sent, in order, and the answer to it. Prepared statements
//! and portals are known over the whole connection, since drivers name them again much later.

use super::answers::{Answers, Part, Told};
use super::harmless::copies;
use crate::base::ExchangeId;
use crate::record::fields::{Reader, Tag};
use crate::record::reader::OwnedEntry;
use crate::record::{Flags, Kind};
use crate::session::postgres::POISON;
use crate::wire::postgres::{Backend, FRAME_HEAD, Frontend, TxStatus, backend, frame, frontend};
use std::collections::HashMap;
use std::rc::Rc;

/// One exchange.
pub(super) struct Cycle {
    pub(super) id: ExchangeId,
    pub(super) units: Vec<Unit>,
    /// Where its transaction stood behind it.
    pub(super) status: Option<TxStatus>,
}

/// A statement: what was sent of it, and what came.
#[derive(Default)]
pub(super) struct Unit {
    pub(super) text: Vec<u8>,
    pub(super) sent: Vec<Sent>,
    /// The statement that a Bind among them names, where it was prepared before.
    pub(super) needs: Option<Rc<Prepared>>,
    /// What is recorded of it is not what was sent.
    pub(super) masked: bool,
    /// Why it cannot be run, whatever the user wants.
    pub(super) cannot: Option<&'static str>,
    /// Empty where no answer is recorded.
    pub(super) parts: Vec<Part>,
}

/// A message, whole.
pub(super) struct Sent {
    pub(super) what: What,
    pub(super) bytes: Vec<u8>,
    /// The statement of Parse, Bind and Close, the portal of Execute.
    pub(super) name: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Query,
    Parse,
    Bind,
    DescribeStatement,
    DescribePortal,
    Execute,
    CloseStatement,
    ClosePortal,
}

/// A statement that was prepared by the protocol.
pub(super) struct Prepared {
    pub(super) name: Vec<u8>,
    pub(super) text: Vec<u8>,
    /// The Parse message.
    pub(super) parse: Vec<u8>,
    masked: bool,
}

/// Settings that change how values look, by their names.
pub(super) type Settings = Vec<(&'static str, String)>;

/// What the entries of a connection tell, in order.
#[derive(Default)]
pub(super) struct Recorded {
    pub(super) cycles: Vec<Cycle>,
    /// As they stood before the first of the cycles that are asked for.
    pub(super) settings: Settings,
}

impl Recorded {
    /// All statements of a connection whose own exchange is `link`, or those of one exchange.
    pub(super) fn of(entries: &[OwnedEntry], link: ExchangeId, only: Option<ExchangeId>) -> Self {
        let (mut recorded, mut names) = (Self::default(), Names::default());
        let mut order: Vec<ExchangeId> = Vec::new();
        let mut exchanges: HashMap<ExchangeId, Vec<&OwnedEntry>> = HashMap::new();
        for entry in entries {
            let id = entry.meta.exchange;
            exchanges
                .entry(id)
                .or_insert_with(|| {
                    order.push(id);
                    Vec::new()
                })
                .push(entry);
        }
        // The exchange of connecting began first, and tells the settings.
        for id in order {
            let of = exchanges.remove(&id).unwrap_or_default();
            let (wanted, connecting) = (only.is_none_or(|only| only == id), id == link);
            let mut settings = Settings::new();
            let cycle = cycle(id, &of, &mut names, &mut settings);
            let before = only.is_some() && recorded.cycles.is_empty() && !wanted;
            if connecting || before {
                settings.into_iter().for_each(|setting| recorded.set(setting));
            }
            if wanted && !connecting && !cycle.units.is_empty() {
                recorded.cycles.push(cycle);
            }
        }
        recorded
    }

    fn set(&mut self, (name, value): (&'static str, String)) {
        self.settings.retain(|(known, _)| *known != name);
        self.settings.push((name, value));
    }
}

/// Whether an entry opens the exchange of connecting.
pub(super) fn is_connect(entry: &OwnedEntry) -> bool {
    entry.meta.kind == Kind::Open
        && Reader::find(&entry.body, Tag::Method).is_some_and(|field| field.value == b"connect")
}

/// What names stand for.
#[derive(Default)]
struct Names {
    statements: HashMap<Vec<u8>, Rc<Prepared>>,
    portals: HashMap<Vec<u8>, (Rc<Prepared>, bool)>,
}

fn cycle(
    id: ExchangeId,
    entries: &[&OwnedEntry],
    names: &mut Names,
    settings: &mut Settings,
) -> Cycle {
    let (mut up, mut down) = (Messages::default(), Messages::default());
    let (mut units, mut answers) = (Units { units: Vec::new(), names }, Answers::default());
    let mut cannot = None;
    for entry in entries {
        let masked = entry.meta.flags.has(Flags::MASKED);
        match entry.meta.kind {
            Kind::Open | Kind::Decision => {
                let fields = |tag| Reader::find(&entry.body, tag).map(|field| field.value);
                if fields(Tag::Level).is_some_and(|level| level == b"meta") {
                    cannot = Some("it was recorded as meta only");
                    units.text(fields(Tag::Method).unwrap_or_default());
                }
                if fields(Tag::Decision).is_some_and(|decision| decision != b"permit") {
                    units.refused(fields(Tag::Statement).unwrap_or_default());
                }
            }
            Kind::Gap => cannot = Some("some of it had no room in the record"),
            Kind::RequestBody => {
                up.push(&entry.body, masked, |message, masked| units.asked(message, masked));
            }
            Kind::ResponseBody => down.push(&entry.body, masked, |message, masked| {
                let tag = message.first().copied().unwrap_or_default();
                let body = message.get(FRAME_HEAD..).unwrap_or_default().to_vec();
                match (tag, backend(tag, &body)) {
                    (b'S', Ok(Backend::Status { name, value })) => setting(name, value, settings),
                    (b'N' | b'A' | b'R' | b'K' | b'v', _) => {}
                    _ => answers.messages.push_back(Told { tag, body, masked }),
                }
            }),
            _ => {}
        }
    }
    let status = answers.status();
    let mut units = units.units;
    align(&mut units, &mut answers);
    if let (None, Some(last)) = (status, units.last_mut()) {
        last.cannot.get_or_insert("its answer was cut short");
    }
    if let Some(cannot) = cannot {
        units.iter_mut().for_each(|unit| unit.cannot = unit.cannot.or(Some(cannot)));
    }
    Cycle { id, units, status }
}

fn setting(name: &[u8], value: &[u8], settings: &mut Settings) {
    let known = SETTINGS.iter().find(|known| known.as_bytes() == name);
    if let (Some(name), Ok(value)) = (known, std::str::from_utf8(value)) {
        settings.retain(|(known, _)| known != name);
        settings.push((name, value.to_owned()));
    }
}

/// Gives each unit the answers that are its own. Behind an error the server skips what is left.
fn align(units: &mut [Unit], answers: &mut Answers) {
    let mut skipped = false;
    for unit in units.iter_mut().filter(|unit| !unit.sent.is_empty()) {
        if skipped {
            unit.cannot.get_or_insert("it was skipped then, behind an error");
            continue;
        }
        if unit.sent.first().is_some_and(|sent| sent.what == What::Query) {
            unit.parts = answers.simple();
        } else {
            let mut part = Part::default();
            let mut answered = false;
            for sent in &unit.sent {
                let told = match sent.what {
                    What::Query => None,
                    What::Parse => answers.one(b'1', &mut part),
                    What::Bind => answers.one(b'2', &mut part),
                    What::DescribeStatement | What::DescribePortal => answers.described(&mut part),
                    What::Execute => answers.executed(&mut part),
                    What::CloseStatement | What::ClosePortal => answers.one(b'3', &mut part),
                };
                answered = told.is_some();
                if told != Some(Ok(())) {
                    skipped = told.is_some();
                    break;
                }
            }
            if answered {
                unit.parts = vec![part];
            }
        }
        if unit.parts.is_empty() {
            unit.cannot.get_or_insert("no answer to it is recorded");
        }
        if std::mem::take(&mut answers.copied) {
            unit.cannot.get_or_insert("data of COPY is not replayed");
        }
    }
}

/// Units in the making.
struct Units<'n> {
    units: Vec<Unit>,
    names: &'n mut Names,
}

impl Units<'_> {
    fn refused(&mut self, text: &[u8]) {
        let cannot = Some("it was refused then");
        self.units.push(Unit { text: text.to_vec(), cannot, ..Unit::default() });
    }

    /// Something of which nothing but its kind is known.
    fn text(&mut self, text: &[u8]) {
        let cannot = Some("it was recorded as meta only");
        self.units.push(Unit { text: text.to_vec(), cannot, ..Unit::default() });
    }

    fn asked(&mut self, message: &[u8], masked: bool) {
        let tag = message.first().copied().unwrap_or_default();
        let body = message.get(FRAME_HEAD..).unwrap_or_default();
        let put = |unit: &mut Unit, what, name: &[u8]| {
            unit.sent.push(Sent { what, bytes: message.to_vec(), name: name.to_vec() });
            unit.masked |= masked;
        };
        match frontend(tag, body) {
            // What went in the place of a refused message.
            Ok(Frontend::Query(text) | Frontend::Parse { text, .. }) if text == POISON => {}
            Ok(Frontend::Query(text)) => {
                let unit = self.begin(text);
                put(unit, What::Query, b"");
            }
            Ok(Frontend::Parse { name, text, .. }) => {
                let (name, text) = (name.to_vec(), text.to_vec());
                let parse = message.to_vec();
                put(self.begin(&text), What::Parse, &name);
                let prepared = Prepared { name: name.clone(), text, parse, masked };
                self.names.statements.insert(name, Rc::new(prepared));
            }
            Ok(Frontend::Bind(bind)) => {
                let prepared = self.names.statements.get(bind.statement).cloned();
                if let Some(prepared) = &prepared {
                    let known = (Rc::clone(prepared), masked);
                    self.names.portals.insert(bind.portal.to_vec(), known);
                }
                let unit = self.bound(prepared);
                put(unit, What::Bind, bind.statement);
            }
            Ok(Frontend::Describe { portal: true, name }) => {
                put(self.last(), What::DescribePortal, name);
            }
            Ok(Frontend::Describe { portal: false, name }) => {
                let prepared = self.names.statements.get(name).cloned();
                let unit = self.of_statement(prepared, &[What::Parse, What::Bind], What::Execute);
                put(unit, What::DescribeStatement, name);
            }
            Ok(Frontend::Execute { portal, .. }) => {
                let known = self.names.portals.get(portal).cloned();
                let unit = self.executed(known);
                put(unit, What::Execute, portal);
            }
            Ok(Frontend::Close { portal, name }) => {
                let what = if portal { What::ClosePortal } else { What::CloseStatement };
                put(self.last(), what, name);
            }
            Ok(Frontend::CopyData(_) | Frontend::CopyDone | Frontend::CopyFail(_)) => {
                self.last().cannot.get_or_insert("data of COPY is not replayed");
            }
            Ok(_) => {}
            Err(_) => self.last().cannot = Some("what is recorded of it cannot be read"),
        }
    }

    fn begin(&mut self, text: &[u8]) -> &mut Unit {
        let cannot = copies(text).then_some("data of COPY is not replayed");
        self.push(Unit { text: text.to_vec(), cannot, ..Unit::default() })
    }

    fn push(&mut self, unit: Unit) -> &mut Unit {
        self.units.push(unit);
        self.newest()
    }

    fn newest(&mut self) -> &mut Unit {
        self.units.last_mut().expect("one was pushed before")
    }

    /// The unit in hand; an empty one where there is none, or one that nothing was sent of.
    fn last(&mut self) -> &mut Unit {
        if self.units.last().is_none_or(|unit| unit.sent.is_empty()) {
            return self.push(Unit::default());
        }
        self.newest()
    }

    /// The unit that a Bind belongs to: that of its Parse just before, or one of its own.
    fn bound(&mut self, prepared: Option<Rc<Prepared>>) -> &mut Unit {
        self.of_statement(prepared, &[What::Parse, What::DescribeStatement], What::Bind)
    }

    /// The unit in hand, where one of `before` is in it that names the statement, and no `behind`; else
    /// one of its own.
    fn of_statement(
        &mut self,
        prepared: Option<Rc<Prepared>>,
        before: &[What],
        behind: What,
    ) -> &mut Unit {
        let name = prepared.as_ref().map(|prepared| prepared.name.as_slice());
        let joins = self.units.last().is_some_and(|unit| {
            let mut sent = unit.sent.iter();
            let named = |sent: &Sent| before.contains(&sent.what) && Some(&*sent.name) == name;
            sent.clone().any(named) && !sent.any(|sent| sent.what == behind)
        });
        if !joins {
            let text = prepared.as_ref().map(|prepared| prepared.text.clone());
            self.begin(text.as_deref().unwrap_or_default());
            if prepared.is_none() {
                self.newest().cannot = Some("what it runs was prepared before the record begins");
            }
        }
        let unit = self.newest();
        unit.masked |= prepared.as_ref().is_some_and(|prepared| prepared.masked);
        unit.needs = prepared;
        unit
    }

    /// The unit that an Execute belongs to.
    fn executed(&mut self, known: Option<(Rc<Prepared>, bool)>) -> &mut Unit {
        let bound = self.units.last().is_some_and(|unit| {
            let has = |what| unit.sent.iter().any(|sent| sent.what == what);
            let same = unit.needs.as_ref().zip(known.as_ref());
            let same = same.is_some_and(|(needs, (prepared, _))| Rc::ptr_eq(needs, prepared));
            same && has(What::Bind) && !has(What::Execute)
        });
        if !bound {
            let text = known.as_ref().map(|(prepared, _)| prepared.text.clone());
            self.begin(text.as_deref().unwrap_or_default());
            let unit = self.newest();
            match known {
                Some((prepared, masked)) => {
                    unit.masked |= masked || prepared.masked;
                    unit.needs = Some(prepared);
                }
                None => unit.cannot = Some("its portal was opened in another way"),
            }
        }
        self.newest()
    }
}

/// Messages out of entries that cut them anywhere.
#[derive(Default)]
struct Messages {
    bytes: Vec<u8>,
    masked: bool,
}

impl Messages {
    fn push(&mut self, bytes: &[u8], masked: bool, mut each: impl FnMut(&[u8], bool)) {
        self.bytes.extend_from_slice(bytes);
        self.masked |= masked;
        let mut at = 0;
        while let Some(len) = whole(self.bytes.get(at..).unwrap_or_default()) {
            each(self.bytes.get(at..at + len).unwrap_or_default(), self.masked);
            at += len;
            self.masked = masked;
        }
        self.bytes.drain(..at);
        self.masked &= !self.bytes.is_empty();
    }
}

/// The length of the message that `bytes` begin with, where it stands whole.
fn whole(bytes: &[u8]) -> Option<usize> {
    let len = FRAME_HEAD.checked_add(frame(bytes).ok().flatten()?.len)?;
    (bytes.len() >= len).then_some(len)
}

/// See [`Settings`].
const SETTINGS: [&str; 3] = ["DateStyle", "IntervalStyle", "TimeZone"];

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests;
