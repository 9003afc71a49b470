//! What one statement does, as data.

use super::{Kind, Kinds};

/// A name as the server reads it: folded, unquoted, cut to 63 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The schema that the text names, if it names one. A database before it is left out: the
    /// server refuses any but its own.
    pub schema: Option<Box<str>>,
    /// The name itself.
    pub name: Box<str>,
}

impl Name {
    pub(super) fn new(schema: Option<&str>, name: &str) -> Self {
        Self { schema: schema.map(Into::into), name: name.into() }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A table (or view, sequence, ...) that a statement touches. The name of a CTE is none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access {
    /// The kind of the sub-statement that it stands in.
    pub kind: Kind,
    /// Which.
    pub table: Name,
    /// Whether rows or the definition change, or rows are locked (`FOR UPDATE` and its kin:
    /// the server asks for the right to update).
    pub write: bool,
}

/// A function that a statement calls, or that it makes the server call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Function {
    /// Which; for an operator with a schema its sign stands for the name.
    pub name: Name,
    /// A built-in of `pg_catalog` without effect beyond its result, and which reads nothing but
    /// its arguments and the catalog: see [`super::is_plain`].
    pub plain: bool,
}

/// What a statement does with columns, as far as names tell.
///
/// A function in the notation of a column, `t.f`, is in `used` by its name: who guards columns
/// refuses a name that is no column of the tables it knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// Columns that are used otherwise than as an output of the outermost query, with their tables as
    /// [`named`](Self::named) has them.
    pub used: Vec<(Option<Name>, Box<str>)>,
    /// Columns may be used that are not named: a whole row in an expression, a star in a query
    /// within, NATURAL JOIN, a list of new names, COPY of a table.
    pub whole: bool,
    /// ON CONFLICT asks whether values are there already, and does not name their columns.
    pub conflicts: bool,
    /// Columns that are named anywhere, read or written, with the table where the name before them tells
    /// which; else any table of the statement may have it. Outputs of queries within are left out where
    /// the name before them tells that they are such. Sorted, each once.
    pub named: Vec<(Option<Name>, Box<str>)>,
    /// Columns are read or written that are not named: a star, a whole row, NATURAL JOIN, new names for
    /// columns of a table, INSERT and COPY without a list, ON CONFLICT without columns.
    pub unnamed: bool,
    /// For each output of the outermost query whether it is the same whatever the rows hold
    /// (constants, `count(*)`, ...); `None` where the text does not tell how many there are.
    pub outputs: Option<Vec<bool>>,
    /// The outermost query has outputs: a SELECT, or a write with RETURNING. A write without gives out
    /// no row, unless a rewrite rule of the database adds some.
    pub returns: bool,
}

/// A call of `set_config`: SET by another name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Setting {
    /// The setting, in lower case; `None` when the text does not tell.
    pub name: Option<Box<str>>,
    /// The value; `None` when the text does not tell.
    pub value: Option<Box<str>>,
}

