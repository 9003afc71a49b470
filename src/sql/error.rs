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
        /// Where, in characters from 1; 0 where the parser names no place.
        position: u32,
    },
    /// Nested more than [`super::SqlLimits::depth_max`] levels.
    TooDeep,
    /// The tree is not as the parser's headers say.
    Tree,
}

/// Prints no word of the text.
impl std::fmt::Debug for SqlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TooLong => "TooLong",
            Self::Nul => "Nul",
            Self::Encoding => "Encoding",
            Self::Syntax { position, .. } => return write!(f, "Syntax(at {position})"),
            Self::TooDeep => "TooDeep",
            Self::Tree => "Tree",
        })
    }
}
