//! Masks cells of a database's rows, each for itself.
//!
//! A cell is whole, or its length alone tells what stands for it ([`Ahead`]) and it may come in parts.
//! Nothing is held from one to the next; a [`CellMask`] keeps its room only.
//! What cannot be masked as what it is becomes NULL, which every type takes in either format: only
//! a value whose operator is `block` is an error. Estimate: a clean text costs the search for an
//! opening, as a text of JSON does, and no copy.

use super::column::ColumnRule;
use super::detector::{Finds, What};
use super::filter::{VecSink, may_hold};
use super::json::JsonMask;
use super::operator::{Act, HASH_LEN, Operator, Replacer, stars};
use super::text::{Channel, Context};
use super::{MaskError, Plan};

/// How the bytes of a cell are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellShape {
    /// Text, in either format.
    Text,
    /// A JSON text: `json` in either format, `jsonb` in text format.
    Json,
    /// `jsonb` in binary format: a version byte of 1, then a JSON text.
    Jsonb,
    /// What may hold texts in a form of its own: arrays, composites, types that are not known.
    /// A value that is found in one cannot be replaced within it, so the cell becomes NULL.
    Holder,
    /// Anything else: numbers, times, bytes.
    Other,
}

/// What became of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Cell {
    /// It goes on as it came; nothing was written.
    Same,
    /// It is NULL from here on; nothing was written.
    Null,
    /// What was written stands for it.
    Changed,
}

/// What becomes of a cell that is not NULL, as far as its length tells before its bytes are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Ahead {
    /// It goes on as it comes.
    Same,
    /// It is NULL, whatever it holds.
    Null,
    /// So many bytes stand for it: [`CellMask::begin`] writes them while it comes.
    Becomes(usize),
    /// Only all of its bytes tell: [`CellMask::clear`].
    Whole,
}

/// Masks one cell after the other.
#[derive(Debug)]
pub struct CellMask {
    channel: Channel,
    json: JsonMask,
    replacer: Replacer,
    finds: Finds,
}

impl Default for CellMask {
    fn default() -> Self {
        Self::new()
    }
}

