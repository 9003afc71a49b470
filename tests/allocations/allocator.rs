//! The system's allocator, telling of every allocation before it is made.
//!
//! Shared with `benches/load`, which counts by the same means on a gateway under load.

#![expect(unsafe_code, reason = "an allocator is unsafe by its trait")]

use std::alloc::{GlobalAlloc, Layout, System};

/// Calls its function with the length of each block that is asked for, growth of one included.
/// What that function does must be able to run within an allocation.
pub(crate) struct Told(pub(crate) fn(usize));

// SAFETY: every call goes to the system's allocator with what it was given.
unsafe impl GlobalAlloc for Told {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        (self.0)(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        (self.0)(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        (self.0)(len);
        // SAFETY: as above; the block came from the system's allocator.
        unsafe { System.realloc(block, layout, len) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

/// The name of the calling thread, filled up with zeros. Allocates nothing.
pub(crate) fn thread_name() -> [u8; 16] {
    let mut name = [0u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes, which `name` has.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name
}

/// The innermost places in `src/` of a backtrace, innermost first.
pub(crate) fn ours(trace: &str) -> String {
    let places = trace.lines().map(str::trim).filter_map(|line| line.strip_prefix("at ./src/"));
    places.take(5).collect::<Vec<_>>().join(" < ")
}
