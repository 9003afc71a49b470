//! Rows of a session under masks, in parts: whatever they are and however they are cut, a caller
//! hears the same, in whole messages or with its connection cut, and nothing of a masked value; what
//! it hears is what is recorded.
//!
//! First byte: the operator of the masked column. Second: what may be kept of a row. Third: how many
//! columns there are; a letter for each: `m` masked, `d` a text, `p` bytes, `n` computed. Then rows,
//! a byte for each cell: its length, in steps that grow; 0xff is NULL. A row may be followed by its
//! end (`!`: half of it is there and the server ends, `#`: its length is a lie).

#![allow(clippy::indexing_slicing, reason = "the places are of the target's own making")]

use super::cuts::Random;
use super::session_postgres::{has, kit, snapshot, split};
use super::token;
use std::sync::Arc;
use weirgate::base::{ConnectionId, ExchangeId, ListenerId, MaskId, MaskSet, Pieces, Secret};
use weirgate::mask::{ColumnName, Detector, Level, MaskSpec, Operator, Operators, Plans};
use weirgate::policy::{Effect, RuleSpec, Table};
use weirgate::record::{Kind, MemoryJournal};
use weirgate::session::postgres::{Opened, Session};
use weirgate::session::{Act, Ending, Input, Out, Snapshot, Worker};
use weirgate::wire::postgres::{Column, TxStatus, write};

const OPERATORS: [&str; 8] = [
    "redact",
    "replace(\"gone\")",
    "keep_first(3)",
    "keep_last(3)",
    "same_length",
    "hash",
    "null",
    "block",
];
/// What masked values are made of; no operator leaves as much of one.
const SECRET: &[u8] = b"qzxjvwkp";
const TABLE: u32 = 20_000;

/// See the module. The first byte was the mode.
pub fn run(data: &[u8]) {
    let [operator, max, count, rest @ ..] = data else { return };
    let count = usize::from(*count) % 7 + 1;
    let Some((kinds, rows)) = rest.split_at_checked(count) else { return };
    let answer = answer(kinds, rows);
    let operator = OPERATORS[usize::from(*operator) % OPERATORS.len()];
    let max = [1_024, 9_000, 20_000, 16 << 20][usize::from(*max) % 4];
    let mut random = Random::of(data);
    let whole = heard(operator, max, &answer, &mut || usize::MAX);
    let most = 1 + random.below(20_000);
    let parts = heard(operator, max, &answer, &mut || 1 + random.below(most));
    // Of a row that the server breaks, more may be told where it came in parts.
    let broken = answer.ends || answer.lies;
    assert!(broken || whole == parts, "the cut matters: {operator} {max}");
    for (bytes, cut) in [whole, parts] {
        assert!(!has(&bytes, SECRET), "a masked value is told: {operator} {max}");
        let mut rest = bytes.as_slice();
        while let Some((_, tail)) = split(rest) {
            rest = tail;
        }
        assert!(cut || rest.is_empty(), "a part of a message and no cut");
    }
}

struct Answer {
    bytes: Vec<u8>,
    /// The server ends in the middle of a row, or is wrong about its length.
    ends: bool,
    lies: bool,
}

fn answer(kinds: &[u8], cells: &[u8]) -> Answer {
    let columns: Vec<Column<'_>> = kinds.iter().map(|kind| column(*kind)).collect();
    let mut bytes = Vec::new();
    write::row_description(&columns, &mut bytes);
    let mut cells = cells.iter().copied().peekable();
    let (mut total, mut ends, mut lies) = (0, false, false);
    while cells.peek().is_some() && total < 400_000 && !ends {
        let row: Vec<Option<Vec<u8>>> = kinds
            .iter()
            .map(|kind| {
                let step = usize::from(cells.next().unwrap_or(0));
                let made: &[u8] = if matches!(kind, b'm' | b'n') { SECRET } else { b"to a@b.co, " };
                (step < 255).then(|| made.iter().copied().cycle().take(step * step / 2).collect())
            })
            .collect();
        let start = bytes.len();
        let borrowed: Vec<Option<&[u8]>> = row.iter().map(Option::as_deref).collect();
        write::data_row(&borrowed, &mut bytes);
        total += bytes.len() - start;
        match cells.peek() {
            Some(b'!') => {
                bytes.truncate(start + (bytes.len() - start) / 2);
                ends = true;
            }
            Some(b'#') => {
                bytes[start + 4] ^= 5;
                lies = true;
            }
            _ => {}
        }
    }
    if !ends {
        write::complete(b"SELECT 1", &mut bytes);
        write::ready(TxStatus::Idle, &mut bytes);
    }
    Answer { bytes, ends, lies }
}

fn column(kind: u8) -> Column<'static> {
    let (table, attribute, kind) = match kind {
        b'm' => (TABLE, 2, 25),
        b'd' => (TABLE, 1, 25),
        b'n' => (0, 0, 25),
        _ => (TABLE, 1, 17),
    };
    Column { name: b"c", table, attribute, kind, kind_len: -1, modifier: -1, format: 0 }
}

