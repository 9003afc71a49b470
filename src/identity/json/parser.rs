//! The grammar of RFC 8259, one function for each of its rules.

use super::{Doc, Duplicates, JsonFault, Kind, Node, hex};

/// A position in a text, and the nodes read so far.
pub(super) struct Parser<'t> {
    pub(super) doc: Doc<'t>,
    pub(super) at: usize,
    pub(super) depth_max: u32,
    pub(super) duplicates: Duplicates,
}

impl Parser<'_> {
    pub(super) fn peek(&self) -> Option<u8> {
        self.doc.text.as_bytes().get(self.at).copied()
    }

    pub(super) fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> Result<(), JsonFault> {
        if self.peek() != Some(byte) {
            return Err(JsonFault::Syntax);
        }
        self.at += 1;
        Ok(())
    }

    /// Adds a leaf, or a container whose end is set by [`Self::close`].
    fn push(&mut self, kind: Kind, start: usize, end: usize) -> Result<u32, JsonFault> {
        let narrow = |value: usize| u32::try_from(value).map_err(|_| JsonFault::Syntax);
        let index = narrow(self.doc.nodes.len())?;
        let node = Node { kind, start: narrow(start)?, end: narrow(end)?, next: index + 1 };
        self.doc.nodes.push(node);
        Ok(index)
    }

    fn close(&mut self, index: u32) -> Result<(), JsonFault> {
        let next = u32::try_from(self.doc.nodes.len()).map_err(|_| JsonFault::Syntax)?;
        let end = u32::try_from(self.at).map_err(|_| JsonFault::Syntax)?;
        let node = self.doc.nodes.get_mut(index as usize).ok_or(JsonFault::Syntax)?;
        (node.next, node.end) = (next, end);
        Ok(())
    }

    /// Recursion is bounded by `depth_max`.
    pub(super) fn value(&mut self, depth: u32) -> Result<(), JsonFault> {
        match self.peek().ok_or(JsonFault::Syntax)? {
            b'{' | b'[' if depth >= self.depth_max => Err(JsonFault::Depth),
            b'{' => self.object(depth + 1),
            b'[' => self.array(depth + 1),
            b'"' => self.string(),
            b't' => self.literal("true", Kind::True),
            b'f' => self.literal("false", Kind::False),
            b'n' => self.literal("null", Kind::Null),
            b'-' | b'0'..=b'9' => self.number(),
            _ => Err(JsonFault::Syntax),
        }
    }

    fn object(&mut self, depth: u32) -> Result<(), JsonFault> {
        let index = self.push(Kind::Object, self.at, self.at)?;
        self.at += 1;
        self.blank();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return self.close(index);
        }
        loop {
            self.blank();
            self.string()?;
            self.blank();
            self.eat(b':')?;
            self.blank();
            self.value(depth)?;
            self.blank();
            if self.peek() == Some(b',') {
                self.at += 1;
                continue;
            }
            self.eat(b'}')?;
            self.close(index)?;
            if self.duplicates == Duplicates::Refuse && self.doc.has_duplicates(index) {
                return Err(JsonFault::Duplicate);
            }
            return Ok(());
        }
    }

    fn array(&mut self, depth: u32) -> Result<(), JsonFault> {
        let index = self.push(Kind::Array, self.at, self.at)?;
        self.at += 1;
        self.blank();
        if self.peek() == Some(b']') {
            self.at += 1;
            return self.close(index);
        }
        loop {
            self.blank();
            self.value(depth)?;
            self.blank();
            if self.peek() == Some(b',') {
                self.at += 1;
                continue;
            }
            self.eat(b']')?;
            return self.close(index);
        }
    }

    fn string(&mut self) -> Result<(), JsonFault> {
        self.eat(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            let rest = self.doc.text.as_bytes().get(self.at..).unwrap_or_default();
            let special = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
            self.at += special.ok_or(JsonFault::Syntax)?;
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(JsonFault::Syntax),
            }
        }
        self.push(Kind::Text { escaped }, start, self.at)?;
        self.at += 1;
        Ok(())
    }

    /// Checks one escape, or a pair of them for a character beyond the first plane.
    fn escape(&mut self) -> Result<(), JsonFault> {
        self.at += 1;
        match self.peek().ok_or(JsonFault::Syntax)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
            b'u' => match self.unit()? {
                0xd800..=0xdbff => {
                    self.eat(b'\\')?;
                    if !matches!(self.unit()?, 0xdc00..=0xdfff) {
                        return Err(JsonFault::Syntax);
                    }
                }
                0xdc00..=0xdfff => return Err(JsonFault::Syntax),
                _ => {}
            },
            _ => return Err(JsonFault::Syntax),
        }
        Ok(())
    }

    /// Reads `uXXXX`.
    fn unit(&mut self) -> Result<u32, JsonFault> {
        self.eat(b'u')?;
        let digits = self.doc.text.as_bytes().get(self.at..self.at + 4).ok_or(JsonFault::Syntax)?;
        self.at += 4;
        hex(digits).ok_or(JsonFault::Syntax)
    }

    fn literal(&mut self, word: &str, kind: Kind) -> Result<(), JsonFault> {
        let end = self.at + word.len();
        if self.doc.text.as_bytes().get(self.at..end) != Some(word.as_bytes()) {
            return Err(JsonFault::Syntax);
        }
        self.push(kind, self.at, end)?;
        self.at = end;
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonFault> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        // A leading zero leaves a digit here, which no caller of `value` accepts.
        self.push(Kind::Number, start, self.at)?;
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonFault> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(JsonFault::Syntax) } else { Ok(()) }
    }
}
