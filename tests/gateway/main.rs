//! The whole gateway, in this process and as the program, against plain sockets.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod certificates;
mod container;
mod disk;
mod durable;
mod ends;
mod kill;
mod kit;
mod program;
mod reload;
mod replaced;
mod several;
mod shed;