fn masked(operator: &str, max: u32) -> Snapshot {
    let spec = MaskSpec {
        name: "pii".to_owned(),
        columns: vec![ColumnName::parse("public.t.email").expect("a column")],
        level: Level::DerivedClosed,
        detect: vec![Detector::parse("email").expect("a detector")],
        operators: Operators {
            columns: Some(Operator::parse(operator).expect("an operator")),
            ..Operators::default()
        },
        key: Secret::new(b"0123456789abcdef".to_vec()),
        ..MaskSpec::default()
    };
    let mut all = RuleSpec::new("masked", Effect::Allow);
    all.then.masks = MaskSet::EMPTY.with(MaskId(0));
    let mut made = snapshot(1);
    made.plans = Plans::new(vec![spec]).expect("a mask");
    made.policy = Table::compile(vec![all], 1, 1).expect("a rule");
    made.resources[0].message_max = max;
    made
}

/// What the gateway reads of the catalog: `public.t` is 20000, `email` its second column.
fn catalog(to: &mut Vec<u8>) {
    let names: [Option<&[u8]>; 3] = [Some(b"public"), Some(b"t"), Some(b"email")];
    write::row_description(&[], to);
    for (kind, names) in [(&b"rule"[..], [None; 3]), (b"column", names)] {
        let numbers = [Some(kind), Some(&b"0"[..]), Some(b"20000"), Some(b"2")];
        write::data_row(&[&numbers[..], &names].concat(), to);
    }
    write::data_row(&[Some(b"newest"), None, Some(b"20010"), None, None, None, None], to);
    write::complete(b"SELECT 3", to);
    write::ready(TxStatus::Idle, to);
}

struct Line {
    worker: Worker<MemoryJournal>,
    session: Session,
    out: Out,
    exchange: ExchangeId,
    told: Vec<u8>,
    cut: bool,
}

impl Line {
    fn tell(&mut self, input: Input<'_>, source: &[u8]) -> usize {
        let used = self.session.handle(input, token::now(), &mut self.worker, &mut self.out);
        while let Some(act) = self.out.next_act() {
            match act {
                Act::Connect { exchange, .. } => self.exchange = exchange,
                Act::AbortCaller => self.cut = true,
                _ => {}
            }
        }
        let mut pieces = Pieces::new();
        self.out.swap_upstream(&mut pieces);
        pieces.clear();
        self.out.swap_caller(&mut pieces);
        self.told.extend(pieces.to_vec(source));
        used
    }

    fn server(&mut self, bytes: &[u8], next: &mut dyn FnMut() -> usize) {
        let (mut at, mut end) = (0, 0);
        while end < bytes.len() && !self.session.is_closed() {
            end = end.saturating_add(next()).min(bytes.len());
            loop {
                let (input, link) = (&bytes[at..end], self.exchange);
                let used = self.tell(Input::Upstream(link, input), input);
                at += used;
                if used == 0 || at == end {
                    break;
                }
            }
            assert!(end < bytes.len() || at == end || end - at <= 192 << 10, "it is stuck");
        }
    }
}

/// What the caller hears of the answer, and whether it was cut.
fn heard(
    operator: &str,
    max: u32,
    answer: &Answer,
    next: &mut dyn FnMut() -> usize,
) -> (Vec<u8>, bool) {
    let snapshot = Arc::new(masked(operator, max));
    let keys = Arc::clone(&kit().keys);
    let opened = Opened {
        listener: ListenerId(0),
        connection: ConnectionId(1),
        caller: ([192, 0, 2, 1], 9).into(),
        secure: false,
        principal: None,
        random: Some([7; weirgate::session::postgres::RANDOM_LEN]),
        cancels: None,
    };
    let mut line = Line {
        worker: Worker::new(snapshot, keys, MemoryJournal::new(), [1, 2, 3, 4]),
        session: Session::new(opened, token::now()),
        out: Out::new(),
        exchange: ExchangeId(0),
        told: Vec::new(),
        cut: false,
    };
    let mut said = Vec::new();
    for step in 0..5 {
        said.clear();
        match step {
            0 => write::startup(0, &[(b"user", b"x"), (b"database", b"db")], &mut said),
            1 => write::secret(kit().token.as_bytes(), &mut said),
            2 => {
                let link = line.exchange;
                line.tell(Input::Connected(link, None), b"");
                write::auth_cleartext(&mut said);
            }
            3 => {
                write::auth_ok(&mut said);
                write::ready(TxStatus::Idle, &mut said);
                catalog(&mut said);
            }
            _ => write::query(b"select * from t", &mut said),
        }
        if matches!(step, 2 | 3) {
            line.server(&said, &mut || usize::MAX);
        } else {
            let used = line.tell(Input::Caller(&said), &said);
            assert_eq!(used, said.len(), "step {step}");
        }
    }
    line.told.clear();
    line.worker.journal.take();
    line.server(&answer.bytes, next);
    if answer.ends || answer.lies {
        let link = line.exchange;
        line.tell(Input::UpstreamEnd(link, Ending::Cut), b"");
    }
    let entries = line.worker.journal.entries();
    let of = entries.iter().filter(|entry| entry.meta.kind == Kind::ResponseBody);
    let recorded: Vec<u8> = of.flat_map(|entry| entry.body.clone()).collect();
    assert!(recorded.starts_with(&line.told), "told and not recorded");
    assert!(!has(&recorded, SECRET), "a masked value is recorded");
    let stands = line.session.is_closed() || line.told.ends_with(b"Z\0\0\0\x05I");
    assert!(stands, "an answer without an end");
    (line.told, line.cut)
}
