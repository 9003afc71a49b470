//! Upstream connections that one caller has beside the one in hand.
//!
//! A session of a database may need a second one for a while and then go on with the first
//! ([`Act::Beside`](crate::session::io::Act::Beside), `Resume`). Exactly one is in hand: it has the
//! flows and the slots. The others are a socket each, with the read in flight that finds out about
//! their end and what they said that was not shown. Who has one connection pays nothing for that
//! there may be more.

use super::{Connection, Want};
use crate::base::{ExchangeId, Now};
use crate::runtime::buffer::Buffer;
use crate::runtime::flow::HalfClose;
use crate::runtime::shared::Key;
use crate::runtime::socket::{Reading, Socket};
use crate::runtime::{Session, sys};
use crate::session::io::{Ending, Input};

/// A connection that is not in hand.
pub(super) struct Aside {
    exchange: ExchangeId,
    key: Option<Key>,
    socket: Socket,
    reading: Option<Reading>,
    /// What came and was not shown.
    rest: Option<Buffer>,
    end: Option<Ending>,
    told: bool,
    dead: bool,
    half_close: HalfClose,
}

/// What is to be in hand, once the one before can be put aside.
pub(super) enum Next {
    Connect(ExchangeId, Want),
    Resume(ExchangeId),
}

impl<S: Session> Connection<S> {
    /// Takes another connection in hand, where that is wanted and nothing is on its way to the one
    /// before.
    pub(super) fn step_aside(&mut self, reading: &mut Option<Reading>, now: Now) -> bool {
        if self.next.is_none()
            || self.upstream_writing
            || !self.up.is_idle()
            || self.down.lent_rest()
        {
            return false;
        }
        // What was released may have a read in flight, which is not the next one's.
        if self.exchange.is_none() && (self.upstream_reading || self.upstream.is_some()) {
            return false;
        }
        self.put_aside(reading);
        match self.next.take() {
            Some(Next::Connect(exchange, want)) => {
                self.lap.admitted(exchange, now, &self.shared.counters.latency);
                (self.exchange, self.want) = (Some(exchange), Some(want));
            }
            Some(Next::Resume(exchange)) => self.resume(exchange, reading, now),
            None => {}
        }
        true
    }

    fn put_aside(&mut self, reading: &mut Option<Reading>) {
        let Some(exchange) = self.exchange.take() else { return };
        // One that does not stand yet has nothing to keep.
        (self.want, self.connect_job, self.connected) = (None, None, None);
        (self.connecting, self.resumed, self.hears) = (false, false, false);
        let key = self.key.take();
        if let Some(socket) = self.upstream.take() {
            self.aside.push(Aside {
                exchange,
                key,
                socket,
                reading: reading.take_if(|_| self.upstream_reading),
                rest: self.down.buffer.take_if(|buffer| !buffer.is_empty()),
                end: self.down.end,
                told: self.down.told,
                dead: self.up.dead,
                half_close: self.up.half_close,
            });
            self.upstream_reading = false;
        }
        self.up.restart_out();
        self.down.restart_in();
    }

    fn resume(&mut self, exchange: ExchangeId, reading: &mut Option<Reading>, now: Now) {
        self.exchange = Some(exchange);
        let Some(place) = self.aside.iter().position(|aside| aside.exchange == exchange) else {
            debug_assert!(false, "what is resumed was put aside");
            return self.tell(Input::UpstreamEnd(exchange, Ending::Cut), now);
        };
        let aside = self.aside.swap_remove(place);
        self.down.return_buffer(&self.shared);
        (self.upstream, self.key) = (Some(aside.socket), aside.key);
        (self.down.end, self.down.told) = (aside.end, aside.told);
        (self.up.dead, self.up.half_close) = (aside.dead, aside.half_close);
        if let Some(rest) = aside.rest {
            self.down.buffer = Some(rest);
        }
        self.upstream_reading = aside.reading.is_some();
        *reading = aside.reading;
        self.resumed = true;
        // What came while it was aside, its end say, is known before anything goes to it.
        if let Some(done) = Reading::outcome(reading) {
            self.on_upstream_read(done);
        } else if let Some(upstream) = &self.upstream {
            self.hears = self.down.end.is_none() && upstream.peek().is_ok();
        }
    }

    /// Says that what was resumed is in hand, behind what it had to say before.
    pub(super) fn tell_resumed(&mut self, now: Now) -> bool {
        let Some(exchange) = self.exchange.filter(|_| self.resumed && self.next.is_none()) else {
            return false;
        };
        // What it said before is read first, and may have to wait for the caller to take its bytes.
        if self.hears || self.down.fresh && !self.down.rest().is_empty() {
            return false;
        }
        self.resumed = false;
        self.tell(Input::Connected(exchange, None), now);
        true
    }

    /// Ends connections that are aside.
    pub(super) fn drop_aside(&mut self, which: impl Fn(ExchangeId) -> bool) {
        for aside in self.aside.extract_if(.., |aside| which(aside.exchange)) {
            let Aside { mut socket, rest, .. } = aside;
            sys::shutdown_both(socket.fd);
            let sealed = socket.tls.as_mut().and_then(|tls| tls.abandon());
            rest.into_iter().chain(sealed).for_each(|buffer| self.shared.put(buffer));
        }
    }
}
