//! Upstream sessions of rules' own credentials, beside that of connecting.

use super::*;

const PURGE_PASSWORD: &[u8] = b"the-other-password-0123456789";

/// Everybody selects by the resource's own credential, and deletes and updates by another one.
fn two_credentials(generation: u64) -> Snapshot {
    let mut read = RuleSpec::new("read", Effect::Allow);
    read.what.statement = patterns(&["select", "insert"]);
    let mut purge = RuleSpec::new("purge", Effect::Allow);
    purge.what.statement = patterns(&["delete", "update"]);
    purge.then.credential = Some(CredentialId(1));
    let mut define = RuleSpec::new("define", Effect::Allow);
    define.what.statement = patterns(&["ddl"]);
    define.then.credential = Some(CredentialId(2));
    let mut made = snapshot(vec![read, purge, define], generation);
    for user in ["purger", "definer"] {
        let form = Form::Password {
            user: user.to_owned(),
            secret: Secret::new(PURGE_PASSWORD.to_vec()),
            role: None,
        };
        made.credentials.push(Credential::new(format!("orders-{user}"), &form));
    }
    made
}

fn login() -> Line {
    let mut line = Line::new();
    line.worker.reload(Arc::new(two_credentials(2)));
    line.caller(&startup(&[("user", "x"), ("database", "orders"), ("datestyle", "German")]));
    let token = line.token("ana", &["any"]);
    line.caller(&message(|to| write::secret(token.as_bytes(), to)));
    line.tell(Input::Connected(line.exchange, None));
    line.server(&message(write::auth_cleartext));
    line.server(&message(write::auth_ok));
    line.server(&message(|to| write::key(7, b"abcd", to)));
    line.server(&ready(TxStatus::Idle));
    forget(&mut line);
    line
}

pub(super) fn forget(line: &mut Line) {
    (line.up, line.down, line.acts) = (Vec::new(), Vec::new(), Vec::new());
}

pub(super) fn told(line: &Line) -> String {
    String::from_utf8_lossy(&line.down).into_owned()
}

pub(super) fn said(line: &Line) -> String {
    String::from_utf8_lossy(&line.up).into_owned()
}

/// The login of another session, up to where its statement goes.
pub(super) fn let_in(line: &mut Line) {
    assert!(matches!(line.acts[..], [Act::Beside { .. }]), "{:?}", line.acts);
    line.tell(Input::Connected(line.exchange, None));
    line.server(&message(write::auth_cleartext));
    line.server(&message(write::auth_ok));
    line.server(&message(|to| write::status(b"TimeZone", b"elsewhere", to)));
    line.server(&message(|to| write::key(8, b"efgh", to)));
    assert!(line.down.is_empty(), "the caller hears nothing of it");
    line.up.clear();
    line.server(&ready(TxStatus::Idle));
    line.acts.clear();
}

/// Says that the session that is turned to is in hand.
pub(super) fn turned(line: &mut Line) {
    assert!(matches!(line.acts[..], [.., Act::Resume { .. }]), "{:?}", line.acts);
    line.acts.clear();
    line.tell(Input::Connected(line.exchange, None));
    line.caller(b"");
}

pub(super) fn done(tag: &[u8]) -> Vec<u8> {
    message(|to| {
        write::complete(tag, to);
        write::ready(TxStatus::Idle, to);
    })
}

/// A caller whose other session is open, with home in hand.
fn both() -> Line {
    let mut line = login();
    line.caller(&query("delete from t where id = 1"));
    let_in(&mut line);
    line.server(&done(b"DELETE 1"));
    turned(&mut line);
    forget(&mut line);
    line
}

