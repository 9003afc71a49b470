//! Content codings: no cut changes what comes out, flate2 agrees, and bounds hold.
//!
//! First byte: `g` gzip, `d` deflate; `G` and `D` compress the rest first.

use super::cuts;
use flate2::Compression;
use flate2::read::{GzEncoder, MultiGzDecoder, ZlibDecoder, ZlibEncoder};
use std::io::Read;
use weirgate::base::Limits;
use weirgate::wire::coding::{Coding, CodingError, Decoder};

const OUTPUT_MAX: u64 = 256 << 10;
/// What may come out of no input at all, and one step of the decoder.
const FREE: usize = (64 + 16) << 10;

/// See the module.
pub fn run(data: &[u8]) {
    let Some((mode, text)) = cuts::mode(data) else { return };
    let coding = if mode.eq_ignore_ascii_case(&b'd') { Coding::Deflate } else { Coding::Gzip };
    if mode.is_ascii_uppercase() {
        let mut coded = Vec::new();
        let level = Compression::new(1);
        let read = match coding {
            Coding::Deflate => ZlibEncoder::new(text, level).read_to_end(&mut coded),
            _ => GzEncoder::new(text, level).read_to_end(&mut coded),
        };
        read.expect("memory is read");
        check(coding, &coded);
        if text.len() < FREE {
            assert_eq!(decode(coding, &coded, &[coded.len()]).as_deref(), Ok(text));
        }
    } else {
        check(coding, text);
    }
}

fn check(coding: Coding, coded: &[u8]) {
    let whole = decode(coding, coded, &[coded.len()]);
    for ends in cuts::ways(coded) {
        let parts = decode(coding, coded, &ends);
        match (&whole, &parts) {
            // The ratio is of the bytes so far: parts may fail where the whole does not.
            (Ok(_), Err(CodingError::Expansion)) | (Err(_), Err(_)) => {}
            _ => assert_eq!(parts, whole, "cut at {ends:?}"),
        }
    }
    let Ok(ours) = whole else { return };
    let mut theirs = Vec::new();
    let read = match coding {
        Coding::Deflate => ZlibDecoder::new(coded).read_to_end(&mut theirs),
        _ => MultiGzDecoder::new(coded).read_to_end(&mut theirs),
    };
    assert!(read.is_ok(), "flate2 refuses: {read:?}");
    assert!(ours == theirs, "flate2 decodes to something else");
}

fn decode(coding: Coding, coded: &[u8], ends: &[usize]) -> Result<Vec<u8>, CodingError> {
    let limits = Limits::default();
    let mut decoder = Decoder::new(coding, OUTPUT_MAX);
    let mut out = Vec::new();
    let mut fed = 0usize;
    for part in cuts::parts(coded, ends) {
        fed += part.len();
        let pushed = decoder.push(part, &mut out, &limits);
        let most = fed * limits.expansion_ratio_max as usize + FREE;
        assert!(out.len() <= most.min(OUTPUT_MAX as usize + FREE), "{} bytes came out", out.len());
        pushed?;
        assert_eq!(decoder.output(), out.len() as u64);
    }
    decoder.finish()?;
    Ok(out)
}
