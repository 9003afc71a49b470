//! From the column rules of a plan to the numbers that a RowDescription names columns by.
//!
//! A rule names a column; a result names the OID of a table and a number. One query of the catalog,
//! [`query`], tells for each rule where the column's values can come out: in its table, in partitions,
//! children and ancestors of that, in generated columns and in views, through any number of them. A
//! view's column with an origin is as its origin is; one that is computed counts as derived of all
//! that its view reads, which masks more of some views than must be. [`Reading`] takes the answer, and
//! [`Columns`] is what is known from then on.
//!
//! A column is asked for by its name, and by the numbers ([`Spot`]) that it had when it was found before:
//! who renames it, or its table, does not take the mask off.
//!
//! What is not seen: what a function reads whose body is a text, and what is copied into other tables.
//! A relation that was made after the answer is unknown ([`Columns::is_unknown`]) until the catalog is
//! read again, as is a column that was added to one that a value could get to, or to a view: whoever
//! holds a [`Columns`] reads it again after DDL.
//! OIDs count up to 2^32 and from 16384 again then; a database that old tells less by its newest one.

use super::kin::Kin;
use crate::mask::{ColumnName, ColumnRule};
use crate::session::relations::Spot;
use crate::wire::postgres::{Cells, WireError};
use std::fmt::Write as _;

/// The query, but for the rules' names.
const QUERY: &str = include_str!("columns.sql");
/// Where those stand in it.
const LISTED: &str = "@LISTED@";
/// Where the spots stand that are known.
const KNOWN: &str = "@KNOWN@";
/// Columns of a row of its answer.
const WIDTH: usize = 7;
/// Rows that an answer may have.
const ROWS_MAX: usize = 1 << 18;
/// OIDs below are of the system's own objects (`FirstNormalObjectId`).
const OID_MIN: u32 = 16_384;

/// A spot where the column of a rule, by its place in the plan, was found before.
pub(super) type Before = (usize, Spot);

/// The text that asks the catalog about the columns of `rules`, which were at `known`, for the simple
/// protocol; `None` for no rules. It has no parameters, reads only, and means the same under every
/// setting but `client_encoding`, which must be UTF8.
pub(super) fn query(rules: &[ColumnRule], known: &[Before]) -> Option<String> {
    if rules.is_empty() {
        return None;
    }
    let mut listed = String::new();
    for (place, rule) in rules.iter().enumerate() {
        let name: &ColumnName = rule.name();
        let comma = if place == 0 { "" } else { ", " };
        let [schema, table, column] = [name.schema(), name.table(), name.column()].map(literal);
        // Writing to a string does not fail.
        let _done = write!(listed, "{comma}({place}, {schema}, {table}, {column})");
    }
    // No relation has the OID 0; what it stands for gives the columns their types.
    let mut spots = "(0, 0::pg_catalog.oid, 0::pg_catalog.int2)".to_owned();
    for (place, (relation, number)) in known {
        let _done = write!(spots, ", ({place}, {relation}, {number})");
    }
    let lines = QUERY.lines().filter(|line| !line.trim_start().starts_with("--"));
    let text = lines.collect::<Vec<_>>().join("\n");
    // The spots first: names may be whatever they like.
    Some(text.replacen(KNOWN, &spots, 1).replacen(LISTED, &listed, 1))
}

/// A name as a literal that reads the same whether or not backslashes are plain in strings.
fn literal(name: &str) -> String {
    let name = name.replace('\'', "''");
    if name.contains('\\') {
        format!("E'{}'::pg_catalog.name", name.replace('\\', "\\\\"))
    } else {
        format!("'{name}'::pg_catalog.name")
    }
}

/// Why an answer of the catalog cannot be used. Nothing of the database can be masked then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(in crate::session) enum CatalogError {
    /// A row that is no row.
    Wire(WireError),
    /// A row that the query does not ask for, or one that is missing.
    Unexpected,
    /// More rows than are kept.
    TooMany,
}

impl From<WireError> for CatalogError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// A masked column of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Masked {
    /// The place of its rule in the plan.
    pub(super) rule: usize,
    /// Its values are not those of the rule's column, but computed of them: no operator fits.
    pub(super) derived: bool,
}

