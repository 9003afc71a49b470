//! Are exactly the right tokens accepted? Signed with real keys, through the public interface.
#![expect(clippy::indexing_slicing, reason = "a test that is wrong may panic")]

mod algorithms;
mod hostile;
mod issuer;
mod noise;
mod real;
