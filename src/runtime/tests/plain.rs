//! Bytes go through, whole and in order, and connections are kept.

use super::fake::Fakes;
use super::peers::{ask, dial, pattern, receive, send, upstream};
use super::{on_both_drivers, plan, start};
use crate::runtime::DriverKind;
use std::io::Write;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

#[test]
fn exchanges_share_the_upstream_connection() {
    on_both_drivers(|legacy| {
        let peer = upstream();
        let fakes = Fakes::new();
        let (worker, address) = start(plan(peer.address, legacy), &fakes);
        assert!(!legacy || worker.driver() == DriverKind::Legacy);
        let mut caller = dial(address);
        for round in 0..50usize {
            let body = pattern(round * 37);
            assert_eq!(ask(&mut caller, 'e', &body).expect("an answer"), body);
        }
        drop(caller);
        let mut caller = dial(address);
        assert_eq!(ask(&mut caller, 'e', b"again").expect("an answer"), b"again");
        assert_eq!(peer.accepted.load(Ordering::SeqCst), 1);
        drop(caller);
        assert!(worker.stop());
    });
}

#[test]
fn a_message_in_single_bytes_and_pipelined_ones_arrive() {
    on_both_drivers(|legacy| {
        let peer = upstream();
        let (worker, address) = start(plan(peer.address, legacy), &Fakes::new());
        let mut caller = dial(address);
        for byte in b"00000005ehello" {
            caller.write_all(&[*byte]).expect("write");
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(receive(&mut caller).expect("an answer").1, b"hello");
        let mut many = Vec::new();
        for round in 0..20 {
            many.extend_from_slice(format!("{:08}e", round).as_bytes());
            many.extend_from_slice(&pattern(round));
        }
        caller.write_all(&many).expect("write");
        for round in 0..20 {
            assert_eq!(receive(&mut caller).expect("an answer").1, pattern(round));
        }
        drop(caller);
        assert!(worker.stop());
    });
}

#[test]
fn many_callers_at_once_each_get_their_own() {
    on_both_drivers(|legacy| {
        let peer = upstream();
        let (worker, address) = start(plan(peer.address, legacy), &Fakes::new());
        let callers: Vec<_> = (0..32usize)
            .map(|who| {
                thread::spawn(move || {
                    let mut caller = dial(address);
                    for round in 0..20usize {
                        let body = pattern(who * 1000 + round);
                        assert_eq!(ask(&mut caller, 'e', &body).expect("an answer"), body);
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.join().expect("the caller is content");
        }
        assert!(peer.accepted.load(Ordering::SeqCst) <= 32);
        assert!(worker.stop());
    });
}

#[test]
fn long_bodies_pass_both_ways() {
    on_both_drivers(|legacy| {
        let peer = upstream();
        let (worker, address) = start(plan(peer.address, legacy), &Fakes::new());
        let mut caller = dial(address);
        let mut twin = caller.try_clone().expect("clone");
        let body = pattern(8 << 20);
        let sent = body.clone();
        let sender = thread::spawn(move || send(&mut twin, 'e', &sent).expect("sent"));
        let (_, got) = receive(&mut caller).expect("an answer");
        sender.join().expect("the sender is content");
        assert!(got == body);
        drop(caller);
        assert!(worker.stop());
    });
}

#[test]
fn a_connection_that_was_silent_goes_on() {
    on_both_drivers(|legacy| {
        let peer = upstream();
        let (worker, address) = start(plan(peer.address, legacy), &Fakes::new());
        let mut caller = dial(address);
        for _ in 0..3 {
            assert_eq!(ask(&mut caller, 'e', b"x").expect("an answer"), b"x");
            // Reads that get nothing give their buffers back meanwhile, on either side.
            thread::sleep(Duration::from_millis(150));
            assert_eq!(ask(&mut caller, 'w', b"150").expect("an answer"), b"onetwo");
            caller.write_all(b"0000").expect("write");
            thread::sleep(Duration::from_millis(150));
            caller.write_all(b"0003eabc").expect("write");
            assert_eq!(receive(&mut caller).expect("an answer").1, b"abc");
        }
        assert_eq!(peer.accepted.load(Ordering::SeqCst), 1);
        drop(caller);
        assert!(worker.stop());
    });
}
