//! Temporary: doors that only carry pieces.

use crate::base::Pieces;

/// See the session's gate.
#[derive(Debug)]
pub struct Released<'p>(pub &'p mut Pieces);

impl Released<'_> {
    pub(super) fn move_to(self, to: &mut Pieces) {
        if to.list().is_empty() {
            std::mem::swap(self.0, to);
        } else {
            to.append(self.0);
        }
        self.0.clear();
    }
}

/// See the session's gate.
#[derive(Debug)]
pub struct Admitted<'p>(pub &'p mut Pieces);

impl Admitted<'_> {
    pub(super) fn move_to(self, to: &mut Pieces) {
        Released(self.0).move_to(to);
    }
}
