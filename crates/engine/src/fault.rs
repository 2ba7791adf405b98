//! What a refusal of the store means to whoever asked, for doors that do not know the store.

use sojourn_store::StoreError;

/// Whose the fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is one like it already, or there are too many.
    Conflict,
    /// There is none.
    Missing,
    /// The store's own.
    Unavailable,
}

impl Fault {
    /// Whose this one is.
    #[must_use]
    pub const fn of(error: &StoreError) -> Self {
        match error {
            StoreError::Taken
            | StoreError::LastAdmin
            | StoreError::Exists(_)
            | StoreError::TooMany { .. }
            | StoreError::TooLong { .. } => Self::Conflict,
            StoreError::Missing(_) => Self::Missing,
            _ => Self::Unavailable,
        }
    }
}
