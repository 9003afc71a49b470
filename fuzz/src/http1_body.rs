//! Bodies: no cut changes the data or where the body ends, and what was decoded and is written
//! in chunks again decodes to the same.
//!
//! First byte: `c` chunks, `l` a length (the next byte) , `u` until the close, `b` chunks under
//! narrow bounds.

use super::cuts;
use weirgate::base::Limits;
use weirgate::wire::http1::{
    BodyDecoder, BodyError, BodyStep, CHUNK_END, Framing, LAST_CHUNK, chunk_head,
};

/// Data, bytes used, and whether the end was seen.
type Outcome = Result<(Vec<u8>, usize, bool), BodyError>;

/// See the module.
pub fn run(data: &[u8]) {
    let Some((mode, mut text)) = cuts::mode(data) else { return };
    let mut limits = Limits::default();
    let mut body_max = u64::MAX;
    let framing = match mode {
        b'l' => {
            let Some((length, rest)) = cuts::mode(text) else { return };
            text = rest;
            Framing::Length(u64::from(length))
        }
        b'u' => Framing::UntilClose,
        b'b' => {
            body_max = 8;
            limits.chunk_line_max = 12;
            limits.chunk_extensions_max = 16;
            limits.trailer_fields_max = 2;
            limits.trailers_max = 24;
            Framing::Chunked
        }
        _ => Framing::Chunked,
    };
    let new = || BodyDecoder::bounded(framing, &limits, body_max);
    let whole = read(new(), text, &[text.len()]);
    for ends in cuts::ways(text) {
        assert_eq!(read(new(), text, &ends), whole, "cut at {ends:?}");
    }
    let Ok((decoded, used, ended)) = whole else { return };
    assert!(decoded.len() as u64 <= body_max && decoded.len() <= used && used <= text.len());
    match framing {
        Framing::Length(length) => {
            assert_eq!(ended, decoded.len() as u64 == length);
            assert_eq!(decoded, text.get(..used).unwrap_or_default());
        }
        Framing::UntilClose => assert!(!ended && decoded == text),
        _ => {}
    }
    if ended {
        let mut chunks = Vec::new();
        if !decoded.is_empty() {
            chunk_head(decoded.len(), &mut chunks);
            chunks.extend_from_slice(&decoded);
            chunks.extend_from_slice(CHUNK_END);
        }
        chunks.extend_from_slice(LAST_CHUNK);
        let fresh = BodyDecoder::new(Framing::Chunked, &Limits::default());
        let len = chunks.len();
        assert_eq!(read(fresh, &chunks, &[len]), Ok((decoded, len, true)));
    }
}

fn read(mut decoder: BodyDecoder, text: &[u8], ends: &[usize]) -> Outcome {
    let (mut data, mut used) = (Vec::new(), 0);
    for end in ends {
        loop {
            let input = text.get(used..*end).unwrap_or_default();
            match decoder.next(input)? {
                BodyStep::Data { range, consumed } => {
                    assert!(!range.is_empty() && range.end <= consumed && consumed <= input.len());
                    data.extend_from_slice(input.get(range).unwrap_or_default());
                    used += consumed;
                }
                BodyStep::NeedMore { consumed } => {
                    assert_eq!(consumed, input.len());
                    used += consumed;
                    break;
                }
                BodyStep::End { consumed } => {
                    assert!(decoder.is_done() && consumed <= input.len());
                    assert_eq!(decoder.on_eof(), Ok(()));
                    return Ok((data, used + consumed, true));
                }
            }
        }
    }
    assert!(!decoder.is_done());
    Ok((data, used, false))
}