/// What a statement does to the state of its session or to the protocol.
///
/// Names of settings are in lower case, as the server compares them so; names of statements,
/// cursors and channels are as the server folds them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Act {
    /// Nothing: SELECT, INSERT, UPDATE, DELETE, MERGE.
    None,
    /// BEGIN, START TRANSACTION; `READ ONLY` and `READ WRITE` where they are said.
    Begin {
        /// `Some(true)` for READ ONLY, `Some(false)` for READ WRITE.
        read_only: Option<bool>,
    },
    /// COMMIT, END.
    Commit {
        /// AND CHAIN: another transaction begins.
        chain: bool,
    },
    /// ROLLBACK, ABORT.
    Rollback {
        /// AND CHAIN: another transaction begins.
        chain: bool,
    },
    /// SAVEPOINT.
    Savepoint {
        /// Its name.
        name: Box<str>,
    },
    /// RELEASE SAVEPOINT.
    Release {
        /// Its name.
        name: Box<str>,
    },
    /// ROLLBACK TO SAVEPOINT.
    RollbackTo {
        /// Its name.
        name: Box<str>,
    },
    /// PREPARE TRANSACTION.
    PrepareTransaction,
    /// COMMIT PREPARED, ROLLBACK PREPARED: a transaction of any session ends.
    EndPrepared {
        /// COMMIT.
        commit: bool,
    },
    /// SET TRANSACTION, SET SESSION CHARACTERISTICS AS TRANSACTION.
    SetTransaction {
        /// SESSION CHARACTERISTICS: for all transactions to come.
        session: bool,
        /// `Some(true)` for READ ONLY, `Some(false)` for READ WRITE.
        read_only: Option<bool>,
        /// SET TRANSACTION SNAPSHOT.
        snapshot: bool,
    },
    /// SET of a setting; SET ROLE is `role`, SET SESSION AUTHORIZATION `session_authorization`,
    /// SET NAMES `client_encoding`, SET TIME ZONE `timezone`.
    Set {
        /// The setting.
        name: Box<str>,
        /// What the server will store, where it is made of literals alone; the elements of a
        /// list are joined by `, `, and quoted where the server does so (`search_path`).
        value: Option<Box<str>>,
        /// SET LOCAL.
        local: bool,
    },
    /// RESET, `SET name TO DEFAULT`; without a name RESET ALL.
    Reset {
        /// The setting.
        name: Option<Box<str>>,
    },
    /// SHOW; without a name SHOW ALL.
    Show {
        /// The setting.
        name: Option<Box<str>>,
    },
    /// PREPARE: the statement's kinds, tables and functions are those of what is prepared.
    Prepare {
        /// The statement's name.
        name: Box<str>,
    },
    /// EXECUTE, also within EXPLAIN or CREATE TABLE AS: runs what PREPARE or Parse named.
    Execute {
        /// The statement's name.
        name: Box<str>,
        /// What it is run with: the texts of literals that are strings, whole numbers or booleans;
        /// `None` for anything else.
        arguments: Box<[Option<Box<str>>]>,
    },
    /// DEALLOCATE; without a name ALL.
    Deallocate {
        /// The statement's name.
        name: Option<Box<str>>,
    },
    /// DECLARE CURSOR: the kinds, tables and functions are those of the query.
    Declare {
        /// The cursor's name.
        name: Box<str>,
        /// WITH HOLD.
        hold: bool,
    },
    /// FETCH, MOVE: runs on what DECLARE, or Bind, named.
    Fetch {
        /// The cursor's name.
        name: Box<str>,
        /// MOVE: no rows come.
        skip: bool,
    },
    /// CLOSE; without a name ALL.
    ClosePortal {
        /// The cursor's name.
        name: Option<Box<str>>,
    },
    /// DISCARD ALL, PLANS, SEQUENCES, TEMP.
    Discard {
        /// ALL: settings, prepared statements and cursors go.
        all: bool,
    },
    /// LISTEN.
    Listen {
        /// The channel.
        channel: Box<str>,
    },
    /// UNLISTEN; without a channel `*`.
    Unlisten {
        /// The channel.
        channel: Option<Box<str>>,
    },
    /// NOTIFY.
    Notify {
        /// The channel.
        channel: Box<str>,
    },
    /// COPY; PROGRAM and a server's file have the kind [`Kind::Unknown`] as well.
    Copy {
        /// From the server to the caller.
        out: bool,
        /// Runs a program on the server.
        program: bool,
        /// Reads or writes a file of the server.
        file: bool,
    },
    /// EXPLAIN; the kinds of what is explained count whether or not it runs.
    Explain {
        /// ANALYZE: it runs.
        analyze: bool,
    },
    /// What has no name here: see the kinds.
    Other,
}

/// One statement of a text, and all that it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The kinds of the statement and of every sub-statement within it. Never empty.
    pub kinds: Kinds,
    /// Every table that is named and is no CTE; sorted, each once.
    pub accesses: Vec<Access>,
    /// Every function that is named; sorted, each once.
    pub functions: Vec<Function>,
    /// Types of a schema other than `pg_catalog` that the text names with the schema; sorted.
    pub types: Vec<Name>,
    /// What it does with columns.
    pub columns: Columns,
    /// Calls of `set_config`, at any depth, as they come.
    pub settings: Vec<Setting>,
    /// An UPDATE or DELETE without WHERE, at any depth, or a TRUNCATE.
    pub missing_where: bool,
    /// What it does to its session.
    pub act: Act,
    /// Where it starts in the text, in bytes, behind white space and comments.
    pub start: u32,
    /// Its length up to the semicolon, or the end of the text.
    pub len: u32,
}

impl Statement {
    pub(super) fn new(start: u32, len: u32) -> Self {
        Self {
            kinds: Kinds::default(),
            accesses: Vec::new(),
            functions: Vec::new(),
            types: Vec::new(),
            columns: Columns::default(),
            settings: Vec::new(),
            missing_where: false,
            act: Act::None,
            start,
            len,
        }
    }

    /// Whether it is a SELECT and nothing else, as far as the text tells: nothing is changed, locked
    /// or set by it, and it calls plain functions only.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        self.kinds.iter().all(|kind| kind == Kind::Select)
            && self.act == Act::None
            && self.settings.is_empty()
            && !self.accesses.iter().any(|access| access.write)
            && self.functions.iter().all(|function| function.plain)
    }

    /// Whether a kind that no pattern may let through is in it.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.kinds.contains(Kind::Unknown)
    }
}
