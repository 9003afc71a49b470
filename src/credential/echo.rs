//! Finds an injected secret in what an upstream sends back, over any chunk borders.
//!
//! A body is looked at by [`Echo::push`], as it is written. A text that comes in many events of a
//! stream is looked at by [`Echo::follow`], part by part.
//!
//! Searched are the secret as it is, in Base64 at its three alignments (so also inside a longer
//! encoded text), percent- and JSON-escaped, and in hex of either case. Estimate: one Teddy pass
//! over about ten literals, 0.1 to 0.2 us for a KiB, and a look at each pair of bytes of the last
//! hundred, 60 ns (an event of 250 bytes: 95 ns measured); nothing is held unless the end of the
//! data is the beginning of a literal.

use aho_corasick::packed;
use base64::Engine as _;
use std::fmt;
use std::fmt::Write as _;
use zeroize::Zeroize;

/// The secret came back. The exchange ends; nothing of the match may reach the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoFound;

/// The compiled literals of one credential.
pub struct Echo {
    literals: Vec<Vec<u8>>,
    searcher: Option<packed::Searcher>,
    longest: usize,
    shortest: usize,
    /// For each byte, a bit for each literal that has it in the first place, and in the second.
    firsts: [u32; 256],
    seconds: [u32; 256],
    /// For each byte, bit `n` where some literal has it at place `n`; places below [`PLACES`].
    places: Vec<Places>,
}

/// Bits for the first [`PLACES`] places of a literal.
type Places = [u64; PLACES / 64];
const PLACES: usize = 256;

/// Where the search stands in one body: bytes that may be the beginning of a literal.
#[derive(Debug, Default)]
pub struct EchoState {
    held: Vec<u8>,
    joint: Vec<u8>,
}

/// What may go on after a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoStep {
    /// So many bytes that an earlier push held are clear; [`EchoState::take`] gives them.
    pub held: usize,
    /// So many bytes from the front of the data are clear.
    pub data: usize,
}

impl fmt::Debug for Echo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Echo(..)")
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.literals.iter_mut().for_each(Zeroize::zeroize);
        // It says which byte stands where, or nearly so.
        self.places.zeroize();
    }
}

