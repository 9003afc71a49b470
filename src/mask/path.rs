//! Field rules: JSON paths, and all of a plan's paths as one automaton.
//!
//! A path is a list of steps. The automaton's states are the steps of all paths in a row; the set
//! of states at a container says which steps may be taken from there. It has one `u64` word for
//! each 64 steps, four at most, and lives on the stack of the walk.

use super::operator::Act;

/// A JSON path of a field rule: `$.user.email`, `$..ssn`, `$.items[*].card`, `$.rows[0]['a.b']`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath {
    text: String,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    /// The step may be taken at any depth below.
    deep: bool,
    to: To,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum To {
    Key(Box<str>),
    Index(u64),
    Any,
}

/// A key of a rule is no longer than this.
pub(super) const KEY_LEN_MAX: usize = 256;
/// Steps of all field rules together.
const STEPS_MAX: usize = 256;

impl JsonPath {
    /// Reads a path.
    ///
    /// # Errors
    /// A sentence that says what is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |at: usize, what: &str| format!("field path `{text}`, byte {at}: {what}");
        let mut rest = text.strip_prefix('$').ok_or_else(|| wrong(0, "a path begins with `$`"))?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let at = text.len() - rest.len();
            let (deep, tail) = match rest.strip_prefix("..") {
                Some(tail) => (true, tail),
                None => (false, rest.strip_prefix('.').unwrap_or(rest)),
            };
            let dotted = tail.len() < rest.len();
            let (to, tail) = if let Some(inner) = tail.strip_prefix('[') {
                if dotted && !deep {
                    return Err(wrong(at, "`.[` is not a step; write `[` alone"));
                }
                bracket(inner).map_err(|what| wrong(at, what))?
            } else if dotted {
                let len = tail.find(['.', '[']).unwrap_or(tail.len());
                let (name, tail) = tail.split_at(len);
                match name {
                    "" => return Err(wrong(at, "a name is missing")),
                    "*" => (To::Any, tail),
                    name if name.contains([']', '\'', '"', '*', ' ']) => {
                        return Err(wrong(at, "write such a name as ['name']"));
                    }
                    name => (To::Key(name.into()), tail),
                }
            } else {
                return Err(wrong(at, "expected `.`, `..` or `[`"));
            };
            if let To::Key(key) = &to
                && key.len() > KEY_LEN_MAX
            {
                return Err(wrong(at, "the name is longer than 256 bytes"));
            }
            steps.push(Step { deep, to });
            rest = tail;
        }
        if steps.is_empty() {
            return Err(wrong(1, "a path names something below `$`"));
        }
        Ok(Self { text: text.to_owned(), steps })
    }

    /// The path as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How many steps it has.
    pub(super) fn len(&self) -> usize {
        self.steps.len()
    }
}

fn bracket(inner: &str) -> Result<(To, &str), &'static str> {
    for quote in ['\'', '"'] {
        if let Some(name) = inner.strip_prefix(quote) {
            let end = name.find(quote).ok_or("the closing quote is missing")?;
            let (name, tail) = name.split_at(end);
            let tail = tail.get(1..).and_then(|tail| tail.strip_prefix(']'));
            return Ok((To::Key(name.into()), tail.ok_or("the closing `]` is missing")?));
        }
    }
    let (inside, tail) = inner.split_once(']').ok_or("the closing `]` is missing")?;
    match inside.trim() {
        "*" => Ok((To::Any, tail)),
        digits => match digits.parse() {
            Ok(index) => Ok((To::Index(index), tail)),
            Err(_) => Err("between `[` and `]` stands a number, `*` or a name in quotes"),
        },
    }
}

/// A set of steps that may be taken from a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct States([u64; STEPS_MAX / 64]);

impl States {
    pub(super) fn is_empty(&self) -> bool {
        self.0 == [0; STEPS_MAX / 64]
    }

    fn add(&mut self, state: usize) {
        if let Some(word) = self.0.get_mut(state / 64) {
            *word |= 1 << (state % 64);
        }
    }

    fn for_each(&self, mut each: impl FnMut(usize)) {
        for (place, word) in self.0.iter().enumerate() {
            let mut word = *word;
            while word != 0 {
                each(place * 64 + word.trailing_zeros() as usize);
                word &= word - 1;
            }
        }
    }
}

/// How a container's child is reached.
#[derive(Clone, Copy, Debug)]
pub(super) enum Child<'a> {
    Key(&'a [u8]),
    /// A name too long to be that of a rule.
    LongKey,
    Index(u64),
}

/// All field rules of a plan.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    steps: Vec<(Step, Option<usize>)>,
    starts: States,
    acts: Vec<Act>,
    /// Steps of rules that no config named.
    built_in: usize,
}

