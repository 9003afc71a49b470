//! What a text costs that no cache knows: parse and walk.
//!
//! The statements are of the forms that the fact sheet's parse costs were measured on: a point
//! SELECT, a join as an ORM writes it, an upsert, a CTE that deletes, an UPDATE.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use weirgate::sql::{SqlLimits, parse};

const STATEMENTS: [(&str, &str); 5] = [
    ("point", "SELECT id, name, email FROM users WHERE id = $1"),
    (
        "join",
        "SELECT o.id AS o_id, o.total AS o_total, c.name AS c_name, c.email AS c_email, \
         p.sku AS p_sku FROM orders AS o LEFT OUTER JOIN customers AS c ON c.id = o.customer_id \
         JOIN products AS p ON p.id = o.product_id WHERE o.created_at > $1 AND o.status IN \
         ('open', 'paid') AND c.country = $2 ORDER BY o.created_at DESC LIMIT 50 OFFSET 100",
    ),
    (
        "upsert",
        "INSERT INTO stock (sku, place, count) VALUES ($1, $2, $3), ($4, $5, $6) ON CONFLICT \
         (sku, place) DO UPDATE SET count = stock.count + EXCLUDED.count, seen = now() RETURNING id",
    ),
    (
        "cte",
        "WITH gone AS (DELETE FROM events WHERE seen < now() - interval '30 days' AND kind = $1 \
         RETURNING id, kind, size) SELECT kind, count(*) AS n, sum(size) AS bytes FROM gone \
         GROUP BY kind HAVING count(*) > 10 ORDER BY n DESC",
    ),
    ("update", "UPDATE accounts SET balance = balance - $1, seen = now() WHERE id = $2 AND open"),
];

fn statements(c: &mut Criterion) {
    let limits = SqlLimits::default();
    for (name, text) in STATEMENTS {
        c.bench_function(&format!("sql/{name}/{}", text.len()), |b| {
            b.iter(|| parse(black_box(text.as_bytes()), &limits).unwrap());
        });
    }
}

criterion_group!(benches, statements);
criterion_main!(benches);
