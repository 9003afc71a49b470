//! Texts that were read before.

use super::judge::Analysis;
use crate::sql::SqlLimits;
use ahash::{AHashMap, RandomState};
use std::rc::Rc;

/// Texts that were read before, by their exact bytes. A text is kept when it comes a second time:
/// one with a value of its own in it would only push out others. Two halves: what is used moves to
/// the young one, and when that is full the old one goes.
pub(in crate::session) struct Texts {
    young: AHashMap<Box<[u8]>, Rc<Analysis>>,
    old: AHashMap<Box<[u8]>, Rc<Analysis>>,
    bytes: usize,
    /// A part of the hash of what came once, by another part of it.
    once: Box<[u32]>,
}

impl Texts {
    /// None; hashed with the worker's own key, so that nobody can choose texts that collide.
    pub(in crate::session) fn new(hasher: RandomState) -> Self {
        let young = AHashMap::with_hasher(hasher.clone());
        let once = vec![0; ONCE].into();
        Self { young, old: AHashMap::with_hasher(hasher), bytes: 0, once }
    }

    /// Forgets all: the bounds of texts may have changed.
    pub(in crate::session) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.bytes = 0;
    }

    /// What the text does; parses it where it was not seen lately.
    pub(super) fn find(&mut self, text: &[u8], limits: &SqlLimits) -> Rc<Analysis> {
        if let Some(found) = self.young.get(text) {
            return Rc::clone(found);
        }
        let (key, found) = match self.old.remove_entry(text) {
            Some(entry) => entry,
            None => {
                let found = Rc::new(Analysis::of(text, limits));
                if text.len() > KEPT_LEN_MAX || !self.came_before(text) {
                    return found;
                }
                (text.into(), found)
            }
        };
        let cost = found.weight;
        if self.bytes + cost > HALF_BYTES {
            self.old = std::mem::replace(
                &mut self.young,
                AHashMap::with_hasher(self.old.hasher().clone()),
            );
            self.bytes = 0;
        }
        self.bytes += cost;
        self.young.insert(key, Rc::clone(&found));
        found
    }

    /// Whether the text came before, as far as that is remembered; it did from here on.
    fn came_before(&mut self, text: &[u8]) -> bool {
        let hash = self.young.hasher().hash_one(text);
        // Truncation is meant: either half of the hash is a hash.
        #[expect(clippy::cast_possible_truncation, reason = "see above")]
        let (place, mark) = (hash as usize & (ONCE - 1), (hash >> 32) as u32);
        self.once.get_mut(place).is_some_and(|slot| std::mem::replace(slot, mark) == mark)
    }
}

/// Texts that came once and are remembered; a power of two.
const ONCE: usize = 4_096;

/// Bytes of texts in each half.
const HALF_BYTES: usize = 2 << 20;
/// About what an entry costs beside its text.
pub(super) const ENTRY_COST: usize = 512;
/// A longer text is parsed each time: it would push out hundreds of others.
const KEPT_LEN_MAX: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_parsed_once_and_what_is_used_stays() {
        let mut texts = Texts::new(RandomState::with_seeds(1, 2, 3, 4));
        let limits = SqlLimits::default();
        let once = texts.find(b"select 1", &limits);
        let first = texts.find(b"select 1", &limits);
        assert!(!Rc::ptr_eq(&once, &first), "what came once is not kept");
        assert!(Rc::ptr_eq(&first, &texts.find(b"select 1", &limits)));
        for number in 0..3 * HALF_BYTES / ENTRY_COST {
            let text = format!("select {number}, 'x'");
            let [once, again] = [(), ()].map(|()| texts.find(text.as_bytes(), &limits));
            assert!(!Rc::ptr_eq(&once, &again));
            assert!(Rc::ptr_eq(&again, &texts.find(text.as_bytes(), &limits)));
            assert!(Rc::ptr_eq(&first, &texts.find(b"select 1", &limits)));
        }
        assert!(texts.young.len() + texts.old.len() <= 2 * HALF_BYTES / ENTRY_COST + 2);
        texts.clear();
        assert!(!Rc::ptr_eq(&first, &texts.find(b"select 1", &limits)));
    }
}
