//! A statement that was prepared at home, and runs in the session of a rule's own credential.
//!
//! That session is opened when a person approved, so Parse went home, where it only names the
//! statement. Before Bind goes to the other session, the statement is made known there under a name
//! of the gateway's own, and Bind names that. The caller hears nothing of it.

use super::Session;
use super::caller::Bytes;
use super::judge::{Analysis, Prepared};
use super::passing::written;
use super::queue::{Expect, Own};
use super::refuse::Denied;
use crate::base::Now;
use crate::policy::Grant;
use crate::record::Journal;
use crate::session::io::Out;
use crate::session::refusal::Refusal;
use crate::session::worker::Worker;
use crate::sql::{Act, Statement};
use crate::wire::postgres::{Bind, write};
use std::rc::Rc;

impl Session {
    /// Makes the statement known in the session in hand. Returns the Bind that goes there.
    pub(super) fn move_here<J: Journal>(
        &mut self,
        prepared: &Prepared,
        bind: &Bind<'_>,
        grant: &Rc<Grant>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Vec<u8> {
        let text = &prepared.analysis.text;
        let types = prepared.kinds.of_parse();
        let last = types.last().map_or(0, |(number, _)| *number);
        let types: Vec<u32> = (1..=last).map(|number| prepared.kinds.declares(number)).collect();
        self.queue.push(Expect::Own(Own::Close));
        self.say_up(|to| write::close(false, NAME, to), now, worker, out);
        self.queue.push(Expect::Own(Own::Parse));
        let parse = written(|to| write::parse(NAME, text, &types, to));
        let masked = self.owes_mask(grant);
        let shown = self.recorded_text(&prepared.analysis, masked);
        let shown = shown.map(|text| written(|to| write::parse(NAME, &text, &types, to)));
        self.pass_under(grant, Bytes::Kept(&parse), shown, now, worker, out);
        let formats: Vec<i16> = bind.formats.iter().collect();
        let results: Vec<i16> = bind.results.iter().collect();
        let values: Vec<Option<&[u8]>> = bind.values.iter().collect();
        written(|to| write::bind(bind.portal, NAME, &formats, &values, &results, to))
    }
}

/// Why a text, or the name that Parse gives it, is refused: it would take a name of the gateway's
/// own, and run what stands under that.
pub(super) fn takes_own_name(name: &[u8], analysis: &Analysis) -> Option<Denied> {
    let own = |name: &[u8]| name.starts_with(OWN_NAMES);
    let makes = |statement: &Statement| match &statement.act {
        Act::Prepare { name } | Act::Declare { name, .. } => own(name.as_bytes()),
        _ => false,
    };
    let taken = own(name) || analysis.statements.iter().any(makes);
    taken.then(|| {
        Denied::of(Refusal::Denied, "Names that begin with `weirgate ` are the gateway's own.")
    })
}

/// What names of the gateway's own begin with.
const OWN_NAMES: &[u8] = b"weirgate ";
/// The name that the statement has in the other session, until the next one is moved there.
const NAME: &[u8] = b"weirgate held";
