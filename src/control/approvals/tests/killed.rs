//! `kill -9` of a process that spends: no use is spent twice, and none comes back.

use super::*;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

const DIR: &str = "WEIRGATE_TEST_SPENDER";
const USES: u32 = 100_000;
const LANES: usize = 4;

/// The child: spends from several sessions at once, and says which use it holds.
#[test]
fn spender() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let approvals = start(Path::new(&dir));
    let mut wanted = ask("ana", 0, USES);
    wanted.terms.break_glass = true;
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                let (desk, session) = (approvals.desk(), Session::new());
                let Verdict::Approved { id } = session.asks(&desk, &wanted) else { return };
                loop {
                    let Verdict::Spent(one) = session.spends(&desk, id, &wanted) else { return };
                    // One write: whoever reads it has all of it. Not by `print`, which is captured.
                    let said = format!("spent {}\n", one.number());
                    std::io::stdout().write_all(said.as_bytes()).unwrap();
                    std::io::stdout().flush().unwrap();
                }
            });
        }
    });
}

#[test]
fn no_use_is_spent_twice_and_none_is_lost_over_kills() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = BTreeSet::new();
    for round in 0..12u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "control::approvals::tests::killed::spender", "--nocapture"])
            .env(DIR, dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // It has begun to spend; then it dies at some instant of its work.
        let mut numbers: Vec<u32> = Vec::new();
        let wanted = 1 + usize::try_from(round * 7 % 40).unwrap();
        let number = |line: &str| -> Option<u32> { line.strip_prefix("spent ")?.parse().ok() };
        while numbers.len() < wanted {
            let line = lines.next().expect("the child spends").unwrap();
            numbers.extend(number(&line));
        }
        std::thread::sleep(Duration::from_micros(round * 317 % 3_000));
        child.kill().unwrap();
        child.wait().unwrap();
        numbers.extend(lines.map_while(Result::ok).filter_map(|line| number(&line)));
        let before = seen.last().copied().unwrap_or(0);
        for number in numbers {
            assert!(number > before, "use {number} of before the last start");
            assert!(seen.insert(number), "use {number} twice");
        }
        // What is counted down is at least what was handed out, and at most what was under way.
        let (_, book, _) = Log::open(dir.path(), bounds(), &files()).unwrap();
        let request = book.requests().next().unwrap();
        let last = *seen.last().unwrap();
        assert!(request.used >= last, "use {last} was handed out, {} counted", request.used);
        assert!(request.used - last <= LANES as u32, "{} after {last}", request.used);
        assert_eq!(book.requests().len(), 1, "the same request over all starts");
    }
    assert!(seen.len() > 12);
}
