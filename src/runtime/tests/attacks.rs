//! Peers that do what they should not, where the driver looks away for a moment.

use super::fake::Fakes;
use super::peers::{PATIENCE, dial, pattern, receive, send};
use super::{eventually, on_both_drivers, plan, start};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Answers each message with its body, and on `t` once more, when it is told to; says when it did.
fn upstream_that_answers_twice() -> (SocketAddr, mpsc::Sender<()>, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let (go, told) = mpsc::channel::<()>();
    let (did, done) = mpsc::channel();
    let told = std::sync::Arc::new(std::sync::Mutex::new(told));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (told, did) = (std::sync::Arc::clone(&told), did.clone());
            thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                let _ = stream.set_read_timeout(Some(PATIENCE));
                while let Ok((kind, body)) = receive(&mut stream) {
                    if send(&mut stream, 'e', &body).is_err() {
                        return;
                    }
                    if kind == 't' {
                        let _ = told.lock().expect("told").recv();
                        let _ = send(&mut stream, 'e', b"a stray answer");
                        let _ = did.send(());
                    }
                }
            });
        }
    });
    (address, go, done)
}

#[test]
fn a_second_answer_that_was_there_before_is_never_the_next_callers() {
    on_both_drivers(|legacy| {
        let (peer, go, done) = upstream_that_answers_twice();
        let (worker, address) = start(plan(peer, legacy), &Fakes::new());
        let mut one = dial(address);
        let mut two = dial(address);
        send(&mut two, 'e', b"first").expect("sent");
        assert_eq!(receive(&mut two).expect("an answer").1, b"first");
        // More sockets than the kernel looks after at a time.
        let mut crowd: Vec<_> = (0..300).map(|_| dial(address)).collect();
        for round in 0..6u8 {
            send(&mut one, 't', b"mine").expect("sent");
            assert_eq!(receive(&mut one).expect("an answer").1, b"mine");
            // It is pooled by now; all of these stand before it in the kernel's line.
            for member in &mut crowd {
                member.write_all(b"0").expect("sent");
            }
            go.send(()).expect("the upstream is there");
            done.recv_timeout(PATIENCE).expect("the stray answer is under way");
            send(&mut two, 'e', &[round]).expect("sent");
            assert_eq!(receive(&mut two).expect("an answer").1, [round], "legacy {legacy}");
        }
        drop((one, two, crowd));
        assert!(worker.stop());
    });
}

#[test]
fn what_callers_send_ahead_of_an_answer_that_does_not_come_is_bounded() {
    on_both_drivers(|legacy| {
        let peer = super::peers::upstream();
        // Nobody looks behind what they sent: the exchange ends by its time.
        let fakes = Fakes { answer_ms: Some(2_000), ..Fakes::new() };
        let (worker, address) = start(plan(peer.address, legacy), &fakes);
        let bytes = pattern(1 << 20);
        let mut callers: Vec<_> = (0..64).map(|_| dial(address)).collect();
        for caller in &mut callers {
            send(caller, 's', b"").expect("sent");
            caller.set_nonblocking(true).expect("nonblocking");
        }
        let mut most = 0;
        for _ in 0..200 {
            for caller in &mut callers {
                let _ = caller.write(&bytes);
            }
            most = most.max(worker.counters().buffer_bytes.get());
            thread::sleep(Duration::from_millis(1));
        }
        // What the driver may fill is there without callers, too: 3 MiB. It keeps 4 MiB, and what
        // one call of the kernel can fill; then one large buffer for each caller's session.
        assert!(most < (3 + 4 + 3 + 4) << 20, "{most} bytes, legacy {legacy}");
        drop(callers);
        eventually("all of it given back", || {
            let counters = worker.counters();
            counters.buffers_lent.iter().map(|count| count.get()).sum::<u64>() == 0
        });
        assert!(worker.stop());
    });
}
