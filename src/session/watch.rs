//! Finds the injected secret in the texts of an event stream, where it comes in parts.
//!
//! A model that was shown the secret tells it token by token: no run of raw bytes holds it. Each
//! text of the stream (`mask::TextReader` knows the shapes) is therefore looked at by itself, over
//! its events. Events go on whole. An event waits while the text that it adds to ends with
//! [`ALIVE_MIN`] or more bytes that are the beginning of the secret in one of its forms, and all
//! events behind it wait, too: so no more than the [`ALIVE_MIN`] - 1 first bytes ever go out. What
//! waits is bounded by [`WAIT_MAX`]; above it the exchange ends, as for a secret that was found.
//!
//! Estimate for an event of 250 bytes with a token of 5: 100 ns, measured 60 ns where the event is
//! like the one before and 2.4 us where each must be parsed (`benches/mask.rs`); nothing is copied
//! or held on a stream whose reads end with an event.

use crate::base::Limits;
use crate::credential::{Echo, EchoFound, EchoState, EchoStep};
use crate::mask::{Shape, TextReader, Told};

/// Where the search stands in one stream.
#[derive(Debug, Default)]
pub(super) struct Watch {
    reader: TextReader,
    /// By the place that the reader gives a text.
    texts: Vec<Text>,
    /// Texts of which an event waits.
    waiting: usize,
    /// Bytes that were not let go: events that wait, and the one in hand.
    held: Vec<u8>,
    /// How many of `held` are events that were read.
    read: usize,
    /// Offset of the first held byte in the stream.
    base: u64,
}

#[derive(Debug, Default)]
struct Text {
    echo: EchoState,
    /// Offset of the first event that waits for what comes.
    since: Option<u64>,
}

impl Watch {
    pub(super) fn begin(&mut self, shape: Shape, limits: &Limits) {
        self.reader.begin(shape, limits.event_max);
        self.forget();
    }

    /// Drops what it holds.
    pub(super) fn forget(&mut self) {
        for text in &mut self.texts {
            text.echo.reset();
            text.since = None;
        }
        self.held.clear();
        (self.waiting, self.read, self.base) = (0, 0, 0);
    }

    /// Bytes of room that it keeps for what it holds.
    pub(super) fn room(&self) -> usize {
        self.held.capacity()
    }

    /// Looks at the next bytes of the stream; `end` when nothing follows. What may go on is told
    /// as by [`Echo::push`]; [`Self::held`] lends held bytes, [`Self::let_go`] forgets them.
    ///
    /// # Errors
    /// [`EchoFound`] when the secret is in a text, when a text cannot be read, or when too much
    /// waits.
    pub(super) fn push(
        &mut self,
        echo: &Echo,
        data: &[u8],
        end: bool,
    ) -> Result<EchoStep, EchoFound> {
        let joint = !self.held.is_empty();
        let mut held = std::mem::take(&mut self.held);
        if joint {
            held.extend_from_slice(data);
        }
        let read = self.read(echo, if joint { &held } else { data }, end);
        self.held = held;
        let clear = read?;
        if joint {
            self.read -= clear.min(self.read);
            return Ok(EchoStep { held: clear, data: 0 });
        }
        self.held.extend_from_slice(data.get(clear..).unwrap_or_default());
        self.base += clear as u64;
        self.read -= clear.min(self.read);
        Ok(EchoStep { held: 0, data: clear })
    }

    /// The first `count` held bytes.
    pub(super) fn held(&self, count: usize) -> &[u8] {
        self.held.get(..count).unwrap_or_default()
    }

    /// Forgets the first `count` held bytes.
    pub(super) fn let_go(&mut self, count: usize) {
        self.held.drain(..count.min(self.held.len()));
        self.base += count as u64;
    }

