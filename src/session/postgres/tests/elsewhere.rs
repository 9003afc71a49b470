//! What masks, settings and data of a COPY come to in a session beside home.

use super::attack::{COPY_DONE, copy_data, copy_in, error};
use super::beside::{done, forget, let_in, said, told, turned};
use super::long::{MAX, bad_row, described};
use super::masked::{TABLE, answer, catalog, column, login_with, masked_snapshot};
use super::sways::{ASKS, path};
use super::*;
use crate::base::{MaskId, MaskSet};
use crate::mask::Level;

const BESIDE: &str = "purger";

/// Everybody reads `public.t` under a mask by the resource's own credential, and all else goes by
/// another one; `copies` says whether COPY does.
fn rules_beside(copies: bool) -> Vec<RuleSpec> {
    let masks = MaskSet::EMPTY.with(MaskId(0));
    let mut read = RuleSpec::new("read", Effect::Allow);
    read.what.statement = patterns(&["select"]);
    read.what.table = patterns(&["public.t"]);
    read.then.masks = masks;
    let mut other = RuleSpec::new("other", Effect::Allow);
    other.what.statement = patterns(&["select", "delete"]);
    other.what.table = patterns(&["public.u"]);
    other.then.masks = masks;
    other.then.credential = Some(CredentialId(1));
    let mut define = RuleSpec::new("define", Effect::Allow);
    define.what.statement = patterns(&["ddl"]);
    define.then.masks = masks;
    define.then.credential = Some(CredentialId(1));
    // COPY and DO owe no mask.
    let mut plain = RuleSpec::new("plain", Effect::Allow);
    plain.what.statement = patterns(&["do", "copy_in"]);
    plain.then.credential = copies.then_some(CredentialId(1));
    vec![read, other, define, plain]
}

fn made(generation: u64, copies: bool) -> Snapshot {
    let mut made = masked_snapshot(generation, Level::default());
    made.policy = Table::compile(rules_beside(copies), 1, generation).unwrap();
    made.resources[0].message_max = MAX;
    let form = Form::Password {
        user: BESIDE.to_owned(),
        secret: Secret::new(b"the-other-password".to_vec()),
        role: None,
    };
    made.credentials.push(Credential::new("orders-purger".to_owned(), &form));
    made
}

/// A caller at home, with nothing under way.
fn home() -> Line {
    let mut line = login_with(made(2, true));
    line.server(&answer(&[column(TABLE, 1)], &[Some(b"a")]));
    assert_eq!(tags(&line.down), "TDCZ");
    forget(&mut line);
    line
}

fn reads_at_home(line: &mut Line) {
    forget(line);
    line.caller(&query("select email from t"));
    assert_eq!(tags(&line.up), "Q");
    line.server(&answer(&[column(TABLE, 1)], &[Some(b"a")]));
    assert_eq!(tags(&line.down), "TDCZ");
}

#[test]
fn who_ran_what_may_change_settings_is_asked_and_nobody_else() {
    for value in ["public", "evil"] {
        let mut line = home();
        line.caller(&query("do 'opaque'"));
        let_in(&mut line);
        line.server(&done(b"DO"));
        turned(&mut line);
        // Masks of columns have the catalog read behind it.
        forget(&mut line);
        line.caller(&query("select email from t"));
        assert!(!said(&line).contains(ASKS));
        line.server(&catalog(b"20010"));
        line.caller(b"");
        assert!(said(&line).ends_with("select email from t\0") && !said(&line).contains(ASKS));
        line.server(&answer(&[column(TABLE, 1)], &[Some(b"a")]));
        forget(&mut line);
        line.caller(&query("delete from u where id = 1"));
        turned(&mut line);
        assert!(said(&line).contains(ASKS) && !said(&line).contains("delete"));
        line.server(&path(value, TxStatus::Idle));
        assert_eq!(said(&line).contains("delete"), value == "public");
        assert_eq!(line.session.is_closed(), value == "evil");
        let entries = line.worker.journal.entries();
        let asks = entries.iter().find(|entry| {
            entry.meta.kind == Kind::RequestBody
                && String::from_utf8_lossy(&entry.body).contains(ASKS)
        });
        assert_eq!(asks.unwrap().meta.exchange, line.exchange);
    }
}

