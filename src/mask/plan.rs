//! Plans: masks of the config, compiled, and united where several apply.

use super::Content;
use super::column::{ColumnName, ColumnRule, ColumnRules, Level};
use super::detector::{self, Detector};
use super::find::Triggers;
use super::operator::{Act, Operator};
use super::path::{Fields, JsonPath};
use crate::base::{MaskSet, Secret};
use std::collections::HashMap;
use std::sync::Arc;

/// One `[[mask]]` of the config.
#[derive(Clone, Debug)]
pub struct MaskSpec {
    /// Its name, for messages.
    pub name: String,
    /// What is looked for in all text.
    pub detect: Vec<Detector>,
    /// What is masked by its place, whatever it holds.
    pub fields: Vec<JsonPath>,
    /// Which columns of a database are masked, whatever they hold.
    pub columns: Vec<ColumnName>,
    /// What is promised of `columns`.
    pub level: Level,
    /// How; everything is redacted when nothing is said.
    pub operators: Operators,
    /// The secret of `hash`; must not be empty when `hash` is used.
    pub key: Secret,
}

/// A mask without a name that looks for nothing.
impl Default for MaskSpec {
    fn default() -> Self {
        Self {
            name: String::new(),
            detect: Vec::new(),
            fields: Vec::new(),
            columns: Vec::new(),
            level: Level::default(),
            operators: Operators::default(),
            key: Secret::new(Vec::new()),
        }
    }
}

/// The operators of a mask.
#[derive(Clone, Debug, Default)]
pub struct Operators {
    /// For entities without their own, and for fields and columns when theirs is not set.
    pub default: Option<Operator>,
    /// For one detector.
    pub each: Vec<(Detector, Operator)>,
    /// For all field rules.
    pub fields: Option<Operator>,
    /// For all columns.
    pub columns: Option<Operator>,
}

impl Operators {
    fn of(&self, detector: Detector) -> &Operator {
        self.each
            .iter()
            .find(|(of, _)| *of == detector)
            .map(|(_, operator)| operator)
            .or(self.default.as_ref())
            .unwrap_or(&Operator::Redact)
    }

    fn of_fields(&self) -> &Operator {
        self.fields.as_ref().or(self.default.as_ref()).unwrap_or(&Operator::Redact)
    }

    fn of_columns(&self) -> &Operator {
        self.columns.as_ref().or(self.default.as_ref()).unwrap_or(&Operator::Redact)
    }
}

/// What is to be masked and how; immutable and shared.
#[derive(Clone, Debug)]
pub struct Plan {
    entities: [Option<Act>; detector::COUNT],
    triggers: Triggers,
    fields: Fields,
    columns: ColumnRules,
    /// Nothing may pass that the plan is asked about.
    blocks_all: bool,
}

impl Plan {
    /// The plan that masks nothing.
    #[must_use]
    pub fn pass() -> Self {
        Self {
            entities: Default::default(),
            triggers: Triggers::default(),
            fields: Fields::default(),
            columns: ColumnRules::default(),
            blocks_all: false,
        }
    }

    /// All of `specs` together. Of two operators for one value the stricter wins: block, null,
    /// redact, replace, same_length, hash, keep_last, keep_first.
    ///
    /// # Errors
    /// A sentence that names the mask and what is wrong with it.
    pub fn compile(specs: &[MaskSpec]) -> Result<Self, String> {
        Self::unite(specs.iter())
    }

