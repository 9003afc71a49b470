//! Why a text has no statements.

/// Why a text was refused. Every variant is the caller's fault but [`SqlError::Tree`].
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SqlError {
    /// Longer than [`super::SqlLimits::text_max`] bytes.
    TooLong,
    /// A NUL byte, which ends a text on the wire.
    Nul,
    /// No UTF-8.
    Encoding,
    /// The grammar refuses it.
    Syntax {
        /// The parser's message; it may quote a word of the text, so it is for the caller alone.
        message: Box<str>,
    },
    /// Nested more than [`super::SqlLimits::depth_max`] levels.
    TooDeep,
    /// The tree is not as the parser's headers say.
    Tree,
}

impl SqlError {
    pub(super) fn from_parser(error: pg_raw_parse::Error) -> Self {
        match error {
            pg_raw_parse::Error::Parse(error) => Self::Syntax { message: error.to_string().into() },
            pg_raw_parse::Error::StatementContainedNul(_) => Self::Nul,
            pg_raw_parse::Error::PgError(_) => Self::Tree,
        }
    }
}

/// Prints no word of the text.
impl std::fmt::Debug for SqlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TooLong => "TooLong",
            Self::Nul => "Nul",
            Self::Encoding => "Encoding",
            Self::Syntax { .. } => "Syntax",
            Self::TooDeep => "TooDeep",
            Self::Tree => "Tree",
        })
    }
}
