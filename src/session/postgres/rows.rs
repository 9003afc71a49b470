//! The rows of one portal: what is done to each cell, decided once, and done row by row.
//!
//! ```text
//!   RowDescription, Columns, Plan --RowPlan::of--> RowPlan --rewrite--> DataRow
//! ```
//!
//! A cell goes by the rule of its column; else it is NULL where it may be computed of what is masked,
//! or of a relation that nothing is known of; else the detectors look through it if its type can hold
//! a text. A row without a change is not copied. A row that is not whole goes by the same plan in
//! [`long`](super::long). Estimate: a few ns for a cell that passes, and what
//! its mask costs for one that does not; no allocation but for the room that is kept.

use super::columns::Columns;
use crate::mask::{Ahead, Cell, CellMask, CellShape, ColumnRule, Finds, Level, MaskError, Plan};
use crate::wire::postgres::{BINARY, Cells, Column, WireError};

/// What is done to a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Pass,
    /// By the column rule at this place of the plan.
    Rule(usize, CellShape),
    Null,
    /// By the detectors and field rules.
    Detect(CellShape),
}

impl Act {
    /// The rule of the column, where it has one and the plan knows it.
    pub(super) fn rule(self, plan: &Plan) -> Option<&ColumnRule> {
        if let Self::Rule(rule, _) = self { plan.columns().get(rule) } else { None }
    }

    /// What becomes of a cell of `len` bytes, before they are there.
    pub(super) fn ahead(self, plan: &Plan, len: usize) -> Result<Ahead, MaskError> {
        match (self, self.rule(plan)) {
            (Self::Pass, _) => Ok(Ahead::Same),
            (Self::Null, _) | (Self::Rule(..), None) => Ok(Ahead::Null),
            (Self::Rule(_, shape), rule) => CellMask::ahead(plan, rule, shape, len),
            (Self::Detect(shape), _) => CellMask::ahead(plan, None, shape, len),
        }
    }
}

/// What is done to the rows of one portal. It holds for the plan and the formats that it was made of.
#[derive(Clone, Debug)]
pub(super) struct RowPlan {
    acts: Box<[Act]>,
    /// What the columns are called, each name with a zero behind it; none where all rows pass.
    names: Vec<u8>,
    is_pass: bool,
    has_unknown: bool,
}

/// Why a row cannot be given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(super) enum RowError {
    /// It is no row, or not one of its description.
    Wire(WireError),
    /// A value in it is blocked.
    Mask(MaskError),
    /// More of it would have to be kept than may be, for what this column is.
    Long(TooLong),
}

/// Which columns of a row are too long for its masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong {
    /// The column, from 0.
    pub(super) column: usize,
    /// A column behind it whose new length must be known before; else the column itself is to be
    /// masked, and only the whole cell tells what becomes of it.
    pub(super) behind: Option<usize>,
}

impl From<WireError> for RowError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<MaskError> for RowError {
    fn from(error: MaskError) -> Self {
        Self::Mask(error)
    }
}

/// Masks one row after the other; keeps its room.
#[derive(Debug, Default)]
pub(super) struct RowMask {
    pub(super) cells: CellMask,
    /// What stands for the cell in hand.
    pub(super) cell: Vec<u8>,
}

impl RowMask {
    /// Masks a whole cell that is not NULL; what stands for it is in `cell` where it is changed.
    pub(super) fn whole(&mut self, act: Act, plan: &Plan, bytes: &[u8]) -> Result<Cell, MaskError> {
        self.cell.clear();
        let (rule, shape) = match (act, act.rule(plan)) {
            (Act::Pass, _) => return Ok(Cell::Same),
            // By a plan of another table of rules nothing is known of the cell.
            (Act::Null, _) | (Act::Rule(..), None) => return Ok(Cell::Null),
            (Act::Rule(_, shape) | Act::Detect(shape), rule) => (rule, shape),
        };
        self.cells.clear(plan, rule, shape, bytes, &mut self.cell)
    }

    /// What was masked since [`Self::forget`].
    pub(super) fn finds(&self) -> Finds {
        self.cells.finds()
    }

    /// Counts from nothing again.
    pub(super) fn forget(&mut self) {
        self.cells.forget();
    }
}