impl CellMask {
    /// One without room yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            channel: Channel::default(),
            json: JsonMask::new(false),
            replacer: Replacer::default(),
            finds: Finds::default(),
        }
    }

    /// What was masked since [`Self::forget`].
    #[must_use]
    pub fn finds(&self) -> Finds {
        self.finds
    }

    /// Counts from nothing again.
    pub fn forget(&mut self) {
        self.finds = Finds::default();
    }

    /// Masks a cell that is not NULL: by the rule of its column where it has one, else by the
    /// plan's detectors and field rules. Appends to `out` what stands for it, if that is a change.
    ///
    /// # Errors
    /// [`MaskError::Blocked`]; `out` is as it was then.
    pub fn clear(
        &mut self,
        plan: &Plan,
        rule: Option<&ColumnRule>,
        shape: CellShape,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Cell, MaskError> {
        if plan.blocks_all() {
            return Err(MaskError::Blocked(What::Column));
        }
        if let Some(rule) = rule {
            return self.by_rule(&rule.act, shape, bytes, out);
        }
        let start = out.len();
        let done = match shape {
            CellShape::Other => return Ok(Cell::Same),
            CellShape::Text if may_be_json(plan, bytes) => match self.json(plan, bytes, out) {
                Err(MaskError::Broken(_)) => {
                    out.truncate(start);
                    self.text(plan, bytes, out)
                }
                done => done,
            },
            CellShape::Text | CellShape::Holder => self.text(plan, bytes, out),
            CellShape::Json => self.json(plan, bytes, out),
            CellShape::Jsonb => match bytes.split_first() {
                Some((1, text)) => {
                    out.push(1);
                    self.json(plan, text, out)
                }
                _ => Err(MaskError::Unsupported),
            },
        };
        let same = out.get(start..) == Some(bytes);
        let cell = match (done, shape) {
            (Err(error @ MaskError::Blocked(_)), _) => Err(error),
            (Err(_), _) => Ok(Cell::Null),
            (Ok(false), _) => Ok(Cell::Same),
            (Ok(true), _) if same => Ok(Cell::Same),
            (Ok(true), CellShape::Holder) => Ok(Cell::Null),
            (Ok(true), _) => return Ok(Cell::Changed),
        };
        out.truncate(start);
        cell
    }

    /// What becomes of a cell of `len` bytes that is not NULL, before they are there: what
    /// [`Self::clear`] makes of it where it says anything but [`Ahead::Whole`].
    ///
    /// # Errors
    /// [`MaskError::Blocked`], as [`Self::clear`].
    pub fn ahead(
        plan: &Plan,
        rule: Option<&ColumnRule>,
        shape: CellShape,
        len: usize,
    ) -> Result<Ahead, MaskError> {
        if plan.blocks_all() {
            return Err(MaskError::Blocked(What::Column));
        }
        let Some(ColumnRule { act, .. }) = rule else {
            return Ok(if shape == CellShape::Other { Ahead::Same } else { Ahead::Whole });
        };
        Ok(match &act.operator {
            Operator::Block => return Err(MaskError::Blocked(What::Column)),
            _ if shape != CellShape::Text => Ahead::Null,
            Operator::Null | Operator::Drop => Ahead::Null,
            Operator::Redact | Operator::Replace(_) => Ahead::Becomes(act.text.len()),
            Operator::SameLength => Ahead::Becomes(len),
            Operator::Hash if act.key.is_some() => Ahead::Becomes(HASH_LEN),
            Operator::Hash | Operator::KeepFirst(_) | Operator::KeepLast(_) => Ahead::Whole,
        })
    }

    /// Counts a cell of which [`Self::ahead`] said that its rule makes it NULL.
    pub fn count(&mut self) {
        self.finds.add(What::Column);
    }

    /// Begins a cell of which [`Self::ahead`] said how many bytes stand for it. `put` takes the
    /// first ones, and [`Self::feed`] and [`Self::end`] those that follow; no bytes are kept.
    ///
    /// # Errors
    /// [`MaskError::Blocked`], as [`Self::ahead`].
    pub fn begin(&mut self, rule: &ColumnRule, put: impl FnMut(&[u8])) -> Result<(), MaskError> {
        self.replacer.begin(&rule.act, What::Column, put)?;
        self.count();
        Ok(())
    }

    /// The next bytes of the cell.
    pub fn feed(&mut self, bytes: &[u8], put: impl FnMut(&[u8])) {
        self.replacer.feed(bytes, bytes.len(), put);
    }

    /// The cell is whole.
    pub fn end(&mut self, put: impl FnMut(&[u8])) {
        self.replacer.end(put);
    }

    fn by_rule(
        &mut self,
        act: &Act,
        shape: CellShape,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Cell, MaskError> {
        let operator = &act.operator;
        if *operator == Operator::Block {
            return Err(MaskError::Blocked(What::Column));
        }
        self.finds.add(What::Column);
        if shape != CellShape::Text || matches!(operator, Operator::Null | Operator::Drop) {
            return Ok(Cell::Null);
        }
        let start = out.len();
        self.replacer.begin(act, What::Column, |part| out.extend_from_slice(part))?;
        self.replacer.feed(bytes, bytes.len(), |part| out.extend_from_slice(part));
        self.replacer.end(|part| out.extend_from_slice(part));
        // Separators stay; what is made of nothing else would show as it is.
        let keeps = matches!(operator, Operator::KeepFirst(_) | Operator::KeepLast(_));
        if keeps && out.get(start..) == Some(bytes) {
            out.truncate(start);
            stars(bytes.len(), |part| out.extend_from_slice(part));
        }
        Ok(Cell::Changed)
    }

    /// Whether it wrote something, the same or not.
    fn text(&mut self, plan: &Plan, bytes: &[u8], out: &mut Vec<u8>) -> Result<bool, MaskError> {
        if !may_hold(plan, bytes) {
            return Ok(false);
        }
        let mut context = Context { plan, finds: &mut self.finds };
        let mut sink = VecSink { input: bytes, out };
        self.channel.begin();
        self.channel.plain(&mut context, bytes, 0..bytes.len(), true, &mut sink)?;
        self.channel.finish(&mut context, &mut sink)?;
        Ok(true)
    }

    fn json(&mut self, plan: &Plan, bytes: &[u8], out: &mut Vec<u8>) -> Result<bool, MaskError> {
        if plan.is_pass() {
            return Ok(false);
        }
        let mut context = Context { plan, finds: &mut self.finds };
        let mut sink = VecSink { input: bytes, out };
        self.json.reset(false);
        self.json.push(&mut context, bytes, &mut sink)?;
        self.json.finish(&mut context, &mut sink)?;
        Ok(true)
    }
}

/// Whether a text is to be tried as JSON: a cast to text is no way around a field rule.
fn may_be_json(plan: &Plan, bytes: &[u8]) -> bool {
    plan.fields().has_rules() && matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'['))
}

