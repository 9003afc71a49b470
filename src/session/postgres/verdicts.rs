//! What was permitted before, so that a statement that is executed again is not judged again.
//!
//! A verdict holds for the caller of this session, under the generation of policy and keys that made
//! it, and for texts that mean the same whenever they run: EXECUTE and FETCH run what a name stands
//! for, and are judged each time. Refusals are not kept: they are rare, and each is looked at anew.

use super::judge::Analysis;
use crate::policy::Grant;
use crate::sql::Act;
use ahash::AHashMap;
use std::rc::Rc;

/// See the module.
#[derive(Default)]
pub(super) struct Verdicts(AHashMap<Key, (Rc<Analysis>, Rc<Grant>)>);

/// A text by its place in memory, and which of its statements; `None`: all.
type Key = (usize, Option<usize>);

impl Verdicts {
    /// What permitted this statement of the text, or all of it.
    pub(super) fn find(&self, analysis: &Rc<Analysis>, place: Option<usize>) -> Option<Rc<Grant>> {
        let (known, grant) = self.0.get(&key(analysis, place))?;
        // The text is held, so that no other can have its place in memory.
        debug_assert!(Rc::ptr_eq(known, analysis));
        Some(Rc::clone(grant))
    }

    /// Keeps what permitted it.
    pub(super) fn keep(
        &mut self,
        analysis: &Rc<Analysis>,
        place: Option<usize>,
        grant: &Rc<Grant>,
    ) {
        // Nobody else holds the text, so that it is not asked about again by its place.
        if Rc::strong_count(analysis) == 1 {
            return;
        }
        let named = |act: &Act| matches!(act, Act::Execute { .. } | Act::Fetch { .. });
        let all = analysis.statements.iter().enumerate();
        let mut judged = all.filter(|(at, _)| place.is_none_or(|place| place == *at));
        if judged.any(|(_, statement)| named(&statement.act)) {
            return;
        }
        if self.0.len() >= KEPT_MAX {
            self.0.clear();
        }
        self.0.insert(key(analysis, place), (Rc::clone(analysis), Rc::clone(grant)));
    }

    /// Another policy, other keys, or another caller: nothing holds any more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

fn key(analysis: &Rc<Analysis>, place: Option<usize>) -> Key {
    (Rc::as_ptr(analysis).addr(), place)
}

/// Verdicts of one session; each holds its text.
const KEPT_MAX: usize = 256;
