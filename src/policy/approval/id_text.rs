//! Ids of requests in what serde writes.

use crate::base::ApprovalId;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

pub(super) fn serialize<S: Serializer>(id: &ApprovalId, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(id)
}

pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<ApprovalId, D::Error> {
    let found = <std::borrow::Cow<'a, str>>::deserialize(from)?;
    ApprovalId::parse(&found).ok_or_else(|| D::Error::custom("an id is 32 hex digits"))
}
