//! Whole heads and bodies through the public doors, in every split.

mod bodies;
mod refused;
mod requests;
mod responses;

use super::{HeadError, HeadScan, RequestHead, ResponseHead, parse_request, parse_response};
use crate::base::Limits;

/// Parses what has come, growing the buffer to each of `lens`, as a connection would.
pub(super) fn request_in_steps(
    text: &[u8],
    lens: impl IntoIterator<Item = usize>,
    limits: &Limits,
) -> Result<Option<RequestHead>, HeadError> {
    let (mut head, mut scan) = (RequestHead::new(), HeadScan::new());
    for len in lens {
        let buf = text.get(..len).unwrap_or(text);
        if parse_request(&mut head, &mut scan, buf, limits)? {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

/// The outcome for the whole text, after checking that no split changes it.
pub(super) fn request(text: &[u8], limits: &Limits) -> Result<Option<RequestHead>, HeadError> {
    let whole = request_in_steps(text, [text.len()], limits);
    for cut in 0..text.len() {
        assert_eq!(request_in_steps(text, [cut, text.len()], limits), whole, "cut at {cut}");
    }
    assert_eq!(request_in_steps(text, 0..=text.len(), limits), whole, "byte by byte");
    whole
}

pub(super) fn response_in_steps(
    text: &[u8],
    lens: impl IntoIterator<Item = usize>,
    limits: &Limits,
    to_head: bool,
) -> Result<Option<ResponseHead>, HeadError> {
    let (mut head, mut scan) = (ResponseHead::new(), HeadScan::new());
    for len in lens {
        let buf = text.get(..len).unwrap_or(text);
        if parse_response(&mut head, &mut scan, buf, limits, to_head)? {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

/// As [`request`].
pub(super) fn response(
    text: &[u8],
    limits: &Limits,
    to_head: bool,
) -> Result<Option<ResponseHead>, HeadError> {
    let whole = response_in_steps(text, [text.len()], limits, to_head);
    for cut in 0..text.len() {
        let cut_once = response_in_steps(text, [cut, text.len()], limits, to_head);
        assert_eq!(cut_once, whole, "cut at {cut}");
    }
    assert_eq!(response_in_steps(text, 0..=text.len(), limits, to_head), whole, "byte by byte");
    whole
}