#[test]
fn a_rules_own_credential_opens_a_session_that_only_its_statements_reach() {
    let mut line = login();
    let home = line.exchange;
    line.caller(&query("delete from t where id = 1"));
    assert!(line.up.is_empty() && line.down.is_empty());
    let Act::Beside { exchange, credential, generation, .. } = line.acts[0] else { panic!() };
    assert_eq!((credential, generation), (CredentialId(1), 2));
    assert_ne!(exchange, home);
    line.tell(Input::Connected(exchange, None));
    let start = said(&line);
    assert!(start.contains("purger") && start.contains("search_path") && start.contains("German"));
    line.up.clear();
    line.server(&message(write::auth_cleartext));
    assert!(said(&line).contains("the-other-password"));
    line.server(&message(write::auth_ok));
    assert!(!said(&line).contains("delete"));
    line.up.clear();
    line.server(&ready(TxStatus::Idle));
    assert_eq!(tags(&line.up), "Q");
    line.server(&done(b"DELETE 1"));
    assert_eq!(tags(&line.down), "CZ");
    assert_eq!(line.exchange, home, "home is turned to behind the last answer");
    turned(&mut line);
    forget(&mut line);

    line.caller(&query("select 1"));
    assert_eq!(tags(&line.up), "Q");
    assert!(line.acts.is_empty());
    line.server(&done(b"SELECT 1"));
    forget(&mut line);
    line.caller(&query("delete from t where id = 2"));
    assert_eq!(line.acts, [Act::Resume { exchange }], "it is opened once");
    turned(&mut line);
    assert!(said(&line).contains("id = 2"));

    assert!(line.recorded(Kind::Credential).contains("orders-purger"));
    let opens = line.recorded(Kind::Open);
    assert!(opens.contains("orders-purger") && !opens.contains("orders-app"), "by statement");
    let all = line.worker.journal.entries().iter().map(|entry| entry.body.clone());
    let all: Vec<u8> = all.flatten().collect();
    assert!(!String::from_utf8_lossy(&all).contains("the-other-password"));
}

#[test]
fn in_a_transaction_it_is_refused_and_the_transaction_fails() {
    for status in [TxStatus::Transaction, TxStatus::Failed] {
        let mut line = login();
        line.caller(&query("begin"));
        line.server(&message(|to| write::complete(b"BEGIN", to)));
        line.server(&ready(status));
        forget(&mut line);
        line.caller(&query("delete from t where id = 1"));
        assert!(!said(&line).contains("delete") && said(&line).contains("weirgate refused"));
        line.server(&syntax_error());
        line.server(&ready(TxStatus::Failed));
        assert_eq!(tags(&line.down), "EZ");
        let told = told(&line);
        assert!(told.contains("42501") && told.contains("purge"), "{told}");
        assert!(told.contains("a part of the transaction") && told.contains("outside"), "{told}");
        assert!(line.acts.is_empty());
    }
}

#[test]
fn a_cycle_is_of_one_credential() {
    // Behind what ran of the cycle at home.
    let mut line = login();
    line.caller(&[parse("a", "select * from t"), bind_execute("a")].concat());
    line.caller(&parse("b", "delete from t where id = $1"));
    assert_eq!(tags(&line.up), "PBEP");
    assert!(said(&line).contains("weirgate refused") && !said(&line).contains("delete"));
    line.caller(&sync());
    line.server(&message(|to| {
        write::parse_done(to);
        write::bind_done(to);
        write::complete(b"SELECT 0", to);
    }));
    line.server(&syntax_error());
    line.server(&ready(TxStatus::Idle));
    assert_eq!(tags(&line.down), "12CEZ");
    assert!(told(&line).contains("one transaction"));

    // And the other way round.
    let mut line = both();
    line.caller(&parse("b", "delete from t where id = $1"));
    turned(&mut line);
    line.caller(&[bind_execute("b"), parse("a", "select * from t"), sync()].concat());
    assert_eq!(tags(&line.up), "PBEPS");
    assert!(!said(&line).contains("select * from t"));
    line.server(&message(|to| {
        write::parse_done(to);
        write::bind_done(to);
        write::complete(b"DELETE 0", to);
    }));
    line.server(&syntax_error());
    line.server(&ready(TxStatus::Idle));
    assert_eq!(tags(&line.down), "12CEZ");
    turned(&mut line);
}