#[test]
fn behind_a_definition_elsewhere_the_catalog_is_read_at_home_first() {
    let mut line = home();
    let link = line.exchange;
    line.caller(&[query("create table x (a int)"), query("delete from u where id = 1")].concat());
    let_in(&mut line);
    line.caller(b"");
    assert!(said(&line).ends_with("create table x (a int)\0"));
    let other = line.exchange;
    line.server(&done(b"CREATE TABLE"));
    assert_eq!(tags(&line.down), "CZ");
    line.up.clear();
    turned(&mut line);
    assert_eq!(line.exchange, link);
    assert!(said(&line).contains("pg_catalog") && !said(&line).contains("delete"));
    line.server(&catalog(b"20012"));
    turned(&mut line);
    assert_eq!(line.exchange, other);
    assert!(said(&line).ends_with("delete from u where id = 1\0"));
    line.server(&done(b"DELETE 1"));
    assert_eq!(tags(&line.down), "CZCZ");
}

#[test]
fn a_row_that_is_too_long_elsewhere_fails_its_statement_and_leaves_home_alone() {
    for ends in [false, true] {
        let mut line = home();
        line.caller(&query("select blob, mail, id from u"));
        let_in(&mut line);
        line.server(&[described(), bad_row(), bad_row()].concat());
        assert_eq!(tags(&line.down), "TE");
        assert!(line.acts.is_empty(), "it is not left in the middle");
        if ends {
            line.tell(Input::UpstreamEnd(line.exchange, Ending::Cut));
        } else {
            line.server(&done(b"SELECT 2"));
        }
        assert_eq!(tags(&line.down), "TEZ");
        turned(&mut line);
        reads_at_home(&mut line);
    }
}

#[test]
fn a_copy_that_is_not_permitted_any_more_is_ended_where_it_runs() {
    for ends in [false, true] {
        let mut line = home();
        line.caller(&query("copy u from stdin"));
        let_in(&mut line);
        line.server(&copy_in());
        line.caller(&copy_data("one\n"));
        assert!(said(&line).contains("one"));
        // By then it would go by the credential of home.
        line.worker.reload(Arc::new(made(3, false)));
        forget(&mut line);
        line.caller(&copy_data("two\n"));
        assert_eq!(tags(&line.up), "f");
        assert!(line.acts.is_empty());
        if ends {
            line.tell(Input::UpstreamEnd(line.exchange, Ending::Cut));
            assert!(told(&line).contains("08006"));
        } else {
            line.server(&error("57014"));
            assert!(told(&line).contains("42501") && told(&line).contains("(rule plain"));
            line.server(&ready(TxStatus::Idle));
        }
        assert_eq!(tags(&line.down), "EZ");
        turned(&mut line);
        line.up.clear();
        line.caller(&copy_data("three\n"));
        // Other rules may owe other masks.
        assert!(said(&line).contains("pg_catalog"));
        line.server(&catalog(b"20010"));
        line.caller(COPY_DONE);
        assert_eq!(tags(&line.up), "Q");
        // An error of the same kind stands for itself behind it.
        forget(&mut line);
        line.caller(&query("select email from t"));
        line.server(&error("57014"));
        assert!(told(&line).contains("57014"), "{}", told(&line));
    }
}

#[test]
fn a_copy_whose_session_ends_takes_its_data_along() {
    let mut line = home();
    line.caller(&query("copy u from stdin"));
    let_in(&mut line);
    line.server(&copy_in());
    line.tell(Input::UpstreamEnd(line.exchange, Ending::Cut));
    assert_eq!(tags(&line.down), "GEZ");
    turned(&mut line);
    line.up.clear();
    line.caller(&[copy_data("one\n"), COPY_DONE.to_vec()].concat());
    assert_eq!(tags(&line.up), "");
    reads_at_home(&mut line);
}
