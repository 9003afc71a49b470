//! A record without room, and a disk that does not get there: what waits, what is refused, what is
//! left out and told.

use super::*;

#[test]
fn nothing_moves_without_room_in_the_journal() {
    let token_of = |kit: &Kit| kit.token("eve", &["plain"]);
    let whole = {
        let mut kit = kit();
        let token = token_of(&kit);
        let mut wire = Wire::new();
        wire.caller(&mut kit, &chat(&token, r#"{"model":"m"}"#));
        wire.upstream(&mut kit, &answer("text/plain", "fine"));
        kit.worker.journal.entries().iter().map(|entry| entry.body.len() as u64 + 64).sum::<u64>()
    };
    for room in (0..whole).step_by(16) {
        let mut kit = kit_with(MemoryJournal::with_room(room), Limits::default());
        let token = token_of(&kit);
        let mut wire = Wire::new();
        wire.caller(&mut kit, &chat(&token, r#"{"model":"m"}"#));
        assert!(wire.to_upstream.is_empty() && wire.to_caller.is_empty(), "it waits for room");
        wire.wait_out(&mut kit);
        if !wire.to_upstream.is_empty() {
            wire.upstream(&mut kit, &answer("text/plain", "fine"));
            wire.wait_out(&mut kit);
        }
        let (_, sent) = if wire.to_upstream.is_empty() {
            (String::new(), &b""[..])
        } else {
            split_head(&wire.to_upstream)
        };
        assert!(recorded(&kit.worker, Kind::RequestBody).starts_with(sent), "room {room}");
        let heads = recorded(&kit.worker, Kind::ResponseHead);
        let bodies = recorded(&kit.worker, Kind::ResponseBody);
        let known = [heads, bodies].concat();
        assert!(
            wire.to_caller.len() <= known.len() && known.starts_with(&wire.to_caller),
            "room {room}"
        );
    }
}

#[test]
fn a_full_record_refuses_new_work() {
    let mut kit = kit();
    kit.worker.record_full = true;
    let token = kit.token("eve", &["plain"]);
    let mut wire = Wire::new();
    wire.caller(&mut kit, &chat(&token, r#"{"model":"m"}"#));
    assert_eq!(wire.status(), "503");
}

#[test]
fn a_careful_exchange_lets_nothing_go_before_its_record_is_on_the_disk() {
    let mut kit = kit();
    // Obligations unite: the strictest wins.
    let token = kit.token("cleo", &["careful", "analysts"]);
    let mut wire = Wire::new();
    wire.caller(&mut kit, &chat(&token, r#"{"model":"gpt-4"}"#));
    assert!(wire.to_upstream.is_empty() && wire.acts.is_empty(), "it waits");
    assert_eq!(wire.session.interest(), Interest::default());
    let until = wire.session.waits_for().unwrap();
    assert_eq!(until, kit.worker.journal.position());
    wire.event(&mut kit, Input::Durable(Position(until.0 - 1)));
    assert!(wire.to_upstream.is_empty(), "not far enough");
    wire.durable(&mut kit);
    assert!(wire.to_upstream.ends_with(r#"{"model":"gpt-4"}"#.as_bytes()));
    assert!(matches!(wire.acts[0], Act::Connect { .. }));
    assert_eq!(wire.session.waits_for(), None);
    // In two parts: the second is not looked at before the first is out.
    let text = answer("text/plain", "write to bob@example.com please");
    let (first, second) = text.split_at(text.len() - 10);
    wire.upstream(&mut kit, first);
    assert!(wire.to_caller.is_empty(), "it waits");
    wire.upstream(&mut kit, second);
    assert_eq!(wire.upstream, second, "and leaves what follows alone");
    wire.durable(&mut kit);
    assert!(!wire.to_caller.is_empty());
    wire.upstream(&mut kit, b"");
    let before = wire.to_caller.len();
    assert!(!wire.session.is_closed());
    wire.durable(&mut kit);
    assert!(wire.to_caller.len() > before);
    let got = String::from_utf8(wire.to_caller.clone()).unwrap();
    assert!(got.contains("[EMAIL]") && !got.contains("bob@"), "{got}");
    let flags: Vec<_> = kit.worker.journal.entries().iter().map(|e| e.meta.flags).collect();
    assert!(flags.iter().all(|flags| flags.has(Flags::DURABLE)), "{flags:?}");
    // The next exchange of the connection is as careful.
    wire.to_upstream.clear();
    wire.caller(&mut kit, &chat(&token, r#"{"model":"gpt-4"}"#));
    assert!(wire.to_upstream.is_empty());
    wire.durable(&mut kit);
    assert!(!wire.to_upstream.is_empty());
}

#[test]
fn a_disk_that_does_not_get_there_ends_a_careful_exchange() {
    let mut kit = kit();
    let token = kit.token("cleo", &["careful"]);
    let mut wire = Wire::new();
    wire.caller(&mut kit, &chat(&token, r#"{"model":"m"}"#));
    wire.now = at(4_000);
    wire.event(&mut kit, Input::Timer);
    assert!(!wire.session.is_closed() && wire.acts.is_empty());
    wire.now = Now { mono_ns: wire.session.deadline(&kit.worker).unwrap(), ..wire.now };
    wire.event(&mut kit, Input::Timer);
    assert!(wire.session.is_closed());
    assert!(wire.acts.contains(&Act::AbortCaller), "{:?}", wire.acts);
    wire.durable(&mut kit);
    assert!(wire.to_upstream.is_empty() && wire.to_caller.is_empty(), "what was held is gone");
    // A disk that is known to be full takes no such work, whatever on_full says of other work.
    for on_full in [OnFull::Refuse, OnFull::ShedBodies, OnFull::Drop] {
        let mut kit = full_kit(on_full);
        let token = kit.token("cleo", &["careful"]);
        let mut wire = Wire::new();
        wire.caller(&mut kit, &chat(&token, r#"{"model":"m"}"#));
        assert_eq!(wire.status(), "503", "{on_full:?}");
    }
}

#[test]
fn a_caller_that_goes_takes_what_waits_with_it() {
    let mut kit = kit();
    let token = kit.token("cleo", &["careful"]);
    let mut wire = Wire::new();
    wire.caller(&mut kit, &chat(&token, r#"{"model":"m"}"#));
    wire.event(&mut kit, Input::CallerGone);
    assert!(wire.session.is_closed());
    wire.durable(&mut kit);
    assert!(wire.to_upstream.is_empty());
}

/// A worker whose snapshot says `on_full`.
fn full_kit(on_full: OnFull) -> Kit {
    let mut kit = kit();
    std::rc::Rc::get_mut(&mut kit.worker.snapshot).and_then(Arc::get_mut).unwrap().on_full =
        on_full;
    kit.worker.record_full = true;
    kit
}

fn gap(kit: &Kit) -> Gap {
    let mut sum = Gap::default();
    let entries = kit.worker.journal.entries().iter();
    entries
        .filter(|entry| entry.meta.kind == Kind::Gap)
        .for_each(|entry| sum.add(&Gap::read(&entry.body)));
    sum
}

#[test]
fn shed_bodies_go_on_masked_and_leave_heads_decisions_and_gaps() {
    let mut kit = full_kit(OnFull::ShedBodies);
    let token = kit.token("ana", &["analysts"]);
    let mut wire = Wire::new();
    let body = r#"{"model":"gpt-4","mail":"ana@example.com"}"#;
    wire.caller(&mut kit, &chat(&token, body));
    let (_, sent) = split_head(&wire.to_upstream);
    assert_eq!(sent, body.as_bytes());
    let text = "write to bob@example.com please";
    wire.upstream(&mut kit, &answer("text/plain", text));
    let got = String::from_utf8(wire.to_caller.clone()).unwrap();
    assert!(got.contains("[EMAIL]") && !got.contains("bob@example.com"), "{got}");
    assert!(recorded(&kit.worker, Kind::RequestBody).is_empty());
    assert!(recorded(&kit.worker, Kind::ResponseBody).is_empty());
    for kind in [Kind::Open, Kind::RequestHead, Kind::ResponseHead, Kind::Close] {
        assert!(!recorded(&kit.worker, kind).is_empty(), "{kind:?}");
    }
    // What is counted is what would have been recorded: the masked form.
    let masked = body.len() as u64 - 15 + 7;
    assert_eq!(gap(&kit).bytes_in, masked);
    assert_eq!(gap(&kit).bytes_out, text.len() as u64 - 15 + 7);
    kit.worker.tick(at(5_000));
    assert_eq!(kit.worker.counts.unrecorded[1], gap(&kit).bytes());
    kit.worker.record_full = false;
    wire.caller(&mut kit, &chat(&token, r#"{"model":"gpt-4"}"#));
    assert!(!recorded(&kit.worker, Kind::RequestBody).is_empty(), "it is whole again");
}

#[test]
fn shedding_bodies_refuses_work_whose_head_has_no_room() {
    let mut kit = full_kit(OnFull::ShedBodies);
    kit.worker.journal.set_room(Some(20_000));
    let token = kit.token("eve", &["plain"]);
    let mut wire = Wire::new();
    wire.caller(&mut kit, &chat(&token, r#"{"model":"m"}"#));
    assert_eq!(wire.status(), "503");
    assert!(wire.to_upstream.is_empty());
}

#[test]
fn what_is_dropped_goes_on_and_is_told_when_there_is_room() {
    let mut kit = full_kit(OnFull::Drop);
    kit.worker.journal.set_room(Some(0));
    let token = kit.token("eve", &["plain"]);
    let mut wire = Wire::new();
    wire.caller(&mut kit, &chat(&token, r#"{"model":"m"}"#));
    wire.upstream(&mut kit, &answer("text/plain", "fine"));
    assert!(wire.to_caller.ends_with(b"fine"));
    assert!(kit.worker.journal.entries().is_empty());
    kit.worker.journal.set_room(None);
    kit.worker.tick(at(5_000));
    let told = gap(&kit);
    // Open, two heads, two bodies, close.
    assert_eq!((told.entries, told.bytes_in, told.bytes_out), (6, 13, 4));
    assert_eq!(kit.worker.counts.unrecorded, [6, 17]);
}

#[test]
fn a_journal_that_is_full_for_a_moment_holds_bytes_back_and_loses_none() {
    let mut kit = kit();
    let token = kit.token("eve", &["plain"]);
    let mut wire = Wire::new();
    wire.caller(&mut kit, &chat(&token, r#"{"model":"m"}"#));
    kit.worker.journal.set_room(Some(0));
    wire.upstream(&mut kit, &answer("text/plain", "fine"));
    assert!(wire.to_caller.is_empty() && !wire.session.is_closed());
    assert!(!wire.session.interest().upstream, "nothing is read meanwhile");
    kit.worker.journal.set_room(None);
    wire.now = at(50);
    wire.event(&mut kit, Input::Timer);
    assert!(wire.session.interest().upstream);
    wire.upstream(&mut kit, b"");
    assert!(wire.to_caller.ends_with(b"fine"));
}