/// A rule whose column is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) struct Missing {
    /// The place of the rule in the plan.
    pub(in crate::session) rule: usize,
    /// Whether its table is there.
    pub(in crate::session) table: bool,
}

/// A column that is where it was found before, by another name than that of its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::session) struct Moved {
    /// The place of the rule in the plan.
    pub(in crate::session) rule: usize,
    /// `schema.table.column`, as they are called.
    pub(in crate::session) name: String,
    /// Nothing has the name of the rule.
    pub(in crate::session) only: bool,
}

/// A relation and a column of it.
type Named = (Box<[u8]>, Box<[u8]>);

/// Which columns of a database are masked, by number. The default knows of none, and of no relation
/// that is unknown: it is for plans without columns, and [`fits`](Self::fits) no other.
#[derive(Debug)]
pub(in crate::session) struct Columns {
    /// Sorted by table and number.
    masked: Vec<((u32, i16), Masked)>,
    /// `schema.table` of each relation with masked columns and the names of these, sorted.
    names: Vec<Named>,
    /// The same without the schema.
    bare: Vec<Named>,
    /// Types of extensions whose values are text.
    texts: Vec<u32>,
    missing: Vec<Missing>,
    moved: Vec<Moved>,
    /// By rule: where its column is.
    spots: Vec<Vec<Spot>>,
    /// How many columns relations have, by OID; whether a masked value could get to it.
    widths: Vec<(u32, i16, bool)>,
    /// Relations with rewrite rules, by OID and by both forms of their name; sorted.
    ruled: Vec<u32>,
    ruled_names: Vec<Box<[u8]>>,
    /// Where it was asked for: which tables belong to others.
    pub(super) kin: Kin,
    newest: u32,
    /// How many rules were asked about.
    rules: usize,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            masked: Vec::new(),
            names: Vec::new(),
            bare: Vec::new(),
            texts: Vec::new(),
            missing: Vec::new(),
            moved: Vec::new(),
            spots: Vec::new(),
            widths: Vec::new(),
            ruled: Vec::new(),
            ruled_names: Vec::new(),
            kin: Kin::default(),
            newest: u32::MAX,
            rules: 0,
        }
    }
}

impl Columns {
    /// Whether it can be that of a plan with these rules.
    pub(super) fn fits(&self, rules: &[ColumnRule]) -> bool {
        self.rules == rules.len()
    }

    /// What masks a column of a relation.
    pub(super) fn rule(&self, table: u32, attribute: i16) -> Option<Masked> {
        let key = (table, attribute);
        let found = self.masked.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        self.masked.get(found).map(|(_, masked)| *masked)
    }

    /// Whether some column of this relation is masked.
    pub(super) fn is_masked(&self, table: u32) -> bool {
        let from = self.masked.partition_point(|((of, _), _)| *of < table);
        self.masked.get(from).is_some_and(|((of, _), _)| *of == table)
    }

    /// Whether a relation, or this column of it, was made after the catalog was read. The columns that
    /// every table has, whose numbers are negative, hold nothing of others.
    pub(super) fn is_unknown(&self, table: u32, attribute: i16) -> bool {
        let later = table >= OID_MIN && table > self.newest;
        let added = self.width(table).is_some_and(|(width, _)| attribute > width);
        attribute >= 0 && (later || added)
    }

    /// Whether a whole row of this relation may hold a masked value, by now or by a column that is
    /// added.
    pub(super) fn rows_tell(&self, table: u32) -> bool {
        self.is_masked(table) || self.width(table).is_some_and(|(_, related)| related)
    }

    fn width(&self, table: u32) -> Option<(i16, bool)> {
        let found = self.widths.binary_search_by_key(&table, |(of, ..)| *of).ok()?;
        self.widths.get(found).map(|(_, width, related)| (*width, *related))
    }

    /// Whether rewrite rules make of a write to this relation what they like, its RETURNING included.
    pub(super) fn is_ruled(&self, table: u32) -> bool {
        self.ruled.binary_search(&table).is_ok()
    }

