//! The drivers, each alone: what they do with a descriptor, and what is left of it.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::{Done, Driver, Gather, Key, Waits, Work};
use crate::runtime::buffer::{Buffers, Class};
use crate::runtime::reactor::TaskId;
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

const LOUD: Waits = Waits { task: TaskId::MAIN, quiet: false };

fn on_both(test: impl Fn(&mut Driver)) {
    let buffers = || Rc::new(RefCell::new(Buffers::default()));
    test(&mut Driver::ring(buffers()).unwrap());
    test(&mut Driver::poller(buffers()).unwrap());
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    one.set_nodelay(true).unwrap();
    (one, listener.accept().unwrap().0)
}

fn turn(driver: &mut Driver) -> usize {
    let mut woken = 0;
    driver.wait(Some(Duration::from_millis(20)), &mut |_| woken += 1).unwrap();
    woken
}

fn finish(driver: &mut Driver, key: Key) -> Done {
    let start = Instant::now();
    loop {
        if let Some(done) = driver.take(key, LOUD) {
            return done;
        }
        turn(driver);
        assert!(start.elapsed() < Duration::from_secs(20), "never done");
    }
}

/// Reads until `count` bytes or an end.
fn receive(driver: &mut Driver, socket: &TcpStream, class: Class, count: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < count {
        let key = driver.start(socket.as_raw_fd(), Work::Receive(class));
        let done = finish(driver, key);
        let Some(buffer) = done.buffer else { break };
        assert_eq!(done.result.unwrap(), buffer.filled().len());
        all.extend_from_slice(buffer.filled());
    }
    all
}

fn message(bytes: &[u8]) -> Box<Gather> {
    let mut gather = Box::<Gather>::default();
    for part in bytes.chunks(bytes.len().div_ceil(3).max(1)) {
        gather.pieces_mut().text(part);
    }
    gather
}

fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at * 31 % 251) as u8).collect()
}

#[test]
fn bytes_keep_their_order_whatever_the_reads_are() {
    on_both(|driver| {
        let (mut peer, ours) = pair();
        let sent = pattern(3_000_000);
        let writer = {
            let sent = sent.clone();
            std::thread::spawn(move || peer.write_all(&sent).map(|()| peer))
        };
        let mut got = Vec::new();
        let mut round = 0;
        while got.len() < sent.len() {
            round += 1;
            let class = if round % 3 == 0 { Class::Large } else { Class::Small };
            if round % 5 == 0 {
                let key = driver.start(ours.as_raw_fd(), Work::Readable);
                finish(driver, key).result.unwrap();
                assert!(driver.peek(ours.as_raw_fd()).is_ok());
            }
            if round % 7 == 0 {
                // One that is given up takes nothing with it, unless it had something already.
                let key = driver.start(ours.as_raw_fd(), Work::Receive(Class::Small));
                match driver.take(key, LOUD) {
                    Some(done) => got.extend_from_slice(done.buffer.unwrap().filled()),
                    None => driver.abandon(key),
                }
            }
            // Time for more to come than anybody asked for.
            turn(driver);
            got.extend(receive(driver, &ours, class, 1));
        }
        assert!(got == sent);
        drop(writer.join().unwrap().unwrap());
        let key = driver.start(ours.as_raw_fd(), Work::Receive(Class::Small));
        let end = finish(driver, key);
        assert!(end.buffer.is_none() && end.result.unwrap() == 0);
        driver.close(OwnedFd::from(ours));
        driver.settle();
    });
}

#[test]
fn a_peek_sees_bytes_and_ends_and_takes_nothing() {
    on_both(|driver| {
        let (mut peer, ours) = pair();
        let fd = ours.as_raw_fd();
        let nothing = |result: io::Result<usize>| {
            result.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        };
        peer.write_all(b"one").unwrap();
        assert_eq!(receive(driver, &ours, Class::Small, 3), b"one");
        assert!(nothing(driver.peek(fd)));
        peer.write_all(b"stray").unwrap();
        let start = Instant::now();
        while nothing(driver.peek(fd)) {
            assert!(start.elapsed() < Duration::from_secs(20));
        }
        // Seen before any turn of the driver, and after it.
        turn(driver);
        assert!(driver.peek(fd).unwrap() > 0);
        assert_eq!(driver.take_peeked(fd).unwrap().filled(), b"stray");
        peer.shutdown(Shutdown::Write).unwrap();
        while nothing(driver.peek(fd)) {
            turn(driver);
        }
        assert_eq!(driver.peek(fd).unwrap(), 0);
        driver.close(OwnedFd::from(ours));
        driver.settle();
        assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
    });
}

#[test]
fn a_peek_sees_what_a_turn_did_not_get_to() {
    on_both(|driver| {
        let pairs: Vec<_> = (0..200).map(|_| pair()).collect();
        for (peer, ours) in &pairs {
            (&mut &*peer).write_all(b"answer").unwrap();
            assert_eq!(receive(driver, ours, Class::Small, 6), b"answer");
        }
        for (peer, _) in &pairs {
            (&mut &*peer).write_all(b"stray").unwrap();
        }
        // The kernel looks after some twenty ready sockets at a time, and the rest wait.
        turn(driver);
        for (_, ours) in &pairs {
            assert!(driver.peek(ours.as_raw_fd()).unwrap() > 0);
        }
        for (_, ours) in pairs {
            driver.close(OwnedFd::from(ours));
        }
        driver.settle();
    });
}