    /// Reads the events of `buf` from the first that was not read, and returns how many bytes of
    /// it need not wait.
    fn read(&mut self, echo: &Echo, buf: &[u8], end: bool) -> Result<usize, EchoFound> {
        let Self { reader, texts, waiting, base, .. } = self;
        let mut found = Ok(());
        loop {
            let at = self.read;
            let mut told = |told: Told<'_>| match told {
                Told::Part(place, part) => {
                    if texts.len() <= place {
                        texts.resize_with(place + 1, Text::default);
                    }
                    let Some(text) = texts.get_mut(place) else { return };
                    match echo.follow(&mut text.echo, part) {
                        Ok(alive) => text.wait(alive, part.len(), *base + at as u64, waiting),
                        Err(EchoFound) => found = Err(EchoFound),
                    }
                }
                Told::End(place) => {
                    if let Some(text) = texts.get_mut(place) {
                        text.wait(0, 0, 0, waiting);
                        text.echo.reset();
                    }
                }
            };
            let next = reader.next(buf, at, end, &mut told).map_err(|_| EchoFound)?;
            found?;
            match next {
                Some(next) => self.read = next,
                None => break,
            }
        }
        let read = self.read;
        let waits =
            if *waiting == 0 { None } else { texts.iter().filter_map(|text| text.since).min() };
        if let Some(since) = waits.filter(|_| !end) {
            let clear = usize::try_from(since - *base).unwrap_or(read).min(read);
            return if buf.len() - clear > WAIT_MAX { Err(EchoFound) } else { Ok(clear) };
        }
        debug_assert!(!end || read == buf.len(), "an end is read to the end");
        // An event above the bound goes on unread.
        self.read += reader.pass();
        Ok(self.read)
    }
}

impl Text {
    /// The last `alive` bytes may begin the secret; `len` of them came with the event at `offset`.
    fn wait(&mut self, alive: usize, len: usize, offset: u64, waiting: &mut usize) {
        let before = self.since.is_some();
        self.since = match self.since {
            _ if alive < ALIVE_MIN => None,
            Some(since) if alive > len => Some(since),
            _ => Some(offset),
        };
        *waiting = *waiting + usize::from(self.since.is_some()) - usize::from(before);
    }
}

