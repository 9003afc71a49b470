/*
 * PostgreSQL's parser under a try of its own.
 *
 * libpg_query's own entry, pg_query_raw_parse, points the standard error of the whole process
 * at a pipe while it parses: eight system calls a text, and with two threads at it standard
 * error can be left on the closed pipe for good. The parser below it needs none of that.
 *
 * It reports an error by siglongjmp to PG_exception_stack, which must not cross a frame of Rust;
 * hence a file in C. What is declared here is declared so in the headers that the comments name
 * (src/postgres/include of libpg_query); `ffi.rs` has the Rust side.
 */
#include <setjmp.h>
#include <stddef.h>

/* utils/elog.h */
extern __thread sigjmp_buf *PG_exception_stack;
extern __thread void *error_context_stack;
extern void *CopyErrorData(void);
extern void FlushErrorState(void);
/* utils/guc.h */
extern __thread int log_min_messages;
/* utils/palloc.h */
extern __thread void *CurrentMemoryContext;
/* parser/parser.h */
extern void *raw_parser(const char *text, int mode);

/* utils/elog.h: PANIC. No warning of the grammar is printed. */
enum { NO_MESSAGES = 23 };
/* parser/parser.h: RAW_PARSE_DEFAULT */
enum { STATEMENTS = 0 };

/*
 * The list of statements of `text`, which a NUL ends, or NULL for none; on an error NULL, and
 * the parser's ErrorData in `error`. All of it is in `context`.
 */
void *weirgate_sql_parse(const char *text, void *context, void **error)
{
    sigjmp_buf *outer_jump = PG_exception_stack;
    void *outer_callbacks = error_context_stack;
    void *outer_context = CurrentMemoryContext;
    int outer_messages = log_min_messages;
    void *volatile tree = NULL;
    sigjmp_buf jump;

    *error = NULL;
    log_min_messages = NO_MESSAGES;
    CurrentMemoryContext = context;
    if (sigsetjmp(jump, 0) == 0) {
        PG_exception_stack = &jump;
        tree = raw_parser(text, STATEMENTS);
        PG_exception_stack = outer_jump;
    } else {
        PG_exception_stack = outer_jump;
        /* The error is in a context of its own, and in that it was raised. */
        CurrentMemoryContext = context;
        *error = CopyErrorData();
        FlushErrorState();
    }
    error_context_stack = outer_callbacks;
    CurrentMemoryContext = outer_context;
    log_min_messages = outer_messages;
    return tree;
}
