//! Do threads that parse at once, as workers do, disturb each other in the C library?

use weirgate::sql::{SqlLimits, parse};

#[test]
fn threads_have_parsers_of_their_own() {
    std::thread::scope(|scope| {
        for place in 0..8 {
            scope.spawn(move || {
                let limits = SqlLimits::default();
                for _ in 0..200 {
                    let text = format!("SELECT a FROM t{place}");
                    assert!(parse(format!("{text}; 'x").as_bytes(), &limits).is_err());
                    let statements = parse(text.as_bytes(), &limits).expect("it is SQL");
                    let [only] = statements.as_slice() else { panic!("one statement") };
                    let tables: Vec<String> =
                        only.accesses.iter().map(|access| access.table.to_string()).collect();
                    assert_eq!(tables, [format!("t{place}")]);
                }
            });
        }
    });
}