/// From so many bytes on the beginning of the secret waits. Every form of it is longer (config
/// asks for 8 bytes); shorter, every other token would wait for the next.
const ALIVE_MIN: usize = 4;
/// Most bytes that wait for the next part of a text.
const WAIT_MAX: usize = 64 << 10;

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};

    const SECRET: &str = "sk-real-key/of+the-provider==0123456789";

    /// What goes out of a stream that comes in `chunks`, and whether the secret was found.
    fn run(echo: &Echo, shape: Shape, chunks: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut watch = Watch::default();
        watch.begin(shape, &Limits::default());
        let mut sent = Vec::new();
        for (place, chunk) in chunks.iter().enumerate() {
            match watch.push(echo, chunk, place + 1 == chunks.len()) {
                Err(EchoFound) => return (sent, true),
                Ok(step) => {
                    sent.extend_from_slice(watch.held(step.held));
                    watch.let_go(step.held);
                    sent.extend_from_slice(&chunk[..step.data]);
                }
            }
        }
        (sent, false)
    }

    fn event(shape: Shape, index: usize, text: &str) -> String {
        let text = serde_json::to_string(text).unwrap();
        match shape {
            Shape::Anthropic => format!(
                "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":{index},\
                 \"delta\":{{\"type\":\"text_delta\",\"text\":{text}}}}}\n\n"
            ),
            _ => format!(
                "data: {{\"id\":\"c\",\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":{text}}},\
                 \"finish_reason\":null}}]}}\n\n"
            ),
        }
    }

    /// All text of one choice or block among complete events.
    fn text_of(shape: Shape, index: u64, stream: &[u8]) -> String {
        let mut all = String::new();
        for line in String::from_utf8_lossy(stream).lines() {
            let Some(data) = line.strip_prefix("data: ") else { continue };
            let Ok(value) = serde_json::from_str::<serde_json::Value>(data) else { continue };
            let (place, text) = match shape {
                Shape::Anthropic => (&value["index"], &value["delta"]["text"]),
                _ => {
                    let choice = &value["choices"][0];
                    (&choice["index"], &choice["delta"]["content"])
                }
            };
            if place.as_u64() == Some(index) {
                all.push_str(text.as_str().unwrap_or_default());
            }
        }
        all
    }

    /// The texts of two choices, cut into parts and mixed, as one stream.
    fn stream(shape: Shape, texts: [&str; 2], order: &[(bool, u8)]) -> String {
        let mut rest = texts;
        let mut stream = String::new();
        let tail = [(false, u8::MAX), (true, u8::MAX)];
        for (second, len) in order.iter().chain(&tail) {
            let text = &mut rest[usize::from(*second)];
            let cut = usize::from(*len).min(text.len());
            let (part, behind) = text.split_at(cut);
            *text = behind;
            stream.push_str(&event(shape, usize::from(*second), part));
        }
        stream
    }

    fn shapes() -> impl Strategy<Value = Shape> {
        any::<bool>().prop_map(|chat| if chat { Shape::OpenAi } else { Shape::Anthropic })
    }

    proptest! {
        #[test]
        fn no_split_over_events_or_chunks_lets_the_secret_through(
            shape in shapes(),
            order in proptest::collection::vec((any::<bool>(), 0u8..12), 0..60),
            cuts in proptest::collection::vec(1usize..200, 1..80),
            base64 in any::<bool>(),
        ) {
            let echo = Echo::new(&[SECRET.as_bytes()]);
            let secret = if base64 {
                use base64::Engine as _;
                base64::engine::general_purpose::STANDARD.encode(SECRET)
            } else {
                SECRET.to_owned()
            };
            let first = format!("the key is {secret} as you asked");
            let text = stream(shape, [&first, "the other says sk-real things"], &order);
            let mut chunks = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts.iter().cycle() {
                let (chunk, behind) = rest.split_at((*cut).min(rest.len()));
                chunks.push(chunk);
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            let (sent, found) = run(&echo, shape, &chunks);
            prop_assert!(found);
            prop_assert!(text.as_bytes().starts_with(&sent));
            let heard = text_of(shape, 0, &sent);
            let longest = (0..=secret.len()).rev().find(|len| heard.contains(&secret[..*len]));
            prop_assert!(longest.unwrap_or(0) < ALIVE_MIN, "{heard}");
        }

        #[test]
        fn a_stream_without_the_secret_comes_out_as_it_was(
            shape in shapes(),
            order in proptest::collection::vec((any::<bool>(), 0u8..9), 0..60),
            cuts in proptest::collection::vec(1usize..200, 1..80),
        ) {
            let echo = Echo::new(&[SECRET.as_bytes()]);
            let texts = ["sk-real-key/of+the-provider==012345678 sk-real sk-", "sk-sk-real-key/of"];
            let text = stream(shape, texts, &order);
            let mut chunks = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts.iter().cycle() {
                let (chunk, behind) = rest.split_at((*cut).min(rest.len()));
                chunks.push(chunk);
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            let (sent, found) = run(&echo, shape, &chunks);
            prop_assert!(!found);
            prop_assert_eq!(String::from_utf8(sent).unwrap(), text);
        }
    }

    #[test]
    fn what_waits_is_bounded_and_an_end_lets_it_go() {
        let echo = Echo::new(&[SECRET.as_bytes()]);
        let begun = event(Shape::OpenAi, 0, "sk-real");
        let other = event(Shape::OpenAi, 1, "something else");
        let mut watch = Watch::default();
        watch.begin(Shape::OpenAi, &Limits::default());
        assert_eq!(watch.push(&echo, begun.as_bytes(), false), Ok(EchoStep { held: 0, data: 0 }));
        let waits = (0..1_000)
            .map_while(|_| watch.push(&echo, other.as_bytes(), false).ok())
            .inspect(|step| assert_eq!(*step, EchoStep { held: 0, data: 0 }))
            .count();
        assert!(waits < 1_000 && waits * other.len() <= WAIT_MAX, "{waits}");
        watch.begin(Shape::OpenAi, &Limits::default());
        watch.push(&echo, begun.as_bytes(), false).unwrap();
        let stop =
            "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
        let step = watch.push(&echo, stop.as_bytes(), false).unwrap();
        assert_eq!(step, EchoStep { held: begun.len() + stop.len(), data: 0 });
    }

    #[test]
    fn whole_events_are_neither_held_nor_copied_and_a_long_one_passes() {
        let echo = Echo::new(&[SECRET.as_bytes()]);
        let mut watch = Watch::default();
        watch.begin(Shape::OpenAi, &Limits { event_max: 1 << 10, ..Limits::default() });
        for text in ["s", "k", "hello"] {
            let event = event(Shape::OpenAi, 0, text);
            let step = watch.push(&echo, event.as_bytes(), false);
            assert_eq!(step, Ok(EchoStep { held: 0, data: event.len() }));
        }
        assert_eq!(watch.room(), 0);
        let long = event(Shape::OpenAi, 0, &"a".repeat(9_000));
        let mut sent = 0;
        for chunk in long.as_bytes().chunks(700) {
            let step = watch.push(&echo, chunk, false).unwrap();
            sent += step.held + step.data;
            watch.let_go(step.held);
        }
        assert_eq!(sent, long.len());
        let next = event(Shape::OpenAi, 0, SECRET);
        assert_eq!(watch.push(&echo, next.as_bytes(), false), Err(EchoFound));
    }
}
