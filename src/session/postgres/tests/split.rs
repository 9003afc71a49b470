//! Any split of what either side sends gives the same.

use super::*;

/// What a caller sends, and what the server answers to what goes up.
fn script() -> (Vec<u8>, Vec<u8>) {
    let long = format!("select * from t where name = '{}'", "n".repeat(20_000));
    let asked = [
        query("select * from t"),
        parse("s", "select id from t where id = $1"),
        bind_execute("s"),
        sync(),
        query(&long),
        parse("", "drop table t"),
        bind_execute(""),
        sync(),
        query("select 2"),
    ];
    let mut wide = Vec::new();
    write::data_row(&[Some(&vec![b'w'; 40_000])], &mut wide);
    let answers = [
        rows(2),
        ready(TxStatus::Idle),
        message(|to| {
            write::parse_done(to);
            write::bind_done(to);
            write::notice("NOTICE", "00000", "hello", None, None, to);
        }),
        wide,
        rows(1),
        ready(TxStatus::Idle),
        rows(0),
        ready(TxStatus::Idle),
        syntax_error(),
        ready(TxStatus::Idle),
        rows(1),
        ready(TxStatus::Idle),
    ];
    (asked.concat(), answers.concat())
}

fn run(step: usize) -> (Vec<u8>, Vec<u8>, String) {
    let mut line = Line::login(&["readers"]);
    let (asked, answers) = script();
    asked.chunks(step).for_each(|part| line.caller(part));
    answers.chunks(step).for_each(|part| line.server(part));
    assert!(!line.session.is_closed());
    let record = [Kind::RequestBody, Kind::ResponseBody, Kind::Decision];
    let record = record.map(|kind| line.recorded(kind)).concat();
    (line.up, line.down, record)
}

#[test]
fn any_split_of_both_directions_gives_the_same_bytes_and_the_same_record() {
    let whole = run(usize::MAX);
    assert_eq!(tags(&whole.0), "QPBESQPSQ");
    assert_eq!(tags(&whole.1), "DDCZ12NDDCZCZEZDCZ");
    for step in [1, 2, 3, 5, 7, 64, 1_000, 8_191, 30_000] {
        let other = run(step);
        assert_eq!((tags(&other.0), tags(&other.1)), (tags(&whole.0), tags(&whole.1)), "{step}");
        assert!(other.0 == whole.0, "up, {step}");
        assert!(other.1 == whole.1, "down, {step}");
        let differs = other.2.bytes().zip(whole.2.bytes()).position(|(one, two)| one != two);
        assert_eq!((other.2.len(), differs), (whole.2.len(), None), "{step}");
    }
}

#[test]
fn a_connection_that_is_cut_anywhere_leaves_nothing_unsaid() {
    let (asked, answers) = script();
    for cut in (0..asked.len()).step_by(97) {
        let mut line = Line::login(&["readers"]);
        line.caller(&asked[..cut]);
        line.tell(Input::CallerGone);
        assert!(line.session.is_closed());
        let (open, close) = (line.recorded(Kind::Open), line.recorded(Kind::Close));
        assert!(!open.is_empty() && close.contains("cut"), "{cut}");
    }
    for cut in (0..answers.len()).step_by(997) {
        let mut line = Line::login(&["readers"]);
        line.caller(&asked);
        line.server(&answers[..cut]);
        let link = line.exchange;
        line.tell(Input::UpstreamEnd(link, Ending::Cut));
        assert!(line.session.is_closed(), "{cut}");
        assert!(line.acts.contains(&Act::AbortCaller), "{cut}");
    }
}