impl RowPlan {
    /// For rows of these columns, in the formats that the portal gives them in.
    ///
    /// `tainted` says that the statement touches a relation with masked columns, `independent` that an
    /// output column is computed of nothing that is masked: a constant, `count(*)`.
    pub(super) fn of<'c>(
        described: impl Iterator<Item = Column<'c>>,
        columns: &Columns,
        plan: &Plan,
        tainted: bool,
        independent: &dyn Fn(usize) -> bool,
    ) -> Self {
        let fits = columns.fits(plan.columns());
        let closed = tainted && plan.has_columns() && plan.level() >= Level::DerivedClosed;
        let mut has_unknown = false;
        let mut names = Vec::new();
        let act = |(place, column): (usize, Column<'_>)| {
            let shape = shape(&column, columns);
            names.extend_from_slice(column.name);
            names.push(0);
            let Column { table, attribute, .. } = column;
            let unknown = !fits || columns.is_unknown(table, attribute);
            has_unknown |= unknown;
            if plan.blocks_all() {
                return Act::Detect(shape);
            }
            if let Some(masked) = columns.rule(table, attribute).filter(|_| fits) {
                // Of what was computed no operator shows a part, so it is no text here.
                let shape = if masked.derived { CellShape::Other } else { shape };
                return Act::Rule(masked.rule, shape);
            }
            let row = attribute == 0 && columns.rows_tell(table);
            let computed = (table == 0 || attribute == 0) && !independent(place);
            if row || unknown || closed && computed {
                return Act::Null;
            }
            match shape {
                CellShape::Other => Act::Pass,
                _ if plan.is_pass() => Act::Pass,
                shape => Act::Detect(shape),
            }
        };
        let acts: Box<[Act]> = described.enumerate().map(act).collect();
        let is_pass = acts.iter().all(|act| *act == Act::Pass);
        if is_pass {
            names = Vec::new();
        }
        Self { acts, names, is_pass, has_unknown }
    }

    /// What is done to each cell.
    pub(super) fn acts(&self) -> &[Act] {
        &self.acts
    }

    /// What the column at this place is called.
    pub(super) fn name(&self, place: usize) -> String {
        let name = self.names.split(|byte| *byte == 0).nth(place).unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }

    /// Gives out NULL in these places, whatever the level: what comes there is not what the statement
    /// says.
    pub(super) fn hide(&mut self, hidden: impl Fn(usize) -> bool) {
        for (place, act) in self.acts.iter_mut().enumerate() {
            if hidden(place) {
                *act = Act::Null;
            }
        }
        self.is_pass = self.acts.iter().all(|act| *act == Act::Pass);
    }

    /// Whether every row goes on as it came; such rows need not be whole to go on.
    pub(super) fn is_pass(&self) -> bool {
        self.is_pass
    }

    /// Whether some column is of a relation that was made after the catalog was read, or the catalog
    /// was not read for this plan. It is NULL here; by a catalog that is read again it may not be.
    pub(super) fn has_unknown(&self) -> bool {
        self.has_unknown
    }

    /// Masks the row with this body. When it changes, appends the whole message to `out` and says so.
    ///
    /// # Errors
    /// [`RowError`]; `out` is as it was then.
    pub(super) fn rewrite(
        &self,
        body: &[u8],
        plan: &Plan,
        mask: &mut RowMask,
        out: &mut Vec<u8>,
    ) -> Result<bool, RowError> {
        let start = out.len();
        let done = self.masked(body, plan, mask, out);
        // What a cell was is not kept for longer than its row.
        mask.cell.clear();
        match done {
            Ok(0) => Ok(false),
            Ok(copied) => {
                out.extend_from_slice(body.get(copied..).unwrap_or_default());
                match finish(out, start) {
                    Ok(()) => Ok(true),
                    Err(error) => {
                        out.truncate(start);
                        Err(error.into())
                    }
                }
            }
            Err(error) => {
                out.truncate(start);
                Err(error)
            }
        }
    }

    /// Up to where the body is in `out`, or stands for what is: 0 when nothing changed.
    fn masked(
        &self,
        body: &[u8],
        plan: &Plan,
        mask: &mut RowMask,
        out: &mut Vec<u8>,
    ) -> Result<usize, RowError> {
        let mut cells = Cells::new(body)?;
        if cells.left() != self.acts.len() {
            return Err(WireError::Count.into());
        }
        let mut copied = 0;
        for act in &self.acts {
            let Some(cell) = cells.next()? else { return Err(WireError::Count.into()) };
            // NULL tells nothing that the mask could hide.
            let Some(bytes) = cell else { continue };
            let became = mask.whole(*act, plan, bytes)?;
            let (len, new): (i32, &[u8]) = match became {
                Cell::Same => continue,
                Cell::Null => (-1, b""),
                Cell::Changed => {
                    (i32::try_from(mask.cell.len()).map_err(|_| WireError::TooLong)?, &mask.cell)
                }
            };
            if copied == 0 {
                out.extend_from_slice(&[b'D', 0, 0, 0, 0]);
            }
            let range = cells.range();
            let until = range.start.saturating_sub(4);
            out.extend_from_slice(body.get(copied..until).unwrap_or_default());
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(new);
            copied = range.end;
        }
        match cells.next()? {
            None => Ok(copied),
            Some(_) => Err(WireError::Count.into()),
        }
    }
}

