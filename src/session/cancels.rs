//! The keys by which callers cancel what their database sessions do.
//!
//! A cancel comes by another connection, which may be any worker's, and shows the key that its session
//! was given (PostgreSQL manual, 55.2.8). One registry knows the keys of all workers: it is locked
//! when a session begins or ends and for a cancel, and for nothing else.

use ahash::AHashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of the secret of a key; callers of protocol 3.0 see the first four.
pub const SECRET_LEN: usize = 32;

/// How a cancel gets to its session: the session's worker, and its id there.
pub type Deliver = Box<dyn Fn(u32, u64) + Send + Sync>;

/// All keys in force; shared by `Arc`.
pub struct Cancels {
    keys: Mutex<AHashMap<u32, Known>>,
    deliver: Deliver,
}

struct Known {
    secret: [u8; SECRET_LEN],
    /// How much of it the caller was given.
    len: usize,
    worker: u32,
    id: u64,
}

impl fmt::Debug for Cancels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cancels")
    }
}

impl Cancels {
    /// A registry without keys.
    #[must_use]
    pub fn new(deliver: Deliver) -> Arc<Self> {
        Arc::new(Self { keys: Mutex::default(), deliver })
    }

    /// Gives a session its key: a number that no other has, near the one asked for, which goes with
    /// the first `len` bytes of `secret`. The key ends with what is returned.
    #[must_use]
    pub fn give(
        self: &Arc<Self>,
        near: u32,
        secret: [u8; SECRET_LEN],
        len: usize,
        (worker, id): (u32, u64),
    ) -> Key {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        // Clients take it for a process id, which is positive. There are far fewer sessions.
        let mut pid = (near & 0x7fff_ffff).max(1);
        while keys.contains_key(&pid) {
            pid = (pid.wrapping_add(1) & 0x7fff_ffff).max(1);
        }
        let len = len.min(SECRET_LEN);
        keys.insert(pid, Known { secret, len, worker, id });
        Key { cancels: Arc::clone(self), pid }
    }

    /// Has the session that the key is of told to cancel. Returns whether there is one; the caller
    /// must not hear it.
    pub fn ask(&self, pid: u32, secret: &[u8]) -> bool {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = keys.get(&pid) else { return false };
        if !is_same(known.secret.get(..known.len).unwrap_or_default(), secret) {
            return false;
        }
        (self.deliver)(known.worker, known.id);
        true
    }
}

/// Without telling by its time where they differ.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let differs = one.iter().zip(other).fold(0, |differs, (a, b)| differs | (a ^ b));
    std::hint::black_box(differs) == 0 && one.len() == other.len() && !one.is_empty()
}

/// A key in force, for as long as it is held.
#[derive(Debug)]
pub struct Key {
    cancels: Arc<Cancels>,
    pid: u32,
}

impl Key {
    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        let mut keys = self.cancels.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.remove(&self.pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_key_of_a_living_session_reaches_it() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&told);
        let deliver = move |worker, id| to.lock().expect("no panic").push((worker, id));
        let cancels = Cancels::new(Box::new(deliver));
        let secret = [7; SECRET_LEN];
        let key = cancels.give(9, secret, 4, (1, 70));
        let other = cancels.give(9, [8; SECRET_LEN], SECRET_LEN, (0, 71));
        assert_ne!(key.pid(), other.pid());
        for wrong in [&secret[..3], &secret[..5], &[7, 7, 7, 8], &[]] {
            assert!(!cancels.ask(key.pid(), wrong));
        }
        assert!(!cancels.ask(12_345, &secret[..4]));
        assert!(cancels.ask(key.pid(), &secret[..4]));
        assert!(cancels.ask(other.pid(), &[8; SECRET_LEN]));
        assert_eq!(*told.lock().expect("no panic"), [(1, 70), (0, 71)]);
        let pid = key.pid();
        drop(key);
        assert!(!cancels.ask(pid, &secret[..4]));
    }
}
