//! Bodies in every split, and chunk framing that is refused.

use crate::base::Limits;
use crate::wire::http1::{
    BodyDecoder, BodyError, BodyStep, CHUNK_END, Framing, LAST_CHUNK, chunk_head,
};

/// Data, bytes used, and whether the end was seen.
type Outcome = Result<(Vec<u8>, usize, bool), BodyError>;

fn read(mut decoder: BodyDecoder, text: &[u8], cuts: &[usize]) -> Outcome {
    let (mut data, mut used) = (Vec::new(), 0);
    for end in cuts.iter().copied().chain([text.len()]) {
        loop {
            let input = text.get(used..end).expect("cuts ascend");
            match decoder.next(input)? {
                BodyStep::Data { range, consumed } => {
                    assert!(!range.is_empty() && range.end <= consumed);
                    data.extend_from_slice(input.get(range).expect("within the input"));
                    used += consumed;
                }
                BodyStep::NeedMore { consumed } => {
                    assert_eq!(consumed, input.len());
                    used += consumed;
                    break;
                }
                BodyStep::End { consumed } => {
                    assert!(decoder.is_done());
                    return Ok((data, used + consumed, true));
                }
            }
        }
    }
    assert!(!decoder.is_done());
    Ok((data, used, false))
}

fn every_split(framing: Framing, text: &[u8], limits: &Limits) -> Outcome {
    let new = || BodyDecoder::new(framing, limits);
    let whole = read(new(), text, &[]);
    for cut in 0..=text.len() {
        assert_eq!(read(new(), text, &[cut]), whole, "cut at {cut}");
    }
    let each: Vec<_> = (0..=text.len()).collect();
    assert_eq!(read(new(), text, &each), whole, "byte by byte");
    whole
}

fn chunked(text: &str) -> Outcome {
    every_split(Framing::Chunked, text.as_bytes(), &Limits::default())
}

#[test]
fn chunks_are_joined_and_what_follows_is_left() {
    for (text, data, rest) in [
        ("0\r\n\r\n", "", ""),
        ("5\r\nhello\r\n0\r\n\r\nGET", "hello", "GET"),
        ("5\r\nhello\r\n6\r\n world\r\n000\r\n\r\n", "hello world", ""),
        ("a\r\n0123456789\r\n0\r\n\r\n", "0123456789", ""),
        ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789", ""),
        ("000000000000000a\r\n0123456789\r\n0\r\n\r\n", "0123456789", ""),
        ("1;a\r\nx\r\n0;b=c;d=\"e;\\\" \tf\"\r\n\r\n", "x", ""),
        ("1;a=\"\"\r\nx\r\n0\r\n\r\n", "x", ""),
        ("1\r\nx\r\n0\r\nA: b\r\nContent-Length:\t5\r\nc:\r\n\r\nrest", "x", "rest"),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n", ""),
    ] {
        let used = text.len() - rest.len();
        assert_eq!(chunked(text), Ok((data.as_bytes().to_vec(), used, true)), "{text:?}");
        // Cut anywhere, it is not whole.
        for len in 0..used {
            let mut decoder = BodyDecoder::new(Framing::Chunked, &Limits::default());
            let mut input = text.as_bytes().get(..len).expect("shorter");
            while let Ok(BodyStep::Data { consumed, .. }) = decoder.next(input) {
                input = input.get(consumed..).expect("within");
            }
            assert_eq!(decoder.on_eof(), Err(BodyError::Incomplete), "{text:?} at {len}");
        }
    }
}

#[test]
fn malformed_chunks_are_refused() {
    use BodyError::{ChunkData, ChunkExtension, ChunkLineEnd, ChunkSize, TooLarge, Trailer};
    for (text, error) in [
        ("\r\n", ChunkSize),
        (";a\r\n", ChunkSize),
        ("g\r\n", ChunkSize),
        ("-1\r\n", ChunkSize),
        ("+1\r\n", ChunkSize),
        ("0x1\r\nx\r\n", ChunkSize),
        (" 1\r\nx\r\n", ChunkSize),
        ("1 \r\nx\r\n", ChunkSize),
        ("1\t;a\r\nx\r\n", ChunkSize),
        ("1_0\r\n", ChunkSize),
        ("1\nx\r\n", ChunkSize),
        ("00000000000000001\r\nx\r\n", ChunkSize),
        ("10000000000000000\r\n", ChunkSize),
        ("ffffffffffffffff\r\n", TooLarge),
        ("1\rx\r\n", ChunkLineEnd),
        ("1\r\rx\r\n", ChunkLineEnd),
        ("1;\r\nx\r\n", ChunkExtension),
        ("1;=a\r\nx\r\n", ChunkExtension),
        ("1;a=\r\nx\r\n", ChunkExtension),
        ("1;a b\r\nx\r\n", ChunkExtension),
        ("1; a\r\nx\r\n", ChunkExtension),
        ("1;a=\"b\r\nx\r\n", ChunkExtension),
        ("1;a=\"b\"c\r\nx\r\n", ChunkExtension),
        ("1;a=b\"c\"\r\nx\r\n", ChunkExtension),
        ("1;a=\"\u{1}\"\r\nx\r\n", ChunkExtension),
        ("1;a\nx\r\n", ChunkLineEnd),
        ("1;a\r\r\nx\r\n", ChunkLineEnd),
        ("1\r\nxy\r\n0\r\n\r\n", ChunkData),
        ("1\r\nx0\r\n\r\n", ChunkData),
        ("1\r\nx\n0\r\n\r\n", ChunkData),
        ("1\r\nx\r0\r\n\r\n", ChunkData),
        ("0\r\n\n", ChunkLineEnd),
        ("0\r\n\rx", ChunkLineEnd),
        ("0\r\na: b\n\r\n", ChunkLineEnd),
        ("0\r\na: b\rc\r\n\r\n", ChunkLineEnd),
        ("0\r\n a: b\r\n\r\n", Trailer),
        ("0\r\na: b\r\n c\r\n\r\n", Trailer),
        ("0\r\na : b\r\n\r\n", Trailer),
        ("0\r\n: b\r\n\r\n", Trailer),
        ("0\r\nab\r\n\r\n", Trailer),
        ("0\r\na: \u{0}\r\n\r\n", Trailer),
        ("0\r\na: \u{7f}\r\n\r\n", Trailer),
        ("0\r\nGET / HTTP/1.1\r\n\r\n", Trailer),
    ] {
        assert_eq!(chunked(text), Err(error), "{text:?}");
    }
}

