//! SQL text: any bytes give statements or a refusal, the same each time; the ranges of statements
//! lie in the text in order, and what one of them does, it does alone.

use weirgate::sql::{SqlError, SqlLimits, parse};

/// See the module.
pub fn run(data: &[u8]) {
    let limits = SqlLimits { text_max: 4 << 10, depth_max: 64 };
    let found = parse(data, &limits);
    assert_eq!(parse(data, &limits), found);
    match found {
        Ok(statements) => {
            assert!(std::str::from_utf8(data).is_ok() && !data.contains(&0));
            let mut end = 0;
            for statement in &statements {
                assert!(!statement.kinds.is_empty());
                assert!(statement.start >= end, "statements overlap");
                end = statement.start + statement.len;
                assert!(end as usize <= data.len());
                let own = data.get(statement.start as usize..end as usize).unwrap_or_default();
                let mut alone = parse(own, &limits).expect("a statement parses alone");
                assert_eq!(alone.len(), 1);
                let mut alone = alone.remove(0);
                (alone.start, alone.len) = (statement.start, statement.len);
                assert_eq!(&alone, statement);
            }
        }
        Err(SqlError::Tree) => panic!("a tree that is not as the headers say"),
        Err(_) => {}
    }
}
