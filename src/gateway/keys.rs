//! Key sets of `identity`, as control fetches and publishes them.

use crate::control::keys::{Format, name_hash};
use crate::identity::{KeySet, KeySnapshot};
use std::sync::Arc;

/// JWK Sets (RFC 7517).
#[derive(Clone, Copy, Debug)]
pub(super) struct Jwks;

impl Format for Jwks {
    type Set = KeySet;
    type Snapshot = KeySnapshot;

    fn parse(&self, document: &[u8]) -> Result<KeySet, String> {
        let (set, skipped) = KeySet::from_jwks(document).map_err(|error| format!("{error:?}"))?;
        if !skipped.is_empty() {
            tracing::info!(count = skipped.len(), "keys of a set were left out");
        }
        Ok(set)
    }

    fn contains(&self, set: &KeySet, name: u64) -> bool {
        set.kids().any(|kid| name_hash(kid) == name)
    }

    fn snapshot(&self, generation: u64, sets: &[Option<Arc<KeySet>>]) -> KeySnapshot {
        KeySnapshot { generation, sets: sets.to_vec() }
    }
}
