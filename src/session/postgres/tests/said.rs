//! What a caller says of its work narrows what it may do, wherever it is said.

use super::*;
use crate::policy::Durable;

/// Nobody drops by a tool, and what is done for `t-9` must be on the disk first.
fn said_rules() -> Vec<RuleSpec> {
    let mut rules = rules();
    let mut tools = RuleSpec::new("no-tools", Effect::Deny);
    tools.who.node = patterns(&["tool:*"]);
    let mut thread = RuleSpec::new("durable-thread", Effect::Allow);
    thread.who.thread = patterns(&["t-9"]);
    thread.then.durable = Durable::Each;
    rules.extend([tools, thread]);
    rules
}

/// A session that began with these parameters.
fn login(params: &[(&str, &str)]) -> Line {
    let mut line = Line::new();
    line.worker.reload(Arc::new(snapshot(said_rules(), 1)));
    let usual = [("user", "x"), ("database", "orders")];
    line.caller(&startup(&[&usual, params].concat()));
    let token = line.token("ana", &["readers"]);
    line.caller(&message(|to| write::secret(token.as_bytes(), to)));
    let link = line.exchange;
    line.tell(Input::Connected(link, None));
    let hello = String::from_utf8_lossy(&line.up).into_owned();
    assert!(!hello.contains("weirgate."), "{hello:?}");
    line.server(&message(write::auth_cleartext));
    line.server(&message(write::auth_ok));
    line.server(&message(|to| write::key(7, b"abcd", to)));
    line.server(&ready(TxStatus::Idle));
    line.up.clear();
    line.down.clear();
    line
}

/// Whether the statement goes up; else it is refused by the rule.
fn goes(line: &mut Line, messages: &[u8]) -> bool {
    line.caller(messages);
    let refused = String::from_utf8_lossy(&line.down).contains("(rule no-tools, ");
    let went = !line.up.is_empty();
    assert!(went != refused, "{:?} {:?}", tags(&line.up), tags(&line.down));
    if went {
        line.server(&[rows(1), ready(TxStatus::Idle)].concat());
    }
    line.up.clear();
    line.down.clear();
    went
}

const ASK: &str = "select * from t";

#[test]
fn it_is_said_at_the_start_by_name_or_by_options() {
    for (params, may) in [
        (&[("application_name", "lg/t-1/tool:rm")][..], false),
        (&[("application_name", "lg/t-1/plan")], true),
        (&[("application_name", "tool:rm")], true),
        (&[("options", "-c weirgate.node=tool:rm")], false),
        (&[("options", "-c application_name=lg/t-1/tool:rm -c datestyle=ISO")], false),
        // What options say counts before the name.
        (&[("application_name", "lg/t-1/tool:rm"), ("options", "-cweirgate.node=plan")], true),
    ] {
        let mut line = login(params);
        assert_eq!(goes(&mut line, &query(ASK)), may, "{params:?}");
    }
}

#[test]
fn it_is_said_by_a_comment_of_each_statement() {
    let mut line = login(&[("application_name", "lg/t-1/plan")]);
    let by = |node: &str| query(&format!("{ASK} /*node='{node}'*/"));
    for _ in 0..2 {
        assert!(goes(&mut line, &query(ASK)));
        assert!(!goes(&mut line, &by("tool%3Arm")), "what is kept is not for it");
        assert!(goes(&mut line, &by("act")));
    }
    let opened = line.recorded(Kind::Open);
    assert!(opened.contains("plan") && opened.contains("act") && opened.contains("tool:rm"));
    // To the server it goes as it came.
    line.caller(&by("act"));
    assert!(String::from_utf8_lossy(&line.up).contains("/*node='act'*/"));
}

#[test]
fn a_prepared_statement_says_it_wherever_it_runs() {
    let mut line = login(&[]);
    line.caller(&[parse("s", &format!("{ASK} /*node='act'*/")), sync()].concat());
    line.server(&[message(write::parse_done), ready(TxStatus::Idle)].concat());
    line.up.clear();
    line.down.clear();
    let run = [bind_execute("s"), sync()].concat();
    line.caller(&run);
    assert_eq!(tags(&line.up), "BES");
    line.server(&[message(write::bind_done), rows(1), ready(TxStatus::Idle)].concat());
    line.up.clear();
    // The rules of a reload hear what was said when it was prepared.
    let mut rules = said_rules();
    let tools = rules.iter_mut().find(|rule| rule.id == "no-tools").unwrap();
    tools.who.node = patterns(&["act"]);
    line.worker.reload(Arc::new(snapshot(rules, 2)));
    line.down.clear();
    assert!(!goes(&mut line, &run));
    assert!(goes(&mut line, &query(ASK)));
}

#[test]
fn an_allow_rule_that_names_it_adds_what_it_obliges_to() {
    let mut line = login(&[]);
    line.caller(&query(ASK));
    assert_eq!(tags(&line.up), "Q");
    let mut line = login(&[("options", "-c weirgate.thread=t-9")]);
    line.caller(&query(ASK));
    assert!(line.up.is_empty(), "it waits for the disk");
    assert!(line.recorded(Kind::Open).contains("permit"));
}

#[test]
fn a_statement_behind_one_with_a_comment_is_noted_by_itself() {
    let mut line = login(&[("options", "-c weirgate.thread=t-9")]);
    // It is kept, so that both are one text.
    for _ in 0..2 {
        line.worker.texts.find(ASK.as_bytes(), &crate::sql::SqlLimits::default());
    }
    let parts = [parse("", &format!("{ASK} /*thread='t-1'*/")), parse("", ASK), sync()];
    line.caller(&parts.concat());
    assert!(
        line.up.is_empty(),
        "what the session says of the second counts: it waits for the disk"
    );
    let noted = [Kind::Open, Kind::Decision].map(|kind| line.recorded(kind)).concat();
    assert_eq!(noted.matches(ASK).count(), 2);
}
