//! The whole gateway, in this process and as the program, against plain sockets.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod approvals;
mod budgets;
mod certificates;
mod container;
mod disk;
mod durable;
mod ends;
mod held;
mod kill;
mod kit;
mod metrics;
mod names;
mod program;
mod reload;
mod replaced;
mod resend;
mod restart;
mod sealed;
mod several;
mod shared;
mod shed;
mod webhooks;