/// Writes the length of the message that began at `start`; it covers itself, but not the tag.
fn finish(out: &mut [u8], start: usize) -> Result<(), WireError> {
    let message = out.get_mut(start + 1..).ok_or(WireError::Truncated)?;
    let len = i32::try_from(message.len()).map_err(|_| WireError::TooLong)?;
    let head = message.first_chunk_mut::<4>().ok_or(WireError::Truncated)?;
    *head = len.to_be_bytes();
    Ok(())
}

/// How a cell is read, by its type and format.
fn shape(column: &Column<'_>, columns: &Columns) -> CellShape {
    match column.kind {
        TEXT | VARCHAR | BPCHAR | NAME | UNKNOWN | CSTRING | XML | REFCURSOR => CellShape::Text,
        JSON => CellShape::Json,
        JSONB if column.format == BINARY => CellShape::Jsonb,
        JSONB => CellShape::Json,
        kind if columns.is_text(kind) => CellShape::Text,
        kind if kind >= OID_MIN || HOLDERS.contains(&kind) => CellShape::Holder,
        _ => CellShape::Other,
    }
}

/// Types of `pg_type.dat` by their names; their OIDs do not change. All of these are the same bytes in
/// text and binary format, but `jsonb`, which has its version before it.
const NAME: u32 = 19;
const TEXT: u32 = 25;
const JSON: u32 = 114;
const XML: u32 = 142;
const UNKNOWN: u32 = 705;
const BPCHAR: u32 = 1_042;
const VARCHAR: u32 = 1_043;
const REFCURSOR: u32 = 1_790;
const CSTRING: u32 = 2_275;
const JSONB: u32 = 3_802;

/// Types that hold texts in a form of their own; those of users and extensions may, too.
const HOLDERS: &[u32] = &[
    143,   // xml[]
    199,   // json[]
    1_003, // name[]
    1_009, // text[]
    1_014, // bpchar[]
    1_015, // varchar[]
    1_263, // cstring[]
    2_201, // refcursor[]
    2_249, // record
    2_287, // record[]
    3_614, // tsvector
    3_615, // tsquery
    3_643, // tsvector[]
    3_645, // tsquery[]
    3_807, // jsonb[]
    4_072, // jsonpath
    4_073, // jsonpath[]
];

