//! Who acts, as the rules see it.

use crate::base::IssuerId;

/// The attributes of a caller that rules may name.
///
/// Made from a verified `Principal` on the data path; from asserted values for `explain` and
/// for cases, which decide nothing.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// Whose token.
    pub issuer: Option<IssuerId>,
    /// Subject.
    pub sub: Option<&'a str>,
    /// Groups; no claim is an empty set.
    pub groups: &'a [Box<str>],
    /// The OAuth client.
    pub client_id: Option<&'a str>,
    /// The actor chain, current actor first.
    pub actors: &'a [&'a str],
}