impl Echo {
    /// Compiles the forms of every one of `secrets`; each has at least 8 bytes by config.
    #[must_use]
    pub fn new(secrets: &[&[u8]]) -> Self {
        let mut literals: Vec<Vec<u8>> = Vec::new();
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            forms(secret, &mut literals);
        }
        literals.sort();
        literals.dedup();
        let mut builder =
            packed::Config::new().match_kind(packed::MatchKind::LeftmostFirst).builder();
        literals.iter().for_each(|literal| {
            builder.add(literal);
        });
        let (mut firsts, mut seconds) = ([0u32; 256], [0u32; 256]);
        for (place, literal) in literals.iter().enumerate() {
            // Literals beyond the bits share the last one: it only says that a look is needed.
            let bit = 1u32 << place.min(31);
            for (table, byte) in [&mut firsts, &mut seconds].into_iter().zip(literal) {
                if let Some(bits) = table.get_mut(usize::from(*byte)) {
                    *bits |= bit;
                }
            }
        }
        let mut places = vec![Places::default(); 256];
        for literal in &literals {
            for (place, byte) in literal.iter().take(PLACES).enumerate() {
                let word = places.get_mut(usize::from(*byte)).and_then(|p| p.get_mut(place / 64));
                if let Some(word) = word {
                    *word |= 1 << (place % 64);
                }
            }
        }
        let longest = literals.iter().map(Vec::len).max().unwrap_or(0);
        let shortest = literals.iter().map(Vec::len).min().unwrap_or(0);
        // Without vector support there is no packed searcher; `find` then goes literal by literal.
        Self { searcher: builder.build(), longest, shortest, firsts, seconds, places, literals }
    }

    /// Whether a whole literal stands in `text`; for heads and other complete texts.
    #[must_use]
    pub fn in_text(&self, text: &[u8]) -> bool {
        match &self.searcher {
            Some(searcher) => searcher.find(text).is_some(),
            None => {
                self.literals.iter().any(|literal| memchr::memmem::find(text, literal).is_some())
            }
        }
    }

    /// Looks at the next data of a body; `end` when nothing follows.
    ///
    /// # Errors
    /// [`EchoFound`] when the secret, in any form, is in what was seen so far.
    pub fn push(
        &self,
        state: &mut EchoState,
        data: &[u8],
        end: bool,
    ) -> Result<EchoStep, EchoFound> {
        if self.in_text(data) {
            return Err(EchoFound);
        }
        if state.held.is_empty() {
            let alive = if end { 0 } else { self.alive(data) };
            let clear = data.len() - alive;
            state.held.extend_from_slice(data.get(clear..).unwrap_or_default());
            return Ok(EchoStep { held: 0, data: clear });
        }
        let joint = &mut state.joint;
        joint.clear();
        joint.extend_from_slice(&state.held);
        joint.extend_from_slice(data.get(..self.longest.min(data.len())).unwrap_or_default());
        if self.in_text(joint) {
            return Err(EchoFound);
        }
        let before = state.held.len();
        let alive = match (end, data.len() < self.longest) {
            (true, _) => 0,
            (false, true) => self.alive(joint),
            (false, false) => self.alive(data),
        };
        if alive > data.len() {
            // The beginning of the match is still among the held bytes; all of `data` joins it.
            let clear = before + data.len() - alive;
            state.held.extend_from_slice(data);
            return Ok(EchoStep { held: clear, data: 0 });
        }
        let clear = data.len() - alive;
        state.held.extend_from_slice(data.get(clear..).unwrap_or_default());
        Ok(EchoStep { held: before, data: clear })
    }

    /// Looks at the next part of a text that others carry away. Returns how many bytes at the end
    /// of the text so far are the beginning of a literal; `state` keeps those alone.
    ///
    /// # Errors
    /// [`EchoFound`] when the secret, in any form, is in the text so far.
    pub fn follow(&self, state: &mut EchoState, part: &[u8]) -> Result<usize, EchoFound> {
        let EchoState { held, joint } = state;
        if held.is_empty() {
            if part.len() >= self.shortest && self.in_text(part) {
                return Err(EchoFound);
            }
            let alive = self.alive(part);
            held.extend_from_slice(part.get(part.len() - alive..).unwrap_or_default());
            return Ok(alive);
        }
        joint.clear();
        joint.extend_from_slice(held);
        joint.extend_from_slice(part);
        if joint.len() >= self.shortest && self.in_text(joint) {
            return Err(EchoFound);
        }
        let alive = self.alive(joint);
        held.clear();
        held.extend_from_slice(joint.get(joint.len() - alive..).unwrap_or_default());
        Ok(alive)
    }

    /// The longest end of `text` that is the beginning of a literal, in bytes.
    fn alive(&self, text: &[u8]) -> usize {
        let start = text.len().saturating_sub(self.longest.saturating_sub(1));
        let window = text.get(start..).unwrap_or_default();
        let bits = |table: &[u32; 256], byte: &u8| {
            table.get(usize::from(*byte)).copied().unwrap_or_default()
        };
        let begins = |at: usize| {
            let tail = window.get(at..).unwrap_or_default();
            self.literals.iter().any(|literal| literal.starts_with(tail)).then_some(tail.len())
        };
        // What would be the beginning of a very long literal, two bytes at a time: in most texts
        // no pair begins one.
        let far = window.len().saturating_sub(PLACES);
        for (at, pair) in window.windows(2).take(far).enumerate() {
            if let [first, second] = pair
                && bits(&self.firsts, first) & bits(&self.seconds, second) != 0
                && let Some(len) = begins(at)
            {
                return len;
            }
        }
        // Bit `n`: the last `n + 1` bytes may be the beginning of a literal, as far as the last
        // few of them say: each must have stood at its place of some literal.
        let mut fits: Places = std::array::from_fn(|word| low_bits(window.len(), word));
        for (back, byte) in window.iter().rev().take(LOOK).enumerate() {
            let Some(places) = self.places.get(usize::from(*byte)) else { continue };
            let mut carry = low_bits(back, 0);
            for (fit, place) in fits.iter_mut().zip(places) {
                *fit &= place << back | carry;
                carry = place.checked_shr(64 - back as u32).unwrap_or(0);
            }
            if fits == Places::default() {
                return 0;
            }
        }
        for (word, fit) in fits.iter().enumerate().rev() {
            let mut left = *fit;
            while left != 0 {
                let bit = 63 - left.leading_zeros() as usize;
                left ^= 1 << bit;
                let len = word * 64 + bit + 1;
                if let Some(len) = window.len().checked_sub(len).and_then(begins) {
                    return len;
                }
            }
        }
        0
    }
}

/// How many bytes from the end tell most texts from the beginning of a literal.
const LOOK: usize = 8;

