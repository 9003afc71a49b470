//! One kind of exchange, so many times and nothing beside it: for `callgrind` and `perf`.
//!
//!     cargo bench --bench turns --no-run
//!     valgrind --tool=callgrind --toggle-collect='*Road*exchange*' target/release/deps/turns-* everything/json 120
//!
//! Instruction counts do not depend on what else the machine does; `benches/session.rs` times the
//! same exchanges. The first exchange verifies the token and makes room: a run of 120 less one of
//! 20 is what 100 cost. Prints what one exchange took, draining left out.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

#[path = "../tests/kit/mod.rs"]
mod kit;

use kit::Road;
use weirgate::identity::dev::DevKey;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let name = args.next().unwrap_or_else(|| "bare/json".to_owned());
    let count: u64 = args.next().map_or(2_000, |count| count.parse().unwrap());
    let (site, answer) = name.split_once('/').unwrap();
    let answer = match answer {
        "json" => vec![kit::json_answer(1 << 10)],
        _ => kit::stream_answer(200),
    };
    let answer: Vec<&[u8]> = answer.iter().map(Vec::as_slice).collect();
    let key = DevKey::generate().unwrap();
    let mut road = Road::new(kit::site(site), &key);
    let request = kit::chat(&kit::token(&key, "ana", &["analysts"]), 1 << 10);
    let moved = road.exchange(&request, &answer);
    let [spent, best] = road.timed(&request, &answer, moved, count);
    let mean = spent.as_nanos() / u128::from(count.max(1));
    println!("{name}: {count} exchanges, {mean} ns each, {} ns in the best batch", best.as_nanos());
}
