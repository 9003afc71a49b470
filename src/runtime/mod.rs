//! What touches sockets, memory maps and the kernel on the data path.

pub mod map;