/// OIDs from here on are of users and extensions.
const OID_MIN: u32 = 16_384;

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::mask::{Detector, MaskSpec, Operator, Operators, What};
    use crate::session::postgres::columns::tests::{plan, read};
    use crate::wire::postgres::{self as wire, write};

    fn column(table: u32, attribute: i16, kind: u32, format: i16) -> Column<'static> {
        Column { name: b"x", table, attribute, kind, kind_len: -1, modifier: -1, format }
    }

    fn row(cells: &[Option<&[u8]>]) -> Vec<u8> {
        let mut message = Vec::new();
        write::data_row(cells, &mut message);
        message.split_off(5)
    }

    /// The cells of the message, which must be whole.
    fn cells(message: &[u8]) -> Vec<Option<Vec<u8>>> {
        let frame = wire::frame(message).unwrap().unwrap();
        assert_eq!((frame.tag, frame.len + 5), (b'D', message.len()));
        let mut cells = Cells::new(&message[5..]).unwrap();
        let mut list = Vec::new();
        while let Some(cell) = cells.next().unwrap() {
            list.push(cell.map(<[u8]>::to_vec));
        }
        list
    }

    /// `email` of `t` and what a view computes of it, at the level that is the default.
    fn known(plan: &Plan) -> Columns {
        read(
            plan,
            &[
                "rule|0|20000|2|||",
                "column|0|20000|2|public|t|email",
                "derived|0|20001|1|public|v|email",
                "text||20009||||",
                "newest||20010||||",
            ],
        )
        .unwrap()
    }

    fn never(_: usize) -> bool {
        false
    }

    fn acts(described: &[Column<'_>], plan: &Plan, tainted: bool) -> Vec<Act> {
        let columns = known(plan);
        let rows = RowPlan::of(described.iter().copied(), &columns, plan, tainted, &never);
        rows.acts.to_vec()
    }

    fn direct(detect: &[Detector]) -> Plan {
        let specs = [MaskSpec {
            columns: vec![crate::mask::ColumnName::parse("public.t.email").unwrap()],
            level: Level::Direct,
            detect: detect.to_vec(),
            ..MaskSpec::default()
        }];
        Plan::compile(&specs).unwrap()
    }

    #[test]
    fn a_cell_goes_by_its_origin() {
        use CellShape::{Other, Text};
        let described = [
            column(20000, 2, VARCHAR, 0),
            column(20000, 1, 23, 0),
            column(20000, 0, 20002, 0),
            column(20000, -1, 27, 0),
            column(20001, 1, TEXT, 0),
            column(20005, 1, TEXT, 0),
            column(20005, 0, 20006, 0),
            column(0, 0, TEXT, 0),
            column(20011, 1, TEXT, 0),
            column(20011, 0, 20012, 0),
            column(20011, -1, 27, 0),
            column(1_259, 2, NAME, 0),
        ];
        let closed = plan(&["public.t.email"], "redact");
        let (email, derived) = (Act::Rule(0, Text), Act::Rule(0, Other));
        let (pass, null) = (Act::Pass, Act::Null);
        let free = [email, pass, null, pass, derived, pass, pass, pass, null, null, pass, pass];
        assert_eq!(acts(&described, &closed, false), free);
        let mut tainted = free;
        (tainted[6], tainted[7]) = (null, null);
        assert_eq!(acts(&described, &closed, true), tainted);
        // What is computed is the caller's at this level, but not a relation that is not known.
        assert_eq!(acts(&described, &direct(&[]), true), free);
        let columns = known(&closed);
        let of = |described: &[Column<'static>], independent: &dyn Fn(usize) -> bool| {
            RowPlan::of(described.iter().copied(), &columns, &closed, true, independent)
        };
        let rows = of(&described[5..8], &|place| place == 2);
        assert_eq!(*rows.acts, [pass, null, pass]);
        assert!(!rows.has_unknown() && !rows.is_pass());
        assert!(of(&described[8..9], &never).has_unknown());
        assert!(!of(&described[10..11], &never).has_unknown());
        assert!(of(&described[10..], &never).is_pass());
        let unread = Columns::default();
        let unread = RowPlan::of(described.into_iter(), &unread, &closed, false, &never);
        assert!(unread.has_unknown() && unread.acts.iter().all(|act| *act == null));
        let none =
            RowPlan::of(described.into_iter(), &Columns::default(), &Plan::pass(), false, &never);
        assert!(none.is_pass() && !none.has_unknown());
    }

    #[test]
    fn detectors_look_where_a_type_can_hold_a_text() {
        let plan = direct(&[Detector::Email]);
        for (kind, format, act) in [
            (TEXT, 0, Act::Detect(CellShape::Text)),
            (BPCHAR, 1, Act::Detect(CellShape::Text)),
            (XML, 0, Act::Detect(CellShape::Text)),
            (20009, 1, Act::Detect(CellShape::Text)),
            (JSON, 1, Act::Detect(CellShape::Json)),
            (JSONB, 0, Act::Detect(CellShape::Json)),
            (JSONB, 1, Act::Detect(CellShape::Jsonb)),
            (1_009, 0, Act::Detect(CellShape::Holder)),
            (30_000, 1, Act::Detect(CellShape::Holder)),
            (23, 0, Act::Pass),
            (17, 1, Act::Pass),
            (2_950, 0, Act::Pass),
        ] {
            assert_eq!(acts(&[column(0, 0, kind, format)], &plan, true), [act], "{kind}");
        }
    }

    #[test]
    fn a_row_is_rewritten_around_the_cells_that_stay() {
        let plan = direct(&[Detector::Email]);
        let columns = known(&plan);
        let described = [
            column(20000, 1, 23, 1),
            column(20000, 2, TEXT, 1),
            column(0, 0, TEXT, 0),
            column(20000, 0, 20002, 0),
            column(0, 0, JSONB, 1),
            column(20001, 1, TEXT, 0),
            column(0, 0, 1_009, 0),
            column(0, 0, TEXT, 0),
        ];
        let rows = RowPlan::of(described.into_iter(), &columns, &plan, false, &never);
        let body = row(&[
            Some(&[0, 0, 0, 7]),
            Some(b"ana@example.com"),
            Some(b"to bob@example.com"),
            Some(b"(7,ana@example.com)"),
            Some(b"\x01{\"m\": \"bob@example.com\"}"),
            Some(b"MOC.ELPMAXE@ANA"),
            Some(b"{bob@example.com}"),
            Some(b"clean"),
        ]);
        let mut mask = RowMask::default();
        let mut out = b"before".to_vec();
        assert_eq!(rows.rewrite(&body, &plan, &mut mask, &mut out), Ok(true));
        let text = |text: &[u8]| Some(text.to_vec());
        let expected = [
            text(&[0, 0, 0, 7]),
            text(b"[REDACTED]"),
            text(b"to [EMAIL]"),
            None,
            text(b"\x01{\"m\": \"[EMAIL]\"}"),
            None,
            None,
            text(b"clean"),
        ];
        assert_eq!(cells(out.strip_prefix(b"before").unwrap()), expected);
        assert_eq!((mask.finds().columns(), mask.finds().of(Detector::Email)), (2, 3));
        mask.forget();
        assert_eq!(mask.finds().total(), 0);
        let nulls = row(&[None; 8]);
        assert_eq!(rows.rewrite(&nulls, &plan, &mut mask, &mut out), Ok(false));
    }

    #[test]
    fn a_blocked_value_is_an_error_and_nothing_of_its_row_is_left() {
        let plan = plan(&["public.t.email"], "block");
        let columns = known(&plan);
        for described in [column(20000, 2, TEXT, 0), column(20001, 1, 23, 0)] {
            let described = [column(0, 0, TEXT, 0), described];
            let rows = RowPlan::of(described.into_iter(), &columns, &plan, true, &never);
            let body = row(&[Some(b"computed"), Some(b"ana@example.com")]);
            let mut out = b"before".to_vec();
            let done = rows.rewrite(&body, &plan, &mut RowMask::default(), &mut out);
            assert_eq!(done, Err(RowError::Mask(MaskError::Blocked(What::Column))));
            assert_eq!(out, b"before");
        }
    }

    /// A small generator with a seed that is printed by whoever fails.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % bound as u64).unwrap()
        }

        fn cell(&mut self) -> Option<Vec<u8>> {
            const LETTERS: &[u8] = "abz019 @.-'\"\\\u{e9}{}:".as_bytes();
            let len = self.below(24);
            (self.below(8) > 0)
                .then(|| (0..len).map(|_| LETTERS[self.below(LETTERS.len())]).collect())
        }
    }

    const OPERATORS: [&str; 8] = [
        "redact",
        "replace(\"(gone)\")",
        "keep_first(3)",
        "keep_last(3)",
        "same_length",
        "hash",
        "null",
        "drop",
    ];

    #[test]
    fn a_masked_cell_does_not_hold_what_it_was() {
        let seed = 0x5eed_0004;
        let mut random = Random(seed);
        let mut mask = RowMask::default();
        for round in 0..4_000 {
            let plan = plan(&["public.t.email"], OPERATORS[round % OPERATORS.len()]);
            let columns = known(&plan);
            let origins = [(20000, 1), (20000, 2), (20001, 1), (20000, 0), (0, 0), (20012, 3)];
            let described: Vec<Column<'_>> = (0..random.below(6))
                .map(|_| {
                    let (table, attribute) = origins[random.below(origins.len())];
                    let kind = [TEXT, 23, JSON, JSONB, 1_009, 30_000][random.below(6)];
                    column(table, attribute, kind, [0, 1][random.below(2)])
                })
                .collect();
            let rows = RowPlan::of(described.iter().copied(), &columns, &plan, true, &never);
            let before: Vec<Option<Vec<u8>>> = described.iter().map(|_| random.cell()).collect();
            let body = row(&before.iter().map(Option::as_deref).collect::<Vec<_>>());
            let mut out = Vec::new();
            let changed = rows.rewrite(&body, &plan, &mut mask, &mut out).unwrap();
            assert!(changed || out.is_empty());
            if !changed {
                write::data_row(&before.iter().map(Option::as_deref).collect::<Vec<_>>(), &mut out);
            }
            let after = cells(&out);
            assert_eq!(after.len(), before.len());
            for ((column, before), after) in described.iter().zip(before).zip(after) {
                let says = format!("seed {seed:x}, round {round}: {column:?} {before:?} {after:?}");
                if (column.table, column.attribute) == (20000, 1) {
                    assert_eq!(before, after, "{says}");
                } else if let (Some(before), Some(after)) = (before, after) {
                    let held = after.windows(before.len().max(1)).any(|part| part == before);
                    assert!(before.len() <= 3 || !held, "{says}");
                }
            }
        }
    }

    #[test]
    fn a_plan_that_passes_changes_nothing() {
        let mut random = Random(0x5eed_0005);
        let plan = plan(&["public.t.email"], "redact");
        let columns = known(&plan);
        for _ in 0..200 {
            let described = (0..random.below(9)).map(|_| column(20000, 1, TEXT, 0));
            let rows = RowPlan::of(described, &columns, &plan, true, &never);
            assert!(rows.is_pass());
            let before: Vec<_> = rows.acts.iter().map(|_| random.cell()).collect();
            let body = row(&before.iter().map(Option::as_deref).collect::<Vec<_>>());
            let mut out = Vec::new();
            assert_eq!(rows.rewrite(&body, &plan, &mut RowMask::default(), &mut out), Ok(false));
            assert_eq!(out, b"");
        }
    }

    #[test]
    fn a_malformed_row_is_an_error_wherever_it_breaks() {
        let plan = plan(&["public.t.email"], "redact");
        let columns = known(&plan);
        let described = [column(20000, 2, TEXT, 0), column(20000, 1, 23, 0), column(0, 0, TEXT, 0)];
        let rows = RowPlan::of(described.into_iter(), &columns, &plan, true, &never);
        let passes = [column(20000, 1, 23, 0); 3];
        let passes = RowPlan::of(passes.into_iter(), &columns, &plan, true, &never);
        let body = row(&[Some(b"ana@example.com"), Some(b"1"), Some(b"x")]);
        let mut mask = RowMask::default();
        let mut out = b"before".to_vec();
        let mut broken: Vec<Vec<u8>> = (0..body.len()).map(|len| body[..len].to_vec()).collect();
        broken.push([body.as_slice(), b"\0"].concat());
        broken.push(row(&[Some(b"a"), Some(b"b")]));
        broken.push(row(&[None; 4]));
        for (place, byte) in [(0, 0x80), (1, 2), (1, 4), (2, 0x80), (5, 16), (5, 14), (21, 0xff)] {
            let mut body = body.clone();
            body[place] = byte;
            broken.push(body);
        }
        for body in broken {
            for rows in [&rows, &passes] {
                let done = rows.rewrite(&body, &plan, &mut mask, &mut out);
                assert!(matches!(done, Err(RowError::Wire(_))), "{body:?}");
                assert_eq!(out, b"before");
            }
        }
        assert_eq!(rows.rewrite(&body, &plan, &mut mask, &mut out), Ok(true));
    }

    #[test]
    fn a_row_finds_its_operator_in_the_plan_of_all_masks() {
        let text = "public.t.email";
        let operators = |operator| Operators {
            columns: Some(Operator::parse(operator).unwrap()),
            ..Operators::default()
        };
        let spec = |operator| MaskSpec {
            columns: vec![crate::mask::ColumnName::parse(text).unwrap()],
            operators: operators(operator),
            ..MaskSpec::default()
        };
        let plan = Plan::compile(&[spec("keep_last(3)"), spec("same_length")]).unwrap();
        let columns = known(&plan);
        let described = [column(20000, 2, VARCHAR, 1)];
        let rows = RowPlan::of(described.into_iter(), &columns, &plan, false, &never);
        let mut out = Vec::new();
        let body = row(&[Some(b"abc-123456")]);
        assert_eq!(rows.rewrite(&body, &plan, &mut RowMask::default(), &mut out), Ok(true));
        assert_eq!(cells(&out), [Some(b"**********".to_vec())]);
    }
}
