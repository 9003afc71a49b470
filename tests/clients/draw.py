"""Random statements over a few tables, from a seed: for checks that compare two answers."""

import random

# Two databases with this schema and other words in `secret` and `pin` are what no caller may tell apart.
SCHEMA = """
create table t (id int primary key, a int, b text, secret text, pin int);
create table u (id int primary key, t int, note text, secret text);
create view v as select id, a, secret as shown from t;
create table p (id int, k int, secret text) partition by list (k);
create table p_1 partition of p for values in (1);
create table p_2 partition of p for values in (2);
insert into t select n, n % 7, 'b' || n % 5, 'secret {word} ' || (n * {step}) % 11, (n * {step}) % 13 from generate_series(1, 40) n;
insert into u select n, 1 + n % 40, 'note ' || n % 6, 'other ' || n % 4 from generate_series(1, 60) n;
insert into p select n, 1 + n % 2, 'part {word} ' || (n * {step}) % 5 from generate_series(1, 20) n;
"""

NUMBERS = {"t": ["id", "a"], "u": ["id", "t"], "v": ["id", "a"], "p": ["id", "k"], "p_1": ["id", "k"], "p_2": ["id"]}
TEXTS = {"t": ["b"], "u": ["note", "secret"], "v": [], "p": [], "p_1": [], "p_2": []}
# Columns that a rule or a mask is about, and how often one is drawn in the place of another.
GUARDED_NUMBERS = {"t": ["pin"]}
GUARDED_TEXTS = {"t": ["secret"], "v": ["shown"], "p": ["secret"], "p_1": ["secret"], "p_2": ["secret"]}
GUARDED = 0.09