    fn unite<'a>(specs: impl Iterator<Item = &'a MaskSpec>) -> Result<Self, String> {
        let mut plan = Self::pass();
        for spec in specs {
            let wrong = |what: String| format!("mask `{}`: {what}", spec.name);
            for &found in &spec.detect {
                let operator = spec.operators.of(found);
                let act = act(operator, found.label(), found.name(), spec).map_err(wrong)?;
                if let Some(slot) = plan.entities.get_mut(found.index())
                    && slot
                        .as_ref()
                        .is_none_or(|old| operator.strictness() > old.operator.strictness())
                {
                    *slot = Some(act);
                }
            }
            for path in &spec.fields {
                let act = act(spec.operators.of_fields(), "[REDACTED]", "field", spec);
                plan.fields.add(path, act.map_err(wrong)?).map_err(wrong)?;
            }
            for name in &spec.columns {
                let act = act(spec.operators.of_columns(), "[REDACTED]", "column", spec);
                plan.columns.add(name, act.map_err(wrong)?, spec.level).map_err(wrong)?;
            }
        }
        if plan.detects() {
            plan.hide_tokens();
        }
        let on = |detector: Detector| plan.act(detector).is_some();
        plan.triggers = Triggers::new(on);
        Ok(plan)
    }

    /// Whether every body goes through as it is. Rows may not: see [`Self::has_columns`].
    #[must_use]
    pub fn is_pass(&self) -> bool {
        self.fields.is_empty() && !self.detects()
    }

    /// The columns that are masked, each once.
    #[must_use]
    pub fn columns(&self) -> &[ColumnRule] {
        self.columns.rules()
    }

    /// Whether columns are masked.
    #[must_use]
    pub fn has_columns(&self) -> bool {
        !self.columns().is_empty()
    }

    /// The strictest level of the masks that have columns; [`Level::Direct`] where none has.
    #[must_use]
    pub fn level(&self) -> Level {
        self.columns.level()
    }

    /// Whether the plan stands for masks that are not known: every cell of a row is blocked then.
    #[must_use]
    pub fn blocks_all(&self) -> bool {
        self.blocks_all
    }

    /// Whether a body of this content is as long masked as it came.
    #[must_use]
    pub fn keeps_length(&self, content: Content) -> bool {
        self.is_pass() || (self.only_stars() && !matches!(content, Content::Sse(_)))
    }

    fn only_stars(&self) -> bool {
        let same = |act: &Act| matches!(act.operator, Operator::SameLength | Operator::Block);
        self.entities.iter().flatten().all(same) && self.fields.acts().iter().all(same)
    }

    /// `logprobs` of a completion repeats a text token by token, where no detector sees a value.
    fn hide_tokens(&mut self) {
        let operator = if self.only_stars() { Operator::SameLength } else { Operator::Null };
        let act = Act::new(&operator, "", "field", b"").uncounted();
        if let Ok(path) = JsonPath::parse("$.choices[*].logprobs") {
            self.fields.add_built_in(&path, act);
        }
    }

    pub(super) fn detects(&self) -> bool {
        self.entities.iter().any(Option::is_some)
    }

    pub(super) fn act(&self, detector: Detector) -> Option<&Act> {
        self.entities.get(detector.index()).and_then(Option::as_ref)
    }

    pub(super) fn triggers(&self) -> &Triggers {
        &self.triggers
    }

    pub(super) fn fields(&self) -> &Fields {
        &self.fields
    }
}

fn act(operator: &Operator, label: &str, entity: &str, spec: &MaskSpec) -> Result<Act, String> {
    if *operator == Operator::Hash && spec.key.is_empty() {
        return Err("operator `hash` needs a key".to_owned());
    }
    Ok(Act::new(operator, label, entity, spec.key.expose()))
}

/// All masks of a config, and the plans that unite some of them.
#[derive(Debug)]
pub struct Plans {
    specs: Vec<MaskSpec>,
    pass: Arc<Plan>,
    /// By mask, each alone: what nearly every rule asks for.
    alone: Vec<Arc<Plan>>,
    united: std::sync::RwLock<HashMap<MaskSet, Arc<Plan>>>,
}

/// Unions kept; each is of masks that some rules of the config name together.
const UNITED_MAX: usize = 1_024;

impl Plans {
    /// Masks in the order of their [`MaskId`](crate::base::MaskId)s.
    ///
    /// # Errors
    /// As [`Plan::compile`]; all masks together must be a possible plan, so that every union is.
    pub fn new(specs: Vec<MaskSpec>) -> Result<Self, String> {
        if specs.len() > MaskSet::CAPACITY {
            return Err(format!("there are more than {} masks", MaskSet::CAPACITY));
        }
        Plan::compile(&specs)?;
        let alone = specs.iter().map(|spec| Plan::unite(std::iter::once(spec)).map(Arc::new));
        Ok(Self {
            alone: alone.collect::<Result<_, _>>()?,
            specs,
            pass: Arc::new(Plan::pass()),
            united: Default::default(),
        })
    }

    /// The plan for all masks of `set`; of several compiled on first use, then shared.
    ///
    /// An id that no mask has means a table of another config: everything is blocked then.
    #[must_use]
    pub fn united(&self, set: MaskSet) -> Arc<Plan> {
        if set.is_empty() {
            return Arc::clone(&self.pass);
        }
        let mut ids = set.iter();
        if let (Some(id), None) = (ids.next(), ids.next())
            && let Some(plan) = self.alone.get(id.index())
        {
            return Arc::clone(plan);
        }
        let known = self.united.read().ok().and_then(|map| map.get(&set).map(Arc::clone));
        if let Some(plan) = known {
            return plan;
        }
        let known = set.iter().all(|id| id.index() < self.specs.len());
        let specs = set.iter().filter_map(|id| self.specs.get(id.index()));
        let plan = match Plan::unite(specs) {
            Ok(plan) if known => plan,
            _ => block_all(),
        };
        let plan = Arc::new(plan);
        if let Ok(mut map) = self.united.write()
            && map.len() < UNITED_MAX
        {
            map.insert(set, Arc::clone(&plan));
        }
        plan
    }
}