    /// The same for a relation by its name, with its schema or without.
    pub(super) fn is_ruled_by_name(&self, name: &[u8]) -> bool {
        self.ruled_names.binary_search_by(|known| (**known).cmp(name)).is_ok()
    }

    /// Whether a type of an extension has text for its values, in either format.
    pub(super) fn is_text(&self, kind: u32) -> bool {
        self.texts.contains(&kind)
    }

    /// Whether a relation by this name, `schema.table` without quotes, has masked columns. Two names
    /// that look the same because a part holds a dot both count.
    pub(super) fn touches(&self, name: &[u8]) -> bool {
        !of(&self.names, name).is_empty()
    }

    /// The same for a name without its schema, whatever the `search_path` makes of it.
    pub(super) fn touches_bare(&self, name: &[u8]) -> bool {
        !of(&self.bare, name).is_empty()
    }

    /// Whether a relation by this name has a masked column by that one.
    pub(super) fn names(&self, relation: &[u8], column: &[u8]) -> bool {
        of(&self.names, relation).iter().any(|(_, known)| **known == *column)
    }

    /// The same for a name without its schema.
    pub(super) fn names_bare(&self, relation: &[u8], column: &[u8]) -> bool {
        of(&self.bare, relation).iter().any(|(_, known)| **known == *column)
    }

    /// The rules whose columns are not there.
    pub(in crate::session) fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// The columns that have other names than their rules.
    pub(in crate::session) fn moved(&self) -> &[Moved] {
        &self.moved
    }

    /// Where the column of a rule is.
    pub(super) fn spots(&self, rule: usize) -> &[Spot] {
        self.spots.get(rule).map(Vec::as_slice).unwrap_or_default()
    }
}

impl Columns {
    /// The column of a rule is there, by its name or by where it was.
    fn is_at(&mut self, rule: usize, spot: Option<Spot>) {
        if let (Some(spots), Some(spot)) = (self.spots.get_mut(rule), spot)
            && !spots.contains(&spot)
        {
            spots.push(spot);
        }
    }
}

/// The part of a sorted list that is about one relation.
fn of<'l>(list: &'l [Named], relation: &[u8]) -> &'l [Named] {
    let from = list.partition_point(|(known, _)| **known < *relation);
    let rest = list.get(from..).unwrap_or_default();
    let count = rest.partition_point(|(known, _)| **known == *relation);
    rest.get(..count).unwrap_or_default()
}

/// Reads the answer to [`query`].
#[derive(Debug)]
pub(super) struct Reading<'r> {
    rules: &'r [ColumnRule],
    known: &'r [Before],
    columns: Columns,
    /// By rule, where it was answered for: the table and the number that its name stands for.
    told: Vec<Option<(Option<u32>, Option<i16>)>>,
    newest: Option<u32>,
    rows: usize,
}

impl<'r> Reading<'r> {
    /// For the answer about these rules, whose columns were at `known`.
    pub(super) fn new(rules: &'r [ColumnRule], known: &'r [Before]) -> Self {
        let told = vec![None; rules.len()];
        let columns = Columns { spots: vec![Vec::new(); rules.len()], ..Columns::default() };
        Self { rules, known, columns, told, newest: None, rows: 0 }
    }

