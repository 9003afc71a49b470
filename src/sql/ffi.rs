//! The parser, and the tree that it builds in C memory.
//!
//! `pg_raw_parse` compiles libpg_query and reads its trees; its own entry is not used, see
//! `parse.c`. Lifetimes: a [`Tree`] owns one memory context of the parser, in which the whole
//! tree lives; whoever borrows a node borrows the `Tree`. The parser's state is per thread, and a
//! `Tree` stays on its own: its pointers make it neither `Send` nor `Sync`.
#![expect(unsafe_code, reason = "a C library that hands out pointers into its own memory")]

use super::SqlError;
use pg_raw_parse::list::NodeList;
use pg_raw_parse::raw;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;

/// The statements of one text.
pub(super) struct Tree {
    context: Context,
    /// In `context`; null for a text without statements.
    list: *const NodeList,
}

impl Tree {
    /// Parses `text`.
    ///
    /// # Errors
    /// [`SqlError::Nul`], [`SqlError::Syntax`].
    pub(super) fn parse(text: &str) -> Result<Self, SqlError> {
        let text = CString::new(text).map_err(|_| SqlError::Nul)?;
        let context = Context::new();
        let mut error = ptr::null_mut();
        // SAFETY: the text ends with a NUL and outlives the call, which keeps no pointer to it;
        // the context is alive and of this thread, and `error` is written before the return.
        let list = unsafe { weirgate_sql_parse(text.as_ptr(), context.0, &raw mut error) };
        if error.is_null() {
            Ok(Self { context, list: list.cast() })
        } else {
            // SAFETY: not null, hence an ErrorData that `CopyErrorData` made in `context`.
            Err(syntax(unsafe { &*error }))
        }
    }

    /// Its statements, each a `RawStmt`.
    pub(super) fn statements(&self) -> Option<&NodeList> {
        debug_assert!(!self.context.0.is_null());
        // SAFETY: null, or the list that the parser made in `context`, which lives as long as
        // `self`; the crate asserts that `NodeList` is laid out as the parser's `List`.
        unsafe { self.list.as_ref() }
    }
}

fn syntax(error: &raw::ErrorData) -> SqlError {
    let message = if error.message.is_null() {
        "syntax error".into()
    } else {
        // SAFETY: not null, hence a string that ends with a NUL, in the same context as `error`.
        unsafe { CStr::from_ptr(error.message) }.to_string_lossy()
    };
    SqlError::Syntax {
        message: message.into(),
        position: u32::try_from(error.cursorpos).unwrap_or_default(),
    }
}

/// A memory context of the parser, freed with all in it.
struct Context(raw::MemoryContext);

impl Context {
    fn new() -> Self {
        // SAFETY: `pg_query_init` comes first on every thread and does nothing the second time;
        // the parent is then there, the name is static, and the sizes are the parser's own
        // defaults, for which it keeps freed contexts at hand.
        Self(unsafe {
            raw::pg_query_init();
            raw::AllocSetContextCreateInternal(
                raw::get_top_memory_context(),
                c"weirgate".as_ptr(),
                BLOCK_MIN,
                BLOCK_FIRST,
                BLOCK_MAX,
            )
        })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: made by `new` on this thread and freed here alone; `weirgate_sql_parse` leaves
        // another context as the current one.
        unsafe { raw::MemoryContextDelete(self.0) }
    }
}

/// `ALLOCSET_DEFAULT_SIZES` of `utils/memutils.h`.
const BLOCK_MIN: raw::Size = 0;
const BLOCK_FIRST: raw::Size = 8 << 10;
const BLOCK_MAX: raw::Size = 8 << 20;

unsafe extern "C" {
    /// See `parse.c`. It never unwinds, nor jumps out.
    fn weirgate_sql_parse(
        text: *const c_char,
        context: raw::MemoryContext,
        error: *mut *mut raw::ErrorData,
    ) -> *mut c_void;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of freed memory would be read here, if the tree did not own its context.
    #[test]
    fn a_tree_outlives_others_and_errors() {
        let first = Tree::parse("SELECT a FROM t").expect("it parses");
        for _ in 0..100 {
            assert!(Tree::parse("SELECT").is_ok());
            assert!(Tree::parse("SELEC").is_err());
        }
        assert!(format!("{:?}", first.statements()).contains("relname: Some(\"t\")"));
        assert!(Tree::parse(" ; ").expect("it parses").statements().is_none());
    }

    #[test]
    fn threads_have_parsers_of_their_own() {
        std::thread::scope(|scope| {
            for place in 0..8 {
                scope.spawn(move || {
                    for _ in 0..200 {
                        let tree = Tree::parse(&format!("SELECT a FROM t{place}; SELECT 'x"));
                        assert!(tree.is_err());
                        let tree = Tree::parse(&format!("SELECT a FROM t{place}"));
                        let print = format!("{:?}", tree.expect("it parses").statements());
                        assert!(print.contains(&format!("Some(\"t{place}\")")));
                    }
                });
            }
        });
    }
}