class Draw:
    def __init__(self, seed):
        self.dice = random.Random(seed)

    def one(self, *ways):
        return self.dice.choice(ways)()

    def chance(self, share):
        return self.dice.random() < share

    def column(self, scope, plain, guarded):
        alias, table = self.dice.choice(scope)
        names = guarded.get(table, []) if self.chance(GUARDED) else plain[table]
        name = self.dice.choice(names or plain[table] or NUMBERS[table])
        return name if self.chance(0.2) else f"{alias}.{name}"

    def number(self, scope, depth=2):
        leaf = [lambda: self.column(scope, NUMBERS, GUARDED_NUMBERS), lambda: str(self.dice.randint(0, 9))]
        if depth == 0:
            return self.one(*leaf)
        return self.one(
            *leaf, *leaf, *leaf,
            lambda: f"length({self.text(scope, depth - 1)})",
            lambda: f"({self.number(scope, depth - 1)} + {self.number(scope, depth - 1)})",
            lambda: f"coalesce({self.number(scope, depth - 1)}, 0)",
            lambda: f"case when {self.condition(scope, depth - 1)} then {self.number(scope, 0)} else 0 end",
            lambda: self.scalar(scope, depth - 1, lambda inner: f"count({self.number(inner, 0)})"),
        )

    def text(self, scope, depth=2):
        leaf = [lambda: self.column(scope, TEXTS, GUARDED_TEXTS) + "::text", lambda: self.word()]
        if depth == 0:
            return self.one(*leaf)
        ways = [
            *leaf, *leaf, *leaf,
            lambda: f"upper({self.text(scope, depth - 1)})",
            lambda: f"({self.text(scope, depth - 1)} || {self.text(scope, depth - 1)})",
            lambda: f"{self.number(scope, depth - 1)}::text",
            lambda: self.scalar(scope, depth - 1, lambda inner: f"max({self.text(inner, 0)})"),
        ]
        if self.chance(0.08):
            alias = self.dice.choice(scope)[0]
            ways = [lambda: f"{alias}::text", lambda: f"row_to_json({alias})::text", lambda: f"{alias}.row_to_json::text"]
        return self.one(*ways)

    def word(self):
        word = self.dice.choice(["b", "note ", "secret red ", "secret blue ", "part red "])
        return f"'{word}{self.dice.randint(0, 9)}'"

    def told(self, scope):
        """What a guarded column holds, asked straight away."""
        alias, table = self.dice.choice(scope)
        if GUARDED_TEXTS.get(table) and self.chance(0.7):
            return f"{alias}.{GUARDED_TEXTS[table][0]} {self.dice.choice('<>=')} {self.word()}"
        return f"{alias}.pin < {self.dice.randint(3, 9)}" if table == "t" else "true"

    def condition(self, scope, depth=2):
        if self.chance(0.04):
            return self.told(scope)
        ways = [
            lambda: f"{self.text(scope, depth)} = {self.text(scope, depth)}",
            lambda: f"{self.text(scope, depth)} < {self.text(scope, depth)}",
            lambda: f"{self.text(scope, depth)} like '%{self.dice.choice('be1')}%'",
            lambda: f"{self.number(scope, depth)} < {self.number(scope, depth)}",
            lambda: f"{self.number(scope, depth)} is not null",
        ]
        if depth:
            ways += [
                lambda: f"({self.condition(scope, depth - 1)} and {self.condition(scope, depth - 1)})",
                lambda: f"not {self.condition(scope, depth - 1)}",
                lambda: f"exists {self.scalar(scope, depth - 1, lambda inner: '1')}",
                lambda: f"{self.number(scope, 0)} in {self.scalar(scope, depth - 1, lambda inner: self.number(inner, 0))}",
            ]
        return self.one(*ways)

    def scalar(self, scope, depth, output):
        inner = [(f"s{depth}", self.dice.choice(list(NUMBERS)))]
        where = self.condition(inner + scope, 0)
        return f"(select {output(inner)} from {inner[0][1]} {inner[0][0]} where {where})"

    def source(self):
        """FROM, and what it brings into scope."""
        first = self.dice.choice(["t", "t", "t", "u", "v", "p", "p_1", "p_2"])
        scope = [("x", first)]
        if self.chance(0.6):
            return f"{first} x", scope
        if self.chance(0.3):
            columns = ", ".join(dict.fromkeys(self.column(scope, NUMBERS, GUARDED_NUMBERS).split(".")[-1] for _ in range(2)))
            return f"(select {columns}, id as n from {first}) x", [("x", "p_2")]
        second = self.dice.choice(["t", "u", "p"])
        scope.append(("y", second))
        on = "x.id = y.id" if self.chance(0.8) else self.condition(scope, 1)
        return f"{first} x {self.dice.choice(['', 'left '])}join {second} y on {on}", scope

    def outputs(self, scope):
        def output():
            if self.chance(0.25):
                alias, table = self.dice.choice(scope)
                guarded = GUARDED_TEXTS.get(table, []) + GUARDED_NUMBERS.get(table, [])
                return f"{alias}.{self.dice.choice(guarded or NUMBERS[table])}"
            return self.one(lambda: self.number(scope), lambda: self.text(scope))

        if self.chance(0.08):
            return self.dice.choice(["*", "x.*", "count(*)"])
        return ", ".join(output() for _ in range(self.dice.randint(1, 3)))

    def select(self):
        source, scope = self.source()
        text = f"select {'distinct ' if self.chance(0.07) else ''}{self.outputs(scope)} from {source}"
        if self.chance(0.6):
            text += f" where {self.condition(scope)}"
        if self.chance(0.5):
            text += f" order by {self.number(scope, 1)}, x.id"
        if self.chance(0.2):
            text += f" limit {self.dice.randint(1, 9)}"
        return text

    def grouped(self):
        source, scope = self.source()
        key = self.number(scope, 1)
        value = self.one(lambda: f"max({self.text(scope, 1)})", lambda: f"sum({self.number(scope, 1)})", lambda: "count(*)")
        text = f"select {value} from {source} group by {key}"
        if self.chance(0.3):
            text += f" having count({self.number(scope, 0)}) > 1"
        return text + (" order by 1" if self.chance(0.5) else "")

    def within(self):
        scope = [("x", "t")]
        query = f"select x.id as id, {self.number(scope, 1)} as a, {self.text(scope, 1)} as b from t x"
        kind = self.dice.choice(["with q as ({}) select q.id, q.a, q.b from q order by q.id", "select q.a from ({}) q order by q.id"])
        return kind.format(query)

    def joined(self):
        arms = []
        for _ in range(2):
            scope = [("x", self.dice.choice(["t", "u", "p"]))]
            arms.append(f"select {self.number(scope, 1)}, {self.text(scope, 0)} from {scope[0][1]} x")
        return f" {self.dice.choice(['union', 'union all', 'except', 'intersect'])} ".join(arms)

    def window(self):
        scope = [("x", "t")]
        return f"select x.id, sum({self.number(scope, 1)}) over (order by {self.number(scope, 0)}, x.id) from t x order by x.id"

    def update(self):
        scope = [("x", self.dice.choice(["t", "p", "p_1"]))]
        sets = [f"a = {self.number(scope, 1)}", f"b = {self.text(scope, 1)}"] if scope[0][1] == "t" else [f"id = {self.number(scope, 1)}"]
        if self.chance(0.15):
            sets = ["secret = 'new'"]
        text = f"update {scope[0][1]} x set {self.dice.choice(sets)} where {self.condition(scope, 1)}"
        return text + (f" returning {self.outputs(scope)}" if self.chance(0.5) else "")

    def delete(self):
        scope = [("x", self.dice.choice(["t", "p", "p_2"]))]
        text = f"delete from {scope[0][1]} x where {self.condition(scope, 1)}"
        return text + (f" returning {self.outputs(scope)}" if self.chance(0.5) else "")

    def insert(self):
        columns = self.dice.choice(["(id, a)", "(id, b)", "(id, secret)", ""])
        conflict = self.dice.choice(["", " on conflict (id) do nothing", " on conflict (id) do update set a = excluded.id"])
        back = self.dice.choice(["", " returning id", " returning t.secret", " returning *"])
        value = "1" if columns == "(id, a)" else "'x'"
        return f"insert into t {columns} values ({self.dice.randint(30, 60)}, {value}){conflict}{back}"

    def statement(self):
        reads = [self.select] * 6 + [self.grouped, self.within, self.joined, self.window]
        text = self.one(*reads, self.update, self.delete, self.insert)
        return f"explain (costs off) {text}" if self.chance(0.03) else text
