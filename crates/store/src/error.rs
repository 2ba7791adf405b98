//! What can go wrong with the store, told so that an operator knows what to do.

use std::path::PathBuf;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be made or opened.
    #[error("{path}: cannot be opened")]
    Open {
        /// The database file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is something else, or damaged.
    #[error("the database is damaged or not a database of this program; restore it from a backup")]
    NotADatabase,
    /// Made by a later version of the program.
    #[error(
        "the database has schema {found}, and this version knows up to {known}; \
         use the newer version of sojourn that made it"
    )]
    Newer {
        /// The schema's number.
        found: i64,
        /// The highest this build knows.
        known: i64,
    },
    /// Another program holds the database for too long.
    #[error("the database is locked by another program")]
    Locked,
    /// No room left.
    #[error("the disk is full: the database cannot be written")]
    Full,
    /// The file or its directory cannot be written.
    #[error("the database cannot be written; check who owns it and its directory")]
    ReadOnly,
    /// The name is taken.
    #[error("there is already {0}")]
    Exists(String),
    /// Nothing of that name or id.
    #[error("there is no {0}")]
    Missing(String),
    /// A bound is reached.
    #[error("there can be no more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there can be.
        limit: usize,
    },
    /// A text is longer than its column may hold.
    #[error("{what} is longer than {limit} bytes")]
    TooLong {
        /// Which.
        what: &'static str,
        /// How long it may be.
        limit: usize,
    },
    /// A row holds what this program never writes.
    #[error("the database holds an impossible {0}")]
    Impossible(&'static str),
    /// Anything else the database says.
    #[error("the database does not answer")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// Whether the request was at fault, and not the database.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Exists(_) | Self::Missing(_) | Self::TooMany { .. } | Self::TooLong { .. }
        )
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = match &error {
            sqlx::Error::Database(database) => database.code().and_then(|code| code.parse().ok()),
            sqlx::Error::PoolTimedOut => return Self::Locked,
            _ => None,
        };
        // The low byte of an extended result code is the primary one: sqlite.org/rescode.html.
        match code.map(|code: u32| code & 0xff) {
            Some(5 | 6) => Self::Locked,
            Some(8) => Self::ReadOnly,
            Some(11 | 26) => Self::NotADatabase,
            Some(13) => Self::Full,
            _ => Self::Other(Box::new(error)),
        }
    }
}