    /// Takes the body of a DataRow.
    ///
    /// # Errors
    /// [`CatalogError`]; the answer is of no use then.
    pub(super) fn row(&mut self, body: &[u8]) -> Result<(), CatalogError> {
        self.rows += 1;
        if self.rows > ROWS_MAX {
            return Err(CatalogError::TooMany);
        }
        let mut cells = Cells::new(body)?;
        if cells.left() != WIDTH {
            return Err(CatalogError::Unexpected);
        }
        let mut row = [None; WIDTH];
        for slot in &mut row {
            *slot = cells.next()?.flatten();
        }
        if cells.next()?.is_some() {
            return Err(CatalogError::Unexpected);
        }
        let [kind, rule, relation, number, schema, name, column] = row;
        let rule = rule.map(|text| self.known(text)).transpose()?;
        let relation = relation.map(oid).transpose()?;
        let number = match (kind, number) {
            (Some(b"width" | b"view"), Some(count)) => Some(width(count)?),
            (_, number) => number.map(attribute).transpose()?,
        };
        match (kind, rule, relation, number, schema, name, column) {
            (Some(b"rule"), Some(rule), relation, number, None, None, None) => {
                let told = self.told.get_mut(rule).filter(|told| told.is_none());
                *told.ok_or(CatalogError::Unexpected)? = Some((relation, number));
                self.columns.is_at(rule, relation.zip(number));
            }
            (
                Some(b"kept"),
                Some(rule),
                Some(relation),
                Some(number),
                Some(schema),
                Some(name),
                Some(column),
            ) if self.known.contains(&(rule, (relation, number))) => {
                self.columns.is_at(rule, Some((relation, number)));
                let parts = [schema, name, column].map(String::from_utf8_lossy);
                self.columns.moved.push(Moved { rule, name: parts.join("."), only: false });
            }
            (
                Some(kind @ (b"column" | b"derived")),
                Some(rule),
                Some(relation),
                Some(number),
                Some(schema),
                Some(name),
                Some(column),
            ) => {
                let masked = Masked { rule, derived: kind == b"derived" };
                self.columns.masked.push(((relation, number), masked));
                let whole = [schema, b".", name].concat();
                self.columns.names.push((whole.into(), column.into()));
                self.columns.bare.push((name.into(), column.into()));
            }
            (Some(b"ruled"), None, Some(relation), None, Some(schema), Some(name), None) => {
                self.columns.ruled.push(relation);
                self.columns.ruled_names.push([schema, b".", name].concat().into());
                self.columns.ruled_names.push(name.into());
            }
            (
                Some(kind @ (b"width" | b"view")),
                None,
                Some(relation),
                Some(width),
                None,
                None,
                None,
            ) => {
                self.columns.widths.push((relation, width, kind == b"width"));
            }
            (Some(b"child"), None, None, None, Some(schema), Some(name), Some(ancestor)) => {
                let added = self.columns.kin.add(schema, name, ancestor);
                added.ok_or(CatalogError::Unexpected)?;
            }
            (Some(b"text"), None, Some(kind), None, None, None, None) => {
                self.columns.texts.push(kind)
            }
            (Some(b"newest"), None, Some(newest), None, None, None, None)
                if self.newest.is_none() =>
            {
                self.newest = Some(newest);
            }
            _ => return Err(CatalogError::Unexpected),
        }
        Ok(())
    }

    /// Ends the answer, which must be whole.
    ///
    /// # Errors
    /// [`CatalogError::Unexpected`] when a rule was not answered for, or a column that is there is not
    /// among those that are masked.
    pub(super) fn finish(self) -> Result<Columns, CatalogError> {
        let Self { rules, mut columns, told, newest, .. } = self;
        columns.newest = match newest {
            None if rules.is_empty() => u32::MAX,
            newest => newest.ok_or(CatalogError::Unexpected)?,
        };
        columns.kin.sort();
        columns.rules = rules.len();
        for (rule, told) in told.into_iter().enumerate() {
            let (table, number) = told.ok_or(CatalogError::Unexpected)?;
            let spots = columns.spots(rule);
            let masked = columns.masked.iter().any(|(_, masked)| masked.rule == rule);
            if masked == spots.is_empty() {
                return Err(CatalogError::Unexpected);
            }
            // Another table that has the name may hold the column by another one.
            let found = spots.iter().any(|(at, _)| table.is_none_or(|table| table == *at));
            if number.is_none() && !found {
                columns.missing.push(Missing { rule, table: table.is_some() });
            }
            let own = |moved: &Moved| moved.rule == rule && moved.name == plain(rules, rule);
            columns.moved.retain(|moved| !own(moved));
            for moved in columns.moved.iter_mut().filter(|moved| moved.rule == rule) {
                moved.only = number.is_none();
            }
        }
        columns.widths.sort_unstable_by_key(|(table, _, related)| (*table, !related));
        columns.widths.dedup_by_key(|(table, ..)| *table);
        columns.ruled.sort_unstable();
        columns.ruled_names.sort_unstable();
        let masked = &mut columns.masked;
        masked.sort_unstable_by_key(|(key, masked)| (*key, masked.rule));
        masked.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 = stricter(rules, kept.1, next.1);
            }
            same
        });
        for names in [&mut columns.names, &mut columns.bare] {
            names.sort_unstable();
            names.dedup();
        }
        Ok(columns)
    }

    fn known(&self, text: &[u8]) -> Result<usize, CatalogError> {
        let rule = usize::try_from(number(text)?).map_err(|_| CatalogError::Unexpected)?;
        if rule < self.rules.len() { Ok(rule) } else { Err(CatalogError::Unexpected) }
    }
}

