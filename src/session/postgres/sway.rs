//! What a statement may change of what stands behind it.
//!
//! A text means what the gateway thinks as long as the session's settings are those that it pinned, and
//! masks hold for the catalog that was read. Code that is not seen (DO, CALL, a user's function) may
//! change the former, a definition the latter. So what comes behind a Sync waits for the answers to
//! such a cycle: the server reports its settings there, and the catalog is read again. What the server
//! does not report (`search_path`, before PostgreSQL 18) it is asked for.
//!
//! Before the Sync nothing can be asked. There a definition is followed by nothing that owes a mask, and
//! unseen code by no text that reads otherwise under another setting.

use super::Session;
use super::atoms::is_set_config;
use super::cycle::Sways;
use super::judge::{self, Analysis, Names};
use super::refuse::Denied;
use super::settings::{self, Setting};
use crate::base::Now;
use crate::record::Journal;
use crate::session::io::Out;
use crate::session::refusal::Refusal;
use crate::session::worker::Worker;
use crate::sql::{Act, Kind, Statement};
use crate::wire::postgres::{Backend, Cells};
use std::rc::Rc;

/// Whether the search path of an upstream session is what it was.
#[derive(Debug, Default)]
pub(super) struct Sway {
    /// The server reports it when it changes.
    told: bool,
    path: Path,
    /// By which literals are read, as the server reported it.
    forms: [Option<Box<[u8]>>; FORMS.len()],
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Path {
    #[default]
    Held,
    /// Code ran that may have changed it.
    Doubted,
    /// The server is asked; whether its answer was the right one so far.
    Asked(bool),
}

impl Sway {
    /// The server reported a setting.
    pub(super) fn reports(&mut self, name: &[u8], value: &[u8]) {
        self.told |= name == b"search_path";
        for (form, known) in self.forms.iter_mut().zip(FORMS) {
            if name.eq_ignore_ascii_case(known.as_bytes()) {
                *form = Some(value.into());
            }
        }
    }

    /// The settings that say how a literal of a date or a time is read.
    pub(super) fn forms(&self) -> impl Iterator<Item = (&'static str, Option<&[u8]>)> {
        FORMS.into_iter().zip(self.forms.iter().map(Option::as_deref))
    }

    pub(super) fn is_asking(&self) -> bool {
        matches!(self.path, Path::Asked(_))
    }

    /// The text to ask by, where that is due.
    pub(super) fn ask(&mut self) -> Option<&'static str> {
        if self.path != Path::Doubted {
            return None;
        }
        self.path = Path::Asked(false);
        Some(ASK)
    }
}

impl Session {
    /// A statement goes: what it, and what it runs by its name, may change is taken down.
    pub(super) fn notice(&mut self, analysis: &Rc<Analysis>, place: Option<usize>) {
        let mut sways = Sways { settings: analysis.unread.is_some(), ..Sways::default() };
        let range = place.map_or(0..analysis.statements.len(), |place| place..place + 1);
        for at in range {
            let Some(statement) = analysis.statements.get(at) else { continue };
            self.notice_one(statement, &mut sways);
            if matches!(statement.act, Act::Execute { .. } | Act::Fetch { .. }) {
                let names = Names {
                    statement: |name: &[u8]| self.find(false, name).0,
                    portal: |name: &[u8]| self.find(true, name).0,
                };
                let parts = judge::parts(analysis, at, &names);
                sways.settings |= parts.is_none();
                for part in parts.iter().flatten() {
                    if let Some(statement) = part.analysis.statements.get(part.place) {
                        self.notice_one(statement, &mut sways);
                    }
                }
            }
        }
        if sways.settings && !self.sway.told {
            self.sway.path = Path::Doubted;
        }
        if let Some(cycle) = self.cycles.last() {
            cycle.sways.settings |= sways.settings;
            cycle.sways.forms |= sways.forms;
            cycle.sways.definitions |= sways.definitions;
        }
    }

    fn notice_one(&mut self, statement: &Statement, sways: &mut Sways) {
        let any = |kinds: &[Kind]| kinds.iter().any(|kind| statement.kinds.contains(*kind));
        let unseen = |function: &crate::sql::Function| !function.plain && !is_set_config(function);
        sways.forms |= any(&[Kind::Set]) || statement.functions.iter().any(is_set_config);
        sways.settings |=
            any(&[Kind::Do, Kind::Call, Kind::Unknown]) || statement.functions.iter().any(unseen);
        if let Some(masking) = &mut self.masking {
            masking.noticed(statement);
            let defines = any(&[Kind::Ddl, Kind::Do, Kind::Unknown]);
            masking.defined |= defines && masking.plan.has_columns();
            sways.definitions |= masking.defined;
        }
    }

    /// Whether a message that is to be judged must wait for what goes before it.
    pub(super) fn must_wait(&self) -> bool {
        self.cycles.sway_next()
    }

    /// Why a text, which does what `analysis` says, cannot stand where it does.
    pub(super) fn cannot_stand(&self, text: &[u8], analysis: &Analysis) -> Option<Denied> {
        // Whether a backslash is plain, and which bytes make a letter, a setting says.
        let is_plain = |byte: &u8| byte.is_ascii() && *byte != b'\\';
        if self.cycles.sways().settings && !text.iter().all(is_plain) {
            let detail = "Behind a function or a block its text may be read otherwise: send it \
                          behind a Sync.";
            return Some(Denied::of(Refusal::Denied, detail));
        }
        self.cannot_resolve(analysis)
    }

    /// Why a statement cannot run where it does: the server should have been asked for its search
    /// path before, and could not be.
    pub(super) fn cannot_resolve(&self, analysis: &Analysis) -> Option<Denied> {
        let asked = self.sway.path == Path::Held || self.cycles.sways().settings;
        let detail = "Behind a function or a block its names may mean others: send it by itself.";
        (!asked && !only_ends(analysis)).then(|| Denied::of(Refusal::Denied, detail))
    }

    /// A message of the answer to what the search path is.
    pub(super) fn on_path<J: Journal>(
        &mut self,
        message: &Backend<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        match message {
            Backend::DataRow(body) => {
                let cell = Cells::new(body).and_then(|mut cells| cells.next()).ok().flatten();
                let held = settings::judge(b"search_path", cell.flatten()) == Setting::Held;
                self.sway.path = Path::Asked(held);
            }
            Backend::Ready(status) => {
                self.tx = *status;
                if std::mem::take(&mut self.sway.path) != Path::Asked(true) {
                    let detail = "The search_path was changed on the server.";
                    let denied = Denied::of(Refusal::Denied, detail);
                    self.refuse_all(&denied, now, worker, out);
                }
            }
            _ => {}
        }
    }
}

/// Whether all that a text does is to begin or end transactions, or to set what may be set.
pub(super) fn only_ends(analysis: &Analysis) -> bool {
    let ends = |kind| matches!(kind, Kind::Transaction | Kind::Set);
    analysis.unread.is_none() && analysis.statements.iter().all(|one| one.kinds.iter().all(ends))
}

/// See [`Sway::forms`].
const FORMS: [&str; 3] = ["DateStyle", "TimeZone", "IntervalStyle"];
const ASK: &str = "select pg_catalog.current_setting('search_path')";