#[test]
fn a_cycle_that_only_made_names_goes_on_elsewhere() {
    let mut line = both();
    let describe = message(|to| write::describe(false, b"b", to));
    let flush = message(write::flush);
    line.caller(&[parse("b", "delete from t where id = $1"), describe, flush].concat());
    turned(&mut line);
    line.server(&message(|to| {
        write::parse_done(to);
        write::no_data(to);
    }));
    line.up.clear();
    line.caller(&[parse("a", "select * from t"), bind_execute("a"), sync()].concat());
    assert_eq!(tags(&line.up), "S", "the names are settled where they are");
    line.server(&ready(TxStatus::Idle));
    turned(&mut line);
    assert_eq!(tags(&line.up), "SPBES");
    line.server(&message(|to| {
        write::parse_done(to);
        write::bind_done(to);
    }));
    line.server(&done(b"SELECT 0"));
    assert_eq!(tags(&line.down), "1n12CZ", "the caller hears of one cycle");

    // What fails there fails the whole cycle.
    let mut line = both();
    line.caller(&parse("b", "delete from nowhere where id = $1"));
    turned(&mut line);
    line.caller(&[parse("a", "select * from t"), bind_execute("a"), sync()].concat());
    line.server(&message(|to| write::error("ERROR", "42P01", "nowhere", None, None, to)));
    line.server(&ready(TxStatus::Idle));
    line.caller(b"");
    assert_eq!(tags(&line.down), "EZ");
    assert!(!said(&line).contains("select * from t"));
    turned(&mut line);
    line.up.clear();
    line.caller(&query("select 1"));
    assert_eq!(tags(&line.up), "Q");
}

#[test]
fn cycles_of_several_credentials_in_one_pipeline_go_one_after_the_other() {
    let mut line = both();
    let cycle = |text: &str| [parse("", text), bind_execute(""), sync()].concat();
    let first = cycle("select * from t");
    let second = cycle("delete from t where id = $1");
    line.caller(&[first.clone(), second.clone(), second, first].concat());
    let answers = message(|to| {
        write::parse_done(to);
        write::bind_done(to);
        write::complete(b"X", to);
        write::ready(TxStatus::Idle, to);
    });
    assert_eq!(tags(&line.up), "PBES", "the rest waits for what went before");
    line.up.clear();
    line.server(&answers);
    turned(&mut line);
    assert_eq!(tags(&line.up), "PBESPBES", "both, and no more");
    line.server(&answers);
    line.server(&answers);
    turned(&mut line);
    line.server(&answers);
    assert_eq!(tags(&line.down), "12CZ".repeat(4));
}

#[test]
fn a_text_of_several_credentials_is_refused() {
    let mut line = login();
    for text in [
        "delete from t where id = 1; select * from t",
        "delete from t where id = 1; select 1",
        "begin; delete from t where id = 1; commit",
        "begin; delete from t where id = 1",
        "set datestyle to iso; delete from t where id = 1",
    ] {
        line.caller(&query(text));
        assert_eq!(tags(&line.down), "EZ", "{text}");
        assert!(told(&line).contains("42501") && told(&line).contains("one by one"), "{text}");
        assert!(line.up.is_empty() && line.acts.is_empty(), "{text}");
        forget(&mut line);
    }
    line.caller(&query("delete from t where id = 1; update t set id = 2 where id = 3"));
    let_in(&mut line);
    assert_eq!(tags(&line.up), "Q");
}