/// The name of a rule's column without quotes.
fn plain(rules: &[ColumnRule], rule: usize) -> String {
    let name = rules.get(rule).map(ColumnRule::name);
    name.map_or_else(String::new, |name| [name.schema(), name.table(), name.column()].join("."))
}

/// What masks a column that two rules lead to.
fn stricter(rules: &[ColumnRule], one: Masked, other: Masked) -> Masked {
    let takes = match (rules.get(one.rule), rules.get(other.rule)) {
        (Some(one), Some(other)) => other.is_stricter_than(one),
        _ => false,
    };
    let rule = if takes { other.rule } else { one.rule };
    Masked { rule, derived: one.derived || other.derived }
}

/// A number as the server writes it: digits only.
fn number(text: &[u8]) -> Result<u32, CatalogError> {
    let digits = text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok().filter(|_| digits);
    text.and_then(|text| text.parse().ok()).ok_or(CatalogError::Unexpected)
}

fn oid(text: &[u8]) -> Result<u32, CatalogError> {
    number(text).and_then(|oid| if oid == 0 { Err(CatalogError::Unexpected) } else { Ok(oid) })
}

fn attribute(text: &[u8]) -> Result<i16, CatalogError> {
    let number = i16::try_from(number(text)?).ok().filter(|number| *number > 0);
    number.ok_or(CatalogError::Unexpected)
}