#[test]
fn chunk_framing_is_bounded() {
    let limits = Limits {
        chunk_line_max: 8,
        chunk_extensions_max: 12,
        trailer_fields_max: 2,
        trailers_max: 14,
        body_max: 10,
        ..Limits::default()
    };
    let outcome = |text: &str| {
        every_split(Framing::Chunked, text.as_bytes(), &limits).map(|(data, _, _)| data.len())
    };
    use BodyError::{ChunkLineTooLong, TooLarge, TrailersTooLong};
    assert_eq!(outcome("1;abcdef\r\nx\r\n0\r\n\r\n"), Ok(1));
    assert_eq!(outcome("1;abcdefg\r\nx\r\n0\r\n\r\n"), Err(ChunkLineTooLong));
    assert_eq!(outcome("1;abcde\r\nx\r\n1;abcde\r\ny\r\n0\r\n\r\n"), Ok(2));
    assert_eq!(outcome("1;abcde\r\nx\r\n1;abcde\r\ny\r\n0;a\r\n\r\n"), Err(ChunkLineTooLong));
    assert_eq!(outcome("a\r\n0123456789\r\n0\r\n\r\n"), Ok(10));
    assert_eq!(outcome("b\r\n0123456789"), Err(TooLarge));
    assert_eq!(outcome("9\r\n012345678\r\n2\r\n"), Err(TooLarge));
    assert_eq!(outcome("0\r\na:b\r\nc:d\r\n\r\n"), Ok(0));
    assert_eq!(outcome("0\r\na:b\r\nc:d\r\ne:f\r\n\r\n"), Err(TrailersTooLong));
    assert_eq!(outcome("0\r\na:bcdefghijklmnop\r\n\r\n"), Err(TrailersTooLong));
    let endless = BodyDecoder::for_response(Framing::Chunked, &limits);
    assert_eq!(read(endless, b"b\r\n0123456789a\r\n0\r\n\r\n", &[]).map(|read| read.2), Ok(true));
}

#[test]
fn the_other_framings_end_where_they_must() {
    let limits = Limits { body_max: 100, ..Limits::default() };
    let outcome = |framing, text: &[u8]| every_split(framing, text, &limits);
    assert_eq!(outcome(Framing::None, b"next"), Ok((vec![], 0, true)));
    assert_eq!(outcome(Framing::Length(0), b"next"), Ok((vec![], 0, true)));
    assert_eq!(outcome(Framing::Length(3), b"abcnext"), Ok((b"abc".to_vec(), 3, true)));
    assert_eq!(outcome(Framing::Length(3), b"ab"), Ok((b"ab".to_vec(), 2, false)));
    assert_eq!(outcome(Framing::UntilClose, b"abc"), Ok((b"abc".to_vec(), 3, false)));
    assert_eq!(outcome(Framing::Length(101), b""), Err(BodyError::TooLarge));
    assert_eq!(outcome(Framing::UntilClose, &[b'a'; 101]), Err(BodyError::TooLarge));

    let at_end = |framing, text: &[u8]| {
        let mut decoder = BodyDecoder::new(framing, &limits);
        decoder.next(text).and_then(|_| decoder.on_eof())
    };
    assert_eq!(at_end(Framing::None, b""), Ok(()));
    assert_eq!(at_end(Framing::Length(3), b"abc"), Ok(()));
    assert_eq!(at_end(Framing::Length(3), b"ab"), Err(BodyError::Incomplete));
    assert_eq!(at_end(Framing::UntilClose, b"ab"), Ok(()));
    assert_eq!(at_end(Framing::Chunked, b""), Err(BodyError::Incomplete));
}

#[test]
fn an_error_stays() {
    let mut decoder = BodyDecoder::new(Framing::Chunked, &Limits::default());
    assert_eq!(decoder.next(b"x"), Err(BodyError::ChunkSize));
    assert_eq!(decoder.next(b"0\r\n\r\n"), Err(BodyError::ChunkSize));
    assert_eq!(decoder.on_eof(), Err(BodyError::ChunkSize));
}

#[test]
fn what_is_written_in_chunks_is_read_back() {
    for len in [1usize, 9, 10, 15, 16, 17, 255, 256, 4_096, 65_535, 65_536] {
        let data = vec![b'x'; len];
        let mut text = Vec::new();
        chunk_head(len, &mut text);
        assert_eq!(text, format!("{len:x}\r\n").as_bytes());
        text.extend_from_slice(&data);
        text.extend_from_slice(CHUNK_END);
        text.extend_from_slice(LAST_CHUNK);
        let decoder = BodyDecoder::new(Framing::Chunked, &Limits::default());
        assert_eq!(read(decoder, &text, &[]), Ok((data, text.len(), true)));
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_split_the_same(text in "([0-9a-f]{0,2}|;[a=\"\\\\]{0,4}|\r\n|\r|\n|[xy:]{0,5}|0\r\n){0,12}") {
        let _ = chunked(&text);
    }
}