/// The lowest `count` bits of a row of words, of the word at this place.
fn low_bits(count: usize, word: usize) -> u64 {
    match count.saturating_sub(word * 64) {
        64.. => u64::MAX,
        count => (1 << count) - 1,
    }
}

impl EchoState {
    /// Hands the first `count` held bytes to `to` and forgets them.
    pub fn take(&mut self, count: usize, to: &mut Vec<u8>) {
        let count = count.min(self.held.len());
        to.extend(self.held.drain(..count));
    }

    /// Forgets everything, for the next body.
    pub fn reset(&mut self) {
        self.held.clear();
        self.joint.clear();
    }
}

/// Appends every form in which `secret` is looked for.
fn forms(secret: &[u8], to: &mut Vec<Vec<u8>>) {
    to.push(secret.to_vec());
    let mut percent = String::new();
    let mut hex = String::new();
    for byte in secret {
        let _ = write!(hex, "{byte:02x}");
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            percent.push(char::from(*byte));
        } else {
            let _ = write!(percent, "%{byte:02X}");
        }
    }
    to.push(hex.to_uppercase().into_bytes());
    to.push(hex.into_bytes());
    to.push(percent.to_lowercase().into_bytes());
    to.push(percent.into_bytes());
    if let Ok(text) = std::str::from_utf8(secret)
        && let Ok(json) = serde_json::to_string(text)
    {
        let inner = json.trim_start_matches('"').trim_end_matches('"');
        to.push(inner.replace('/', "\\/").into_bytes());
        to.push(inner.as_bytes().to_vec());
    }
    // Encoded at offset 0, 1 or 2 of a longer text: the characters that depend on the secret
    // alone, which leaves out a partial one at either border.
    for lead in 0..3usize {
        let mut padded = vec![0u8; lead];
        padded.extend_from_slice(secret);
        for engine in [
            base64::engine::general_purpose::STANDARD_NO_PAD,
            base64::engine::general_purpose::URL_SAFE_NO_PAD,
        ] {
            let text = engine.encode(&padded).into_bytes();
            let from = (lead * 8).div_ceil(6);
            let until = padded.len() * 8 / 6;
            if let Some(inner) = text.get(from..until)
                && inner.len() >= 8
            {
                to.push(inner.to_vec());
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"sk-live/Very+Secret==42\"x";

    fn run(echo: &Echo, chunks: &[&[u8]]) -> Result<Vec<u8>, Vec<u8>> {
        let mut state = EchoState::default();
        let mut sent = Vec::new();
        for (index, chunk) in chunks.iter().enumerate() {
            match echo.push(&mut state, chunk, index + 1 == chunks.len()) {
                Err(EchoFound) => return Err(sent),
                Ok(step) => {
                    state.take(step.held, &mut sent);
                    sent.extend_from_slice(&chunk[..step.data]);
                }
            }
        }
        Ok(sent)
    }

    #[test]
    fn no_split_lets_any_form_or_any_part_of_it_through() {
        let echo = Echo::new(&[SECRET]);
        let b64 = |text: &[u8]| base64::engine::general_purpose::STANDARD.encode(text).into_bytes();
        let hex: String = SECRET.iter().map(|b| format!("{b:02x}")).collect();
        let pair = [b"user:".as_slice(), SECRET].concat();
        for form in [
            SECRET.to_vec(),
            b64(SECRET),
            b64(&pair),
            b64(&[b"a".as_slice(), SECRET, b"tail"].concat()),
            hex.to_uppercase().into_bytes(),
            hex.into_bytes(),
            b"sk-live%2FVery%2BSecret%3D%3D42%22x".to_vec(),
            br#"sk-live/Very+Secret==42\"x"#.to_vec(),
            br#"sk-live\/Very+Secret==42\"x"#.to_vec(),
        ] {
            let text = [b"sk-live before ".as_slice(), &form, b" after"].concat();
            for cut in 1..text.len() {
                let sent = run(&echo, &[&text[..cut], &text[cut..]]).unwrap_err();
                assert!(sent.len() <= 15 + 8, "{} bytes of the form went out", sent.len());
            }
            let bytes: Vec<&[u8]> = text.chunks(1).collect();
            assert!(run(&echo, &bytes).is_err());
        }
    }

    #[test]
    fn what_only_begins_like_the_secret_comes_out_whole() {
        let echo = Echo::new(&[SECRET]);
        let text = b"sk-live/Very+Secret==4 sk-live/Very+Sec sk-sk-sk-live/".as_slice();
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let parts = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(run(&echo, &parts).unwrap(), text);
            }
        }
    }
}