/// How many columns a relation has.
fn width(text: &[u8]) -> Result<i16, CatalogError> {
    i16::try_from(number(text)?).map_err(|_| CatalogError::Unexpected)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
pub(super) mod tests {
    use super::*;
    use crate::mask::{MaskSpec, Operator, Operators, Plan};
    use crate::wire::postgres::write;

    /// A plan that masks these columns.
    pub(in crate::session::postgres) fn plan(columns: &[&str], operator: &str) -> Plan {
        let spec = MaskSpec {
            name: "columns".to_owned(),
            columns: columns.iter().map(|name| ColumnName::parse(name).unwrap()).collect(),
            operators: Operators {
                columns: Some(Operator::parse(operator).unwrap()),
                ..Operators::default()
            },
            key: crate::base::Secret::new(b"a key of the tests".to_vec()),
            ..MaskSpec::default()
        };
        Plan::compile(&[spec]).unwrap()
    }

    /// The body of a row of the answer, its cells between bars, an empty one for NULL.
    fn row(text: &str) -> Vec<u8> {
        let cells: Vec<_> =
            text.split('|').map(|cell| (!cell.is_empty()).then_some(cell.as_bytes())).collect();
        let mut message = Vec::new();
        write::data_row(&cells, &mut message);
        message.split_off(5)
    }

    pub(in crate::session::postgres) fn read(
        plan: &Plan,
        rows: &[&str],
    ) -> Result<Columns, CatalogError> {
        let mut reading = Reading::new(plan.columns(), &[]);
        rows.iter().try_for_each(|text| reading.row(&row(text)))?;
        reading.finish()
    }

    const ANSWER: &[&str] = &[
        "rule|1|16391||||",
        "rule|0|16391|2|||",
        "rule|2|||||",
        "column|0|16391|2|zz|t|email",
        "derived|0|16400|1|zz|v2|shown",
        "column|0|16400|1|zz|v2|shown",
        "column|0|16584|1|a.b|odd \"name|email",
        "text||16443||||",
        "newest||16594||||",
    ];

    fn three() -> Plan {
        plan(&["zz.t.email", "zz.t.none", "zz.nope.x"], "redact")
    }

    #[test]
    fn an_answer_is_known_by_numbers_and_names() {
        let columns = read(&three(), ANSWER).unwrap();
        let masked = |derived| Some(Masked { rule: 0, derived });
        assert_eq!(columns.rule(16391, 2), masked(false));
        assert_eq!(columns.rule(16400, 1), masked(true), "derived in one way is derived");
        for (table, attribute) in [(16391, 1), (16391, 0), (16391, -1), (16390, 2), (0, 0)] {
            assert_eq!(columns.rule(table, attribute), None);
        }
        assert!(columns.fits(three().columns()) && !Columns::default().fits(three().columns()));
        assert!(columns.is_masked(16391) && columns.is_masked(16584) && !columns.is_masked(16392));
        assert!(columns.is_unknown(16595, 1) && !columns.is_unknown(16594, 1));
        assert!(!columns.is_unknown(0, 0) && !columns.is_unknown(1_259, 99));
        assert!(columns.is_text(16443) && !columns.is_text(25));
        assert!(columns.touches(b"zz.t") && columns.touches(b"a.b.odd \"name"));
        assert!(!columns.touches(b"zz.tt") && !columns.touches(b"t") && !columns.touches(b""));
        assert!(columns.touches_bare(b"t") && !columns.touches_bare(b"zz"));
        assert!(columns.names(b"zz.t", b"email") && columns.names_bare(b"v2", b"shown"));
        for (relation, column) in [("zz.t", "shown"), ("zz.v2", "email"), ("t", "email"), ("", "")]
        {
            assert!(!columns.names(relation.as_bytes(), column.as_bytes()), "{relation} {column}");
        }
        assert!(!columns.names_bare(b"zz.t", b"email") && !columns.names_bare(b"t", b"shown"));
        let missing = [Missing { rule: 1, table: true }, Missing { rule: 2, table: false }];
        assert_eq!(columns.missing(), missing);
    }

    #[test]
    fn of_two_rules_for_one_column_the_stricter_one_masks_it() {
        let weak = plan(&["a.t.x", "a.t.y"], "keep_last(2)");
        let mut specs = vec![MaskSpec {
            name: "y".to_owned(),
            columns: vec![ColumnName::parse("a.t.y").unwrap()],
            ..MaskSpec::default()
        }];
        specs.insert(
            0,
            MaskSpec {
                name: "x".to_owned(),
                columns: weak.columns().iter().map(|rule| rule.name().clone()).collect(),
                operators: Operators {
                    columns: Operator::parse("same_length").ok(),
                    ..Default::default()
                },
                ..MaskSpec::default()
            },
        );
        let plan = Plan::compile(&specs).unwrap();
        let columns = read(
            &plan,
            &[
                "rule|0|20000|1|||",
                "rule|1|20000|2|||",
                "column|0|20000|1|a|t|email",
                "column|1|20000|2|a|t|email",
                "column|0|20001|1|a|v|email",
                "column|1|20001|1|a|v|email",
                "newest||20001||||",
            ],
        );
        assert_eq!(columns.unwrap().rule(20001, 1), Some(Masked { rule: 1, derived: false }));
    }

    #[test]
    fn an_answer_that_is_not_whole_is_refused() {
        let plan = three();
        for left_out in [0, 1, 2, 8] {
            let mut rows = ANSWER.to_vec();
            rows.remove(left_out);
            assert_eq!(read(&plan, &rows).err(), Some(CatalogError::Unexpected), "{left_out}");
        }
        // The column is there, and nothing of it is masked.
        let rows = ["rule|0|16391|2|||", "rule|1|||||", "rule|2|||||", "newest||16594||||"];
        assert_eq!(read(&plan, &rows).err(), Some(CatalogError::Unexpected));
        for more in [
            "rule|0|16391|2|||",
            "rule|3|||||",
            "rule|-1|||||",
            "column|0|16391||zz|t|email",
            "column|0|0|1|zz|t|email",
            "column|0|16391|0|zz|t|email",
            "column|0|16391|32768|zz|t|email",
            "column|0|+16391|1|zz|t|email",
            "column|0|4294967296|1|zz|t|email",
            "column||16391|1|zz|t|email",
            "column|0|16391|1|zz|t|",
            "newest||16594||||email",
            "newest||16594||||",
            "other||16594||||",
            "newest||1|||x|",
            "newest||1|||",
            "newest||1|||||",
            "|||||",
        ] {
            let mut rows = ANSWER.to_vec();
            rows.push(more);
            assert_eq!(read(&plan, &rows).err(), Some(CatalogError::Unexpected), "{more}");
        }
        let body = row("newest||16594||||");
        for len in 0..body.len() {
            let mut reading = Reading::new(plan.columns(), &[]);
            let cut = body.get(..len).unwrap();
            assert!(reading.row(cut).is_err(), "{len}");
        }
        let mut reading = Reading::new(plan.columns(), &[]);
        assert_eq!(
            reading.row(&[body.as_slice(), b"x"].concat()),
            Err(CatalogError::Wire(WireError::Trailing))
        );
    }

    #[test]
    fn names_are_literals_and_nothing_else() {
        let plan = plan(&["a.\"t'); --\".\"c\\\"", "b.t.c"], "redact");
        let text = query(plan.columns(), &[]).unwrap();
        let listed = "(VALUES (0, 'a'::pg_catalog.name, 't''); --'::pg_catalog.name, \
                      E'c\\\\'::pg_catalog.name), (1, 'b'::pg_catalog.name, 't'::pg_catalog.name, \
                      'c'::pg_catalog.name))";
        assert!(text.contains(listed), "{text}");
        assert!(!text.contains(LISTED) && !text.contains("\n--"));
        assert_eq!(query(&[], &[]), None);
    }

    /// Whoever sets `search_path` chooses what a bare name or operator means.
    #[test]
    fn the_query_names_nothing_that_a_search_path_could_change() {
        let mut text = query(plan(&["a.t.c"], "redact").columns(), &[(0, (20_000, 1))]).unwrap();
        for operator in ["=", "<>", ">", "-"] {
            text = text.replace(&format!("OPERATOR(pg_catalog.{operator})"), " ");
        }
        // The bounds of a window's frame are no operator.
        let text = text.replacen("ROWS BETWEEN", "ROWS", 1);
        let parts = text.split('\'').step_by(2).collect::<Vec<_>>().join(" ");
        for bare in ["=", "<", ">", "+", "-", "~", "||", "!", "%"] {
            assert!(!parts.contains(bare), "{bare}");
        }
        let words: Vec<&str> = parts.split_whitespace().collect();
        for word in ["IN", "LIKE", "BETWEEN", "USING", "NATURAL", "SIMILAR", "NULLIF"] {
            assert!(!words.contains(&word), "{word}");
        }
        for cast in parts.split("::").skip(1) {
            assert!(cast.starts_with("pg_catalog."), "{cast}");
        }
        // A function is called by its schema; the others are the query's own, or the grammar's.
        let own = [
            "AND",
            "MATERIALIZED",
            "AS",
            "ANY",
            "COALESCE",
            "FROM",
            "LATERAL",
            "OVER",
            "VALUES",
            "ALL",
            "p",
            "next",
            "listed",
            "known",
            "reach",
            "reached",
            "step",
            "above",
            "carries",
        ];
        for (at, _) in parts.match_indices('(') {
            let before = parts.get(..at).unwrap().trim_end();
            let name = before.rsplit(|c: char| c.is_whitespace() || matches!(c, '(' | ',')).next();
            let name = name.unwrap();
            assert!(
                name.is_empty() || name.starts_with("pg_catalog.") || own.contains(&name),
                "{name}"
            );
        }
        let from = words.windows(2).filter(|pair| matches!(pair, ["FROM" | "JOIN", _]));
        let own = [
            "listed", "known", "found", "reach", "reached", "view", "reads", "entry", "origin",
            "step", "above", "carries", "(", "view,", "reach,", "reached)",
        ];
        for pair in from {
            let name = pair.last().unwrap().trim_end_matches([')', ',']);
            assert!(name.starts_with("pg_catalog.pg_") || own.contains(&name), "{name}");
        }
    }
}
