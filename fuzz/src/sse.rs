//! Event streams: no cut changes the events, and an event that is written again reads the same.

use super::cuts;
use weirgate::wire::sse::{Event, SseError, SseParser, write_data};

/// Event name, data, other lines.
type Owned = (Vec<u8>, Option<Vec<u8>>, Vec<u8>);

const EVENT_MAX: u32 = 1 << 10;

/// See the module.
pub fn run(data: &[u8]) {
    let whole = events(data, &[data.len()]);
    for ends in cuts::ways(data) {
        assert_eq!(events(data, &ends), whole, "cut at {ends:?}");
    }
    let Ok(events_seen) = whole else { return };
    let mut text = Vec::new();
    for (_, data, others) in &events_seen {
        assert!(data.is_some() || !others.is_empty(), "an event holds something");
        text.extend_from_slice(others);
        if let Some(data) = data {
            write_data(data, &mut text);
        }
        text.push(b'\n');
    }
    let own = SseParser::new(u32::MAX);
    assert_eq!(read(own, &text, &[text.len()]), Ok(events_seen), "written again");
}

fn events(text: &[u8], ends: &[usize]) -> Result<Vec<Owned>, SseError> {
    read(SseParser::new(EVENT_MAX), text, ends)
}

fn read(mut parser: SseParser, text: &[u8], ends: &[usize]) -> Result<Vec<Owned>, SseError> {
    let own = |e: Event<'_>| (e.event.to_vec(), e.data.map(<[u8]>::to_vec), e.others.to_vec());
    let mut seen = Vec::new();
    for part in cuts::parts(text, ends) {
        let mut at = 0;
        while let Some(event) = parser.next(part, &mut at)? {
            seen.push(own(event));
        }
        assert_eq!(at, part.len(), "all of the input is read");
    }
    let within = parser.is_within_event();
    let last = parser.finish().map(own);
    assert!(last.is_none() || within, "an event at the end was within");
    seen.extend(last);
    Ok(seen)
}
