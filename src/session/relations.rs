//! Where masked columns were found in databases, so that a mask follows a table that is renamed.
//!
//! A mask names a column; the catalog knows it by the OID of its table and a number, and these stay
//! when somebody renames either or moves the table to another schema. All workers share what is known:
//! it is locked where a catalog is asked and where its answer is in, and for nothing else.
//!
//! A place is kept until an answer says that it is gone, whatever the name stands for by then: of two
//! tables that change names both are masked. A column that was found and is nowhere any more stays
//! known as such.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The OID of a table and the number of its column.
pub type Spot = (u32, i16);

/// By column (`schema.table.column`, as a mask writes it) the spots where it was found; none: it was.
pub type Spots = BTreeMap<String, Vec<Spot>>;

/// See the module; shared by `Arc`.
#[derive(Default)]
pub struct Relations {
    /// By server and database.
    places: Mutex<BTreeMap<String, Spots>>,
    changes: AtomicU64,
}

impl fmt::Debug for Relations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Relations")
    }
}

impl Relations {
    /// What was known before, as [`all`](Self::all) told it.
    #[must_use]
    pub fn of(places: BTreeMap<String, Spots>) -> Self {
        Self { places: Mutex::new(places), changes: AtomicU64::new(0) }
    }

    /// Everything that is known.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, Spots> {
        self.lock().clone()
    }

    /// Grows with every change.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Where a column of a database was found; `None`: it never was.
    #[must_use]
    pub fn known(&self, place: &str, column: &str) -> Option<Vec<Spot>> {
        self.lock().get(place)?.get(column).cloned()
    }

    /// An answer is in that was asked for the spots `asked`: the column is at `found`.
    pub fn learn(&self, place: &str, column: &str, asked: &[Spot], found: &[Spot]) {
        let mut places = self.lock();
        let before = places.get(place).and_then(|spots| spots.get(column));
        if before.is_none() && found.is_empty() {
            return;
        }
        // What another answer found meanwhile was not asked for here.
        let mut spots: Vec<Spot> = before.into_iter().flatten().copied().collect();
        spots.retain(|spot| !asked.contains(spot));
        spots.extend(found);
        spots.sort_unstable();
        spots.dedup();
        if before == Some(&spots) {
            return;
        }
        places.entry(place.to_owned()).or_default().insert(column.to_owned(), spots);
        self.changes.fetch_add(1, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Spots>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spot_is_kept_until_an_answer_says_that_it_is_gone() {
        let relations = Relations::default();
        let known = || relations.known("db", "a.t.x");
        relations.learn("db", "a.t.x", &[], &[]);
        assert_eq!((known(), relations.changes()), (None, 0), "it was never there");
        relations.learn("db", "a.t.x", &[], &[(7, 1)]);
        relations.learn("db", "a.t.x", &[(7, 1)], &[(7, 1)]);
        assert_eq!((known(), relations.changes()), (Some(vec![(7, 1)]), 1));
        // Another table has the name, and two sessions hear of it in either order.
        relations.learn("db", "a.t.x", &[(7, 1)], &[(9, 1), (7, 1)]);
        relations.learn("db", "a.t.x", &[(7, 1)], &[(7, 1)]);
        assert_eq!(known(), Some(vec![(7, 1), (9, 1)]));
        relations.learn("db", "a.t.x", &[(7, 1), (9, 1)], &[(9, 1)]);
        assert_eq!(known(), Some(vec![(9, 1)]));
        relations.learn("db", "a.t.x", &[(9, 1)], &[]);
        assert_eq!(known(), Some(Vec::new()), "it was there");
        assert_eq!(relations.known("other", "a.t.x"), None);
        let again = Relations::of(relations.all());
        assert_eq!(again.known("db", "a.t.x"), Some(Vec::new()));
    }
}