#[test]
fn names_are_one_space_and_each_lives_in_one_session() {
    let mut line = both();
    line.caller(&[parse("p", "delete from t where id = $1"), sync()].concat());
    turned(&mut line);
    line.server(&message(write::parse_done));
    line.server(&ready(TxStatus::Idle));
    turned(&mut line);
    line.caller(&[parse("h", "select * from t where id = $1"), sync()].concat());
    line.server(&message(write::parse_done));
    line.server(&ready(TxStatus::Idle));
    forget(&mut line);

    // Taken there, so taken here, and the other way round.
    line.caller(&[parse("p", "select 1"), sync()].concat());
    assert!(line.up.is_empty() && told(&line).contains("42P05"), "{}", told(&line));
    forget(&mut line);
    line.caller(&query("prepare h as delete from t where id = 1"));
    assert!(line.up.is_empty() && told(&line).contains("42P05"), "{}", told(&line));
    forget(&mut line);

    // Describe and Bind go where the name lives.
    let describe = message(|to| write::describe(false, b"p", to));
    line.caller(&[describe, bind_execute("p"), sync()].concat());
    assert!(line.up.is_empty());
    turned(&mut line);
    assert_eq!(tags(&line.up), "DBES");
    line.server(&message(|to| {
        write::no_data(to);
        write::bind_done(to);
        write::complete(b"DELETE 1", to);
        write::ready(TxStatus::Idle, to);
    }));
    turned(&mut line);
    forget(&mut line);
    line.caller(&[bind_execute("h"), sync()].concat());
    assert_eq!(tags(&line.up), "BES");
    line.server(&message(write::bind_done));
    line.server(&done(b"SELECT 0"));
    forget(&mut line);

    // What ends a name goes there, too.
    line.caller(&query("deallocate p"));
    turned(&mut line);
    assert!(said(&line).contains("deallocate p"));
    line.server(&done(b"DEALLOCATE"));
    turned(&mut line);
    forget(&mut line);
    line.caller(&[bind_execute("p"), sync()].concat());
    assert!(told(&line).contains("26000"));
}

#[test]
fn the_statement_without_a_name_is_the_last_one_wherever_it_was_made() {
    let mut line = both();
    line.caller(&[parse("", "select * from t where id = $1"), sync()].concat());
    line.server(&message(write::parse_done));
    line.server(&ready(TxStatus::Idle));
    line.caller(&[parse("", "delete from t where id = $1"), sync()].concat());
    turned(&mut line);
    line.server(&message(write::parse_done));
    line.server(&ready(TxStatus::Idle));
    turned(&mut line);
    forget(&mut line);
    line.caller(&[bind_execute(""), sync()].concat());
    turned(&mut line);
    assert_eq!(tags(&line.up), "BES");
    line.server(&message(write::bind_done));
    line.server(&done(b"DELETE 0"));
    turned(&mut line);
    // A simple query ends it.
    line.caller(&query("select 1"));
    line.server(&done(b"SELECT 1"));
    forget(&mut line);
    line.caller(&[bind_execute(""), sync()].concat());
    assert!(line.acts.is_empty() && told(&line).contains("26000"));
}

#[test]
fn what_resets_names_ends_the_other_sessions() {
    let mut line = both();
    line.caller(&query("deallocate all"));
    assert_eq!(tags(&line.up), "Q");
    assert!(matches!(line.acts[..], [Act::EndAside { .. }]));
    line.server(&done(b"DEALLOCATE ALL"));
    forget(&mut line);
    line.caller(&query("delete from t where id = 1"));
    let_in(&mut line);
}

#[test]
fn a_session_that_cannot_be_had_fails_its_statement_alone() {
    // No connection; no login; an error of the login; an end of it.
    for stage in 0..4 {
        let mut line = login();
        let home = line.exchange;
        line.caller(&query("delete from t where id = 1"));
        let fault = crate::session::io::UpstreamFault::Refused;
        if stage == 0 {
            line.tell(Input::ConnectFailed(line.exchange, fault));
        } else {
            line.tell(Input::Connected(line.exchange, None));
        }
        match stage {
            1 => line.server(&message(write::auth_ok)),
            2 => line.server(&message(|to| {
                write::error("FATAL", "28P01", "password of purger", None, None, to);
            })),
            3 => line.tell(Input::UpstreamEnd(line.exchange, Ending::Clean)),
            _ => {}
        }
        assert_eq!(line.exchange, home, "{stage}");
        turned(&mut line);
        assert_eq!(tags(&line.down), "EZ", "{stage}");
        assert!(told(&line).contains("08006") && !told(&line).contains("purger"), "{stage}");
        forget(&mut line);
        line.caller(&query("select 1"));
        assert_eq!(tags(&line.up), "Q", "{stage}");
        line.server(&done(b"SELECT 1"));
        assert_eq!(tags(&line.down), "CZ", "{stage}");
        forget(&mut line);
        line.caller(&query("delete from t where id = 1"));
        let_in(&mut line);
    }
}