/// Room beside the rules of a config.
const BUILT_IN_MAX: usize = 8;

impl Fields {
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether a config named rules.
    pub(super) fn has_rules(&self) -> bool {
        self.steps.len() > self.built_in
    }

    pub(super) fn acts(&self) -> &[Act] {
        &self.acts
    }

    /// Adds a rule.
    ///
    /// # Errors
    /// When all rules together have too many steps.
    pub(super) fn add(&mut self, path: &JsonPath, act: Act) -> Result<(), String> {
        const MAX: usize = STEPS_MAX - BUILT_IN_MAX;
        if self.steps.len() + path.len() > MAX {
            return Err(format!(
                "field path `{}`: all field paths together have more than {MAX} steps",
                path.text
            ));
        }
        self.push(path, act);
        Ok(())
    }

    /// Adds a rule of the program's own, after all others.
    pub(super) fn add_built_in(&mut self, path: &JsonPath, act: Act) {
        debug_assert!(self.built_in + path.len() <= BUILT_IN_MAX);
        self.built_in += path.len();
        self.push(path, act);
    }

    fn push(&mut self, path: &JsonPath, act: Act) {
        self.starts.add(self.steps.len());
        let last = path.steps.len().saturating_sub(1);
        for (place, step) in path.steps.iter().enumerate() {
            self.steps.push((step.clone(), (place == last).then_some(self.acts.len())));
        }
        self.acts.push(act);
    }

    /// The states at the root value.
    pub(super) fn starts(&self) -> States {
        self.starts
    }

    /// The states at a child, and the strictest rule that names it.
    pub(super) fn enter(&self, from: &States, child: Child<'_>) -> (States, Option<&Act>) {
        let mut states = States::default();
        let mut rule: Option<&Act> = None;
        from.for_each(|state| {
            let Some((step, ends)) = self.steps.get(state) else { return };
            if step.deep {
                states.add(state);
            }
            let taken = match (&step.to, child) {
                (To::Any, _) => true,
                (To::Key(key), Child::Key(name)) => key.as_bytes() == name,
                (To::Index(index), Child::Index(at)) => *index == at,
                _ => false,
            };
            if !taken {
                return;
            }
            let Some(ends) = ends else { return states.add(state + 1) };
            if let Some(act) = self.acts.get(*ends)
                && rule.is_none_or(|r| act.operator.strictness() > r.operator.strictness())
            {
                rule = Some(act);
            }
        });
        (states, rule)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::mask::Operator;

    #[test]
    fn a_path_reads_or_says_what_is_wrong() {
        for good in
            ["$..ssn", "$.a.b[*].c", "$[0]", "$['a.b']..[*]", "$.*", "$.a[\"b]\"]", "$..[2].x"]
        {
            assert_eq!(JsonPath::parse(good).unwrap().as_str(), good);
        }
        for (bad, says) in [
            ("ssn", "begins with `$`"),
            ("$", "below `$`"),
            ("$.", "name is missing"),
            ("$.a..", "name is missing"),
            ("$a", "expected `.`"),
            ("$.a[", "closing `]`"),
            ("$.a[x]", "a number"),
            ("$.a['b]", "closing quote"),
            ("$.[0]", "`.[`"),
            ("$.a b", "['name']"),
        ] {
            let message = JsonPath::parse(bad).unwrap_err();
            assert!(message.contains(says), "{bad}: {message}");
        }
    }

    #[test]
    fn deep_steps_stay_and_the_strictest_rule_wins() {
        let mut fields = Fields::default();
        let act = |op: &Operator| Act::new(op, "[REDACTED]", "field", b"k");
        fields.add(&JsonPath::parse("$..ssn").unwrap(), act(&Operator::KeepLast(4))).unwrap();
        fields.add(&JsonPath::parse("$.a[1].ssn").unwrap(), act(&Operator::Null)).unwrap();
        let at_root = fields.starts();
        let (at_a, rule) = fields.enter(&at_root, Child::Key(b"a"));
        assert!(rule.is_none());
        let (at_1, _) = fields.enter(&at_a, Child::Index(1));
        let (_, rule) = fields.enter(&at_1, Child::Key(b"ssn"));
        assert_eq!(rule.unwrap().operator, Operator::Null);
        let (at_0, _) = fields.enter(&at_a, Child::Index(0));
        let (_, rule) = fields.enter(&at_0, Child::Key(b"ssn"));
        assert_eq!(rule.unwrap().operator, Operator::KeepLast(4));
        assert!(fields.enter(&at_0, Child::LongKey).1.is_none());
    }
}