/// A plan under which every JSON value, every entity and every cell ends the exchange.
#[cold]
fn block_all() -> Plan {
    debug_assert!(false, "a mask set that no config made");
    let mut plan = Plan { blocks_all: true, ..Plan::pass() };
    let block = Act::new(&Operator::Block, "", "field", b"");
    plan.entities = std::array::from_fn(|_| Some(block.clone()));
    if let Ok(path) = JsonPath::parse("$..*") {
        // One step into an empty table always has room.
        let _fits = plan.fields.add(&path, block);
    }
    plan.triggers = Triggers::new(|_| true);
    plan
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::base::MaskId;
    use crate::mask::Shape;

    fn spec(name: &str, detect: &[&str], operator: &str) -> MaskSpec {
        MaskSpec {
            name: name.to_owned(),
            detect: detect.iter().map(|d| Detector::parse(d).unwrap()).collect(),
            operators: Operators {
                default: Some(Operator::parse(operator).unwrap()),
                ..Default::default()
            },
            ..MaskSpec::default()
        }
    }

    fn columns(names: &[&str], level: Level, operator: &str) -> MaskSpec {
        let columns = names.iter().map(|name| ColumnName::parse(name).unwrap()).collect();
        MaskSpec { columns, level, ..spec("columns", &[], operator) }
    }

    #[test]
    fn united_columns_are_each_there_once_with_the_strictest_operator_and_level() {
        let (a, b) = ("public.t.a", "public.t.b");
        let specs = [
            spec("text", &["email"], "block"),
            columns(&[a, b, a], Level::Direct, "keep_last(2)"),
            columns(&[b], Level::Direct, "replace(\"x\")"),
        ];
        let plan = Plan::compile(&specs).unwrap();
        let shown = |plan: &Plan| {
            let rules = plan.columns().iter();
            rules.map(|rule| format!("{} {}", rule.name(), rule.operator())).collect::<Vec<_>>()
        };
        assert_eq!(shown(&plan), ["public.t.a keep_last(2)", "public.t.b replace(\"x\")"]);
        assert_eq!(plan.level(), Level::Direct, "a mask without columns has no say in it");
        let strict = columns(&[b], Level::DerivedClosed, "keep_first(2)");
        let plan = Plan::compile(&[specs.as_slice(), &[strict]].concat()).unwrap();
        assert_eq!(shown(&plan), ["public.t.a keep_last(2)", "public.t.b replace(\"x\")"]);
        assert_eq!(plan.level(), Level::DerivedClosed);
        let strictest = columns(&[b], Level::NoUse, "null");
        let plan = Plan::compile(&[strictest, columns(&[a], Level::Direct, "null")]).unwrap();
        assert_eq!(plan.level(), Level::NoUse);
    }

    #[test]
    fn a_plan_of_columns_only_leaves_bodies_alone() {
        let plan = Plan::compile(&[columns(&["a.b.c"], Level::Direct, "redact")]).unwrap();
        assert!(plan.is_pass() && plan.has_columns() && !plan.blocks_all());
        assert!(!Plan::pass().has_columns());
        let many: Vec<String> = (0..1_025).map(|place| format!("a.b.c{place}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let message = Plan::compile(&[columns(&many, Level::Direct, "redact")]).unwrap_err();
        assert!(message.contains("`a.b.c1024`: all masks together have more than 1024"));
        let hash = Plan::compile(&[columns(&["a.b.c"], Level::Direct, "hash")]).unwrap_err();
        assert_eq!(hash, "mask `columns`: operator `hash` needs a key");
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "a mask set that no config made"))]
    fn a_set_of_masks_that_are_not_known_blocks_every_cell() {
        let plans = Plans::new(vec![spec("a", &["email"], "redact")]).unwrap();
        assert!(plans.united(MaskSet::EMPTY.with(MaskId(3))).blocks_all());
    }

    #[test]
    fn the_strictest_operator_of_a_union_wins() {
        let specs = vec![
            spec("a", &["email", "pan"], "keep_last(4)"),
            spec("b", &["email"], "redact"),
            spec("c", &["email"], "keep_first(2)"),
        ];
        let plans = Plans::new(specs).unwrap();
        let set = MaskSet::EMPTY.with(MaskId(0)).with(MaskId(1)).with(MaskId(2));
        let plan = plans.united(set);
        assert_eq!(plan.act(Detector::Email).unwrap().operator, Operator::Redact);
        assert_eq!(plan.act(Detector::Pan).unwrap().operator, Operator::KeepLast(4));
        assert!(plan.act(Detector::Iban).is_none());
        assert!(Arc::ptr_eq(&plan, &plans.united(set)));
        assert!(plans.united(MaskSet::EMPTY).is_pass());
    }

    #[test]
    fn a_hash_without_a_key_is_refused_by_name() {
        let message = Plans::new(vec![spec("people", &["email"], "hash")]).unwrap_err();
        assert_eq!(message, "mask `people`: operator `hash` needs a key");
    }

    #[test]
    fn only_operators_that_keep_the_length_say_so() {
        let plan = |operator| Plan::compile(&[spec("a", &["email"], operator)]).unwrap();
        assert!(plan("same_length").keeps_length(Content::Json));
        assert!(!plan("same_length").keeps_length(Content::Sse(Shape::Plain)));
        assert!(!plan("redact").keeps_length(Content::Json));
        assert!(Plan::pass().keeps_length(Content::Opaque));
    }
}