#[test]
fn a_session_that_takes_too_long_is_given_up() {
    let mut line = login();
    line.caller(&query("delete from t where id = 1"));
    let due_ns = line.session.deadline(&line.worker).unwrap();
    assert_eq!(due_ns, at(0).after_ms(2 * Limits::default().connect_ms));
    line.now = at(2 * Limits::default().connect_ms);
    line.tell(Input::Timer);
    turned(&mut line);
    assert_eq!(tags(&line.down), "EZ");
    assert!(told(&line).contains("08006"));
}

#[test]
fn the_end_of_another_session_fails_what_was_under_way_in_it() {
    let died = |line: &mut Line| {
        line.server(&message(|to| write::error("FATAL", "57P01", "terminating", None, None, to)));
        line.tell(Input::UpstreamEnd(line.exchange, Ending::Clean));
    };
    // A simple query in the middle of its rows.
    let mut line = both();
    line.caller(&query("delete from t where id = 1 returning *"));
    turned(&mut line);
    line.server(&message(|to| {
        write::row_description(&[], to);
        write::data_row(&[], to);
    }));
    died(&mut line);
    assert_eq!(tags(&line.down), "TDEZ");
    assert!(told(&line).contains("08006") && !told(&line).contains("FATAL"));
    turned(&mut line);
    forget(&mut line);
    line.caller(&query("select 1"));
    assert_eq!(tags(&line.up), "Q");
    line.server(&done(b"SELECT 1"));
    forget(&mut line);
    line.caller(&query("delete from t where id = 1"));
    let_in(&mut line);

    // Of a pipeline each cycle fails, and the open one up to its Sync.
    let mut line = both();
    let text = "delete from t where id = $1";
    let cycle = [parse("", text), bind_execute(""), sync()].concat();
    line.caller(&[cycle.clone(), cycle].concat());
    turned(&mut line);
    line.caller(&[parse("", text), bind_execute("")].concat());
    line.server(&message(write::parse_done));
    died(&mut line);
    assert_eq!(tags(&line.down), "1EZEZE");
    turned(&mut line);
    line.down.clear();
    line.caller(&[parse("", "select 1"), sync()].concat());
    assert_eq!(tags(&line.down), "Z");
    line.caller(&query("select 1"));
    assert!(said(&line).ends_with("select 1\0"));
}

#[test]
fn a_session_that_ended_while_aside_is_opened_again() {
    for fatal in [false, true] {
        let mut line = both();
        line.caller(&query("delete from t where id = 3"));
        assert!(matches!(line.acts[..], [Act::Resume { .. }]));
        if fatal {
            line.server(&message(|to| write::error("FATAL", "57P05", "idle", None, None, to)));
        } else {
            line.tell(Input::UpstreamEnd(line.exchange, Ending::Cut));
        }
        assert!(line.up.is_empty());
        turned(&mut line);
        let_in(&mut line);
        assert!(said(&line).contains("id = 3"));
        assert!(line.down.is_empty());
    }
}

#[test]
fn what_home_said_while_aside_comes_when_it_is_in_hand() {
    let mut line = login();
    line.caller(&query("delete from t where id = 1"));
    let_in(&mut line);
    line.server(&done(b"DELETE 1"));
    line.down.clear();
    line.server(&message(|to| write::notification(9, b"news", b"", to)));
    assert_eq!(tags(&line.down), "A");
    line.caller(&query("select 1"));
    assert_eq!(tags(&line.up), "QQ");
}

#[test]
fn behind_the_last_word_of_home_nothing_goes_on() {
    let mut line = both();
    line.server(&message(|to| write::error("FATAL", "57P01", "terminating", None, None, to)));
    line.caller(&query("delete from t where id = 1"));
    assert!(line.acts.is_empty() && tags(&line.down) == "E");
    line.tell(Input::UpstreamEnd(line.exchange, Ending::Clean));
    assert!(line.session.is_closed());
}