#[test]
fn what_nobody_reads_stays_with_the_peer() {
    on_both(|driver| {
        let (mut peer, ours) = pair();
        peer.write_all(b"x").unwrap();
        assert_eq!(receive(driver, &ours, Class::Small, 1), b"x");
        peer.set_nonblocking(true).unwrap();
        let (sent, mut total) = (pattern(1 << 20), 0usize);
        for _ in 0..100 {
            let from = total % sent.len();
            if let Ok(count) = peer.write(&sent[from..]) {
                total += count;
            }
            turn(driver);
        }
        // The kernel's own buffers hold some megabytes; a driver without bound would take them all.
        assert!(total < 40 << 20, "{total}");
        peer.shutdown(Shutdown::Write).unwrap();
        let got = receive(driver, &ours, Class::Large, total + 1);
        assert_eq!(got.len(), total);
        assert!(got.iter().zip(sent.iter().cycle()).all(|(one, other)| one == other));
        driver.close(OwnedFd::from(ours));
        driver.settle();
    });
}

#[test]
fn more_connections_than_buffers_at_once_lose_nothing() {
    on_both(|driver| {
        let pairs: Vec<_> = (0..300).map(|_| pair()).collect();
        let keys: Vec<_> = pairs
            .iter()
            .map(|(_, ours)| driver.start(ours.as_raw_fd(), Work::Receive(Class::Small)))
            .collect();
        turn(driver);
        for (at, (peer, _)) in pairs.iter().enumerate() {
            (&mut &*peer).write_all(&pattern(at + 1)).unwrap();
        }
        for (at, key) in keys.into_iter().enumerate() {
            let done = finish(driver, key);
            let mut got = done.buffer.unwrap().filled().to_vec();
            let left = at + 1 - got.len();
            got.extend(receive(driver, &pairs[at].1, Class::Small, left));
            assert_eq!(got, pattern(at + 1));
        }
        for (_, ours) in pairs {
            driver.close(OwnedFd::from(ours));
        }
        driver.settle();
    });
}

#[test]
fn a_message_arrives_whole_and_a_broken_way_is_an_error() {
    on_both(|driver| {
        let (mut peer, ours) = pair();
        let sent = pattern(2_000_000);
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; 2_000_000];
            peer.read_exact(&mut got).map(|()| (peer, got))
        });
        let mut gather = message(&sent);
        while !gather.is_empty() {
            let key = driver.start(ours.as_raw_fd(), Work::Send(gather));
            let done = finish(driver, key);
            let Work::Send(back) = done.work else { panic!("it was a write") };
            gather = back;
            gather.advance(done.result.unwrap());
        }
        let (peer, got) = reader.join().unwrap().unwrap();
        assert!(got == sent);
        drop(peer);
        let start = Instant::now();
        loop {
            let key = driver.start(ours.as_raw_fd(), Work::Send(message(b"lost")));
            if finish(driver, key).result.is_err() {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(20));
        }
        driver.close(OwnedFd::from(ours));
        driver.settle();
    });
}

#[test]
fn connections_are_made_taken_and_refused() {
    on_both(|driver| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(matches!(driver, Driver::Poller(_))).unwrap();
        let address = listener.local_addr().unwrap();
        let dial = |driver: &mut Driver| {
            let domain = socket2::Domain::for_address(address);
            let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
            let key = driver.start(socket.as_raw_fd(), Work::Connect(Box::new(address.into())));
            (finish(driver, key).result, socket)
        };
        let accept = driver.start(listener.as_raw_fd(), Work::Accept);
        assert!(driver.take(accept, LOUD).is_none());
        let (made, one) = dial(driver);
        assert_eq!(made.unwrap(), 0);
        let accepted = finish(driver, accept).accepted.unwrap();
        assert_eq!(
            TcpStream::from(accepted).peer_addr().unwrap(),
            one.local_addr().unwrap().as_socket().unwrap()
        );
        // One that is given up, and a connection that comes all the same: nobody holds it open.
        let given_up = driver.start(listener.as_raw_fd(), Work::Accept);
        driver.abandon(given_up);
        driver.close(OwnedFd::from(listener));
        driver.settle();
        let (refused, _two) = dial(driver);
        assert!(refused.is_err());
    });
}

#[test]
fn a_driver_that_ends_lets_go_of_everything() {
    on_both(|driver| {
        let pairs: Vec<_> = (0..20).map(|_| pair()).collect();
        let mut ends = Vec::new();
        for (at, (peer, ours)) in pairs.into_iter().enumerate() {
            let fd = ours.as_raw_fd();
            let work = if at % 2 == 0 { Work::Receive(Class::Small) } else { Work::Readable };
            let key = driver.start(fd, work);
            if at % 3 == 0 {
                turn(driver);
            }
            driver.abandon(key);
            driver.close(OwnedFd::from(ours));
            ends.push(peer);
        }
        driver.settle();
        // A descriptor that anything still held would not be told of as an end.
        for mut peer in ends {
            peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
        }
    });
}
