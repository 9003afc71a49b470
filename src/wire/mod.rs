//! Wire formats: heads, bodies and event streams as bytes, without a policy.

pub mod sse;