#[test]
fn a_cancel_goes_to_the_session_that_works() {
    let mut line = both();
    let home = line.exchange;
    line.caller(&query("delete from t where id = 1"));
    // Not sent yet.
    line.tell(Input::Cancel);
    turned(&mut line);
    assert_eq!(tags(&line.down), "EZ");
    assert!(line.up.is_empty() && told(&line).contains("57014"));
    assert_eq!(line.exchange, home);
    forget(&mut line);

    line.caller(&query("delete from t where id = 1"));
    let_in(&mut line);
    line.tell(Input::Cancel);
    assert_eq!(line.acts, [Act::Cancel { exchange: line.exchange }]);
    assert_ne!(line.exchange, home);
}

#[test]
fn there_are_no_more_sessions_than_the_limit_says() {
    let mut line = login();
    let mut snapshot = two_credentials(3);
    snapshot.limits.session_credentials_max = 1;
    line.worker.reload(Arc::new(snapshot));
    line.caller(&query("delete from t where id = 1"));
    let_in(&mut line);
    line.server(&done(b"DELETE 1"));
    turned(&mut line);
    forget(&mut line);
    line.caller(&query("create table x (a int)"));
    assert_eq!(tags(&line.down), "EZ");
    assert!(told(&line).contains("session_credentials_max") && line.acts.is_empty());
}

#[test]
fn a_reload_that_keeps_the_credential_keeps_its_session() {
    let mut line = both();
    let mut snapshot = two_credentials(3);
    snapshot.credentials.swap(1, 2);
    let purge = CredentialId(2);
    let mut read = RuleSpec::new("read", Effect::Allow);
    read.what.statement = patterns(&["select"]);
    let mut delete = RuleSpec::new("purge", Effect::Allow);
    delete.what.statement = patterns(&["delete"]);
    delete.then.credential = Some(purge);
    snapshot.policy = Table::compile(vec![read, delete], 1, 3).unwrap();
    line.worker.reload(Arc::new(snapshot));
    line.caller(&query("delete from t where id = 1"));
    turned(&mut line);
    assert_eq!(tags(&line.up), "Q");
}

#[test]
fn the_end_of_the_caller_ends_all_sessions() {
    let mut line = both();
    line.caller(&message(write::terminate));
    line.tell(Input::UpstreamEnd(line.exchange, Ending::Clean));
    assert!(line.session.is_closed());
    let ends = |act: &&Act| matches!(act, Act::EndAside { .. } | Act::Release { .. });
    assert_eq!(line.acts.iter().filter(ends).count(), 2);

    // With the other one in hand, and while home is turned to.
    let mut line = both();
    line.caller(&query("delete from t where id = 1"));
    turned(&mut line);
    line.server(&done(b"DELETE 1"));
    line.tell(Input::CallerEnd);
    assert!(!line.session.is_closed());
    turned(&mut line);
    assert_eq!(tags(&line.up), "QX");
}

#[test]
fn another_session_cannot_be_left_in_a_transaction() {
    let mut line = both();
    line.caller(&query("delete from t where id = 1"));
    turned(&mut line);
    line.server(&message(|to| write::complete(b"DELETE 1", to)));
    line.server(&ready(TxStatus::Transaction));
    assert!(line.session.is_closed());
}

#[test]
fn settings_of_another_session_are_not_told_as_those_of_home() {
    let mut line = both();
    line.caller(&query("delete from t where id = 1"));
    turned(&mut line);
    line.server(&message(|to| write::status(b"TimeZone", b"elsewhere", to)));
    line.server(&done(b"DELETE 1"));
    assert_eq!(tags(&line.down), "CZ");
    turned(&mut line);
    let mut line = both();
    line.caller(&query("delete from t where id = 1"));
    turned(&mut line);
    line.server(&message(|to| write::status(b"search_path", b"evil", to)));
    assert!(line.session.is_closed());
}