impl Plan {
    /// Masks the text of a statement, or a value that is bound to it, for the record; appends it to
    /// `out` and says whether it shows. What a mask blocks, or cannot read, is `[REDACTED]` whole.
    /// Values within quotes are found in the form that the statement gives them.
    pub fn clear_statement(&self, text: &[u8], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let mut mask = CellMask::new();
        match mask.clear(self, None, CellShape::Text, text, out) {
            Ok(Cell::Same) => out.extend_from_slice(text),
            Ok(Cell::Changed) => {}
            Ok(Cell::Null) | Err(_) => {
                out.truncate(start);
                out.extend_from_slice(b"[REDACTED]");
            }
        }
        out.get(start..) != Some(text)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::base::Secret;
    use crate::mask::{ColumnName, Detector, JsonPath, MaskSpec, Operators};

    fn plan(detect: &[&str], fields: &[&str], operator: &str) -> Plan {
        let spec = MaskSpec {
            name: "test".to_owned(),
            detect: detect.iter().map(|name| Detector::parse(name).unwrap()).collect(),
            fields: fields.iter().map(|path| JsonPath::parse(path).unwrap()).collect(),
            columns: vec![ColumnName::parse("public.customers.email").unwrap()],
            operators: Operators {
                default: Some(Operator::parse(operator).unwrap()),
                ..Operators::default()
            },
            key: Secret::new(b"a key of the tests".to_vec()),
            ..MaskSpec::default()
        };
        Plan::compile(&[spec]).unwrap()
    }

    /// What stands for a cell: `None` is NULL.
    fn cleared(plan: &Plan, ruled: bool, shape: CellShape, cell: &[u8]) -> Option<Vec<u8>> {
        let mut out = b"before".to_vec();
        let rule = plan.columns().first().filter(|_| ruled);
        let mut mask = CellMask::new();
        let done = mask.clear(plan, rule, shape, cell, &mut out).unwrap();
        let new = out.strip_prefix(b"before").unwrap().to_vec();
        match done {
            Cell::Changed => Some(new),
            Cell::Same | Cell::Null => {
                assert_eq!(new, b"");
                (done == Cell::Same).then(|| cell.to_vec())
            }
        }
    }

    #[test]
    fn a_column_is_masked_whatever_it_holds() {
        for (operator, text) in [
            ("redact", Some("[REDACTED]")),
            ("replace(\"(x)\")", Some("(x)")),
            ("keep_last(3)", Some("**-***456")),
            ("same_length", Some("*********")),
            ("null", None),
            ("drop", None),
        ] {
            let plan = plan(&[], &[], operator);
            let text = text.map(|text| text.as_bytes().to_vec());
            assert_eq!(cleared(&plan, true, CellShape::Text, b"ab-123456"), text, "{operator}");
            for shape in [CellShape::Json, CellShape::Jsonb, CellShape::Holder, CellShape::Other] {
                assert_eq!(cleared(&plan, true, shape, b"\x01{}"), None, "{operator}");
            }
        }
        let plan = plan(&[], &[], "hash");
        let hash = cleared(&plan, true, CellShape::Text, b"ab-123456").unwrap();
        assert_eq!(hash.len(), 16);
        assert_eq!(cleared(&plan, true, CellShape::Text, b"ab-123456"), Some(hash));
    }

    /// What is told by the length alone is what the whole cell becomes, however it is cut.
    #[test]
    fn a_cell_that_comes_in_parts_becomes_what_the_whole_one_does() {
        let operators =
            ["redact", "replace(\"(x)\")", "same_length", "hash", "null", "drop", "keep_last(3)"];
        let cells = ["", "ab-123456", "\u{e9}\u{e9}\0\u{1f600}"];
        for (operator, cell) in operators.iter().flat_map(|op| cells.map(|cell| (op, cell))) {
            let plan = plan(&[], &[], operator);
            let rule = plan.columns().first().unwrap();
            for shape in [CellShape::Text, CellShape::Json, CellShape::Other] {
                let whole = cleared(&plan, true, shape, cell.as_bytes());
                let ahead = CellMask::ahead(&plan, Some(rule), shape, cell.len()).unwrap();
                let Ahead::Becomes(len) = ahead else {
                    let kept = operator.starts_with("keep") && shape == CellShape::Text;
                    assert_eq!(ahead, if kept { Ahead::Whole } else { Ahead::Null });
                    assert!(kept || whole.is_none(), "{operator}");
                    continue;
                };
                for cut in 0..=cell.len() {
                    let (mut mask, mut out) = (CellMask::new(), Vec::new());
                    let (first, second) = cell.as_bytes().split_at(cut);
                    mask.begin(rule, |part| out.extend_from_slice(part)).unwrap();
                    mask.feed(first, |part| out.extend_from_slice(part));
                    mask.feed(second, |part| out.extend_from_slice(part));
                    mask.end(|part| out.extend_from_slice(part));
                    assert_eq!((out.len(), mask.finds().columns()), (len, 1), "{operator}");
                    assert_eq!(Some(out), whole, "{operator} {cut}");
                }
            }
        }
        let block = plan(&[], &[], "block");
        let rule = block.columns().first();
        let ahead = CellMask::ahead(&block, rule, CellShape::Other, 1);
        assert_eq!(ahead, Err(MaskError::Blocked(What::Column)));
        let detects = plan(&["email"], &[], "redact");
        for (shape, ahead) in [
            (CellShape::Other, Ahead::Same),
            (CellShape::Text, Ahead::Whole),
            (CellShape::Holder, Ahead::Whole),
        ] {
            assert_eq!(CellMask::ahead(&detects, None, shape, 0), Ok(ahead));
        }
    }

    #[test]
    fn a_column_of_separators_does_not_show() {
        for operator in ["keep_last(4)", "keep_first(4)"] {
            let plan = plan(&[], &[], operator);
            let out = cleared(&plan, true, CellShape::Text, b"#!-#").unwrap();
            assert_eq!(out, b"****", "{operator}");
            assert_eq!(cleared(&plan, true, CellShape::Text, b""), Some(Vec::new()));
        }
    }

    #[test]
    fn what_is_blocked_is_an_error_and_leaves_nothing_behind() {
        let plan = plan(&["email"], &["$..ssn"], "block");
        let rule = plan.columns().first();
        for (rule, shape, cell, what) in [
            (rule, CellShape::Text, &b"x"[..], What::Column),
            (rule, CellShape::Other, b"\0\0\0\x01", What::Column),
            (None, CellShape::Text, b"to a@b.co", What::Entity(Detector::Email)),
            (None, CellShape::Holder, b"{a@b.co}", What::Entity(Detector::Email)),
            (None, CellShape::Jsonb, b"\x01{\"ssn\":1}", What::Field),
        ] {
            let mut out = b"before".to_vec();
            let done = CellMask::new().clear(&plan, rule, shape, cell, &mut out);
            assert_eq!((done, &*out), (Err(MaskError::Blocked(what)), &b"before"[..]));
        }
    }

    #[test]
    fn a_value_is_found_where_a_type_can_hold_one() {
        let plan = plan(&["email"], &["$..ssn"], "redact");
        let json = br#"{"m":"a@b.co","ssn":12,"n":[1.50, "\u00e9"]}"#;
        let masked = br#"{"m":"[EMAIL]","ssn":null,"n":[1.50, "\u00e9"]}"#;
        let jsonb = |json: &[u8]| [b"\x01", json].concat();
        for (shape, cell, expected) in [
            (CellShape::Text, b"to a@b.co!".to_vec(), Some(b"to [EMAIL]!".to_vec())),
            (CellShape::Text, b"nobody@home".to_vec(), Some(b"nobody@home".to_vec())),
            (CellShape::Text, Vec::new(), Some(Vec::new())),
            (CellShape::Json, json.to_vec(), Some(masked.to_vec())),
            (CellShape::Jsonb, jsonb(json), Some(jsonb(masked))),
            (CellShape::Jsonb, jsonb(b"[1]"), Some(jsonb(b"[1]"))),
            // A cast to text keeps the field rules, and a text need not be JSON.
            (CellShape::Text, json.to_vec(), Some(masked.to_vec())),
            (CellShape::Text, b"[x] a@b.co".to_vec(), Some(b"[x] [EMAIL]".to_vec())),
            (CellShape::Holder, b"{1,a@b.co}".to_vec(), None),
            (CellShape::Holder, b"\0\0\0\x06a@b.co".to_vec(), None),
            (CellShape::Holder, b"{1,2}".to_vec(), Some(b"{1,2}".to_vec())),
            (CellShape::Other, b"a@b.co".to_vec(), Some(b"a@b.co".to_vec())),
            // What is no JSON under a mask is not shown.
            (CellShape::Json, b"{a@b.co}".to_vec(), None),
            (CellShape::Json, b"{\"a\":".to_vec(), None),
            (CellShape::Json, Vec::new(), Some(Vec::new())),
            (CellShape::Jsonb, b"\x02{}".to_vec(), None),
            (CellShape::Jsonb, Vec::new(), None),
        ] {
            let out = cleared(&plan, false, shape, &cell);
            assert_eq!(out, expected, "{shape:?} {}", String::from_utf8_lossy(&cell));
        }
    }

    #[test]
    fn a_private_key_without_an_end_is_not_shown() {
        let plan = plan(&["secrets"], &[], "redact");
        let key = format!("-----BEGIN PRIVATE KEY-----{}", "A".repeat(70_000));
        assert_eq!(cleared(&plan, false, CellShape::Text, key.as_bytes()), None);
    }

    #[test]
    fn cells_are_counted_and_do_not_touch_each_other() {
        let plan = plan(&["email", "secrets"], &["$..ssn"], "keep_last(2)");
        let mut mask = CellMask::new();
        let mut out = Vec::new();
        let key = format!("-----BEGIN PRIVATE KEY-----{}", "A".repeat(70_000));
        for cell in [key.as_bytes(), b"{\"ssn\":\"12345", b"x a@b.co"] {
            out.clear();
            let _done = mask.clear(&plan, None, CellShape::Text, cell, &mut out).unwrap();
        }
        assert_eq!(out, b"x *@*.co");
        let _done = mask.clear(&plan, plan.columns().first(), CellShape::Other, b"1", &mut out);
        assert_eq!((mask.finds().columns(), mask.finds().of(Detector::Email)), (1, 1));
        mask.forget();
        assert_eq!(mask.finds(), Finds::default());
    }

    #[test]
    fn a_statement_is_recorded_masked() {
        let clear = |plan: &Plan, text: &str| {
            let mut out = Vec::new();
            let changed = plan.clear_statement(text.as_bytes(), &mut out);
            (String::from_utf8(out).unwrap(), changed)
        };
        let email = plan(&["email"], &[], "redact");
        let text = "select * from t where mail = 'a@b.co'";
        assert_eq!(clear(&email, text), (text.replace("a@b.co", "[EMAIL]"), true));
        assert_eq!(clear(&email, "select 1"), ("select 1".to_owned(), false));
        assert_eq!(clear(&Plan::pass(), text), (text.to_owned(), false));
        let block = plan(&["email"], &[], "block");
        assert_eq!(clear(&block, text), ("[REDACTED]".to_owned(), true));
    }
}
