//! From columns to our types. What a column cannot hold by our own doing is an error, not a panic.

use std::str::FromStr;

use sojourn_core::time::Wall;
use sqlx::Decode;
use sqlx::Postgres;
use sqlx::Row as _;
use sqlx::Sqlite;
use sqlx::Type;

use crate::StoreError;
use crate::db::Row;

impl Row {
    fn get<T>(&self, name: &'static str) -> Result<T, StoreError>
    where
        T: for<'r> Decode<'r, Sqlite>
            + Type<Sqlite>
            + for<'r> Decode<'r, Postgres>
            + Type<Postgres>,
    {
        match self {
            Self::Sqlite(row) => row.try_get(name),
            Self::Postgres(row) => row.try_get(name),
        }
        .map_err(|_| StoreError::Impossible(name))
    }

    pub(crate) fn text(&self, name: &'static str) -> Result<String, StoreError> {
        self.get(name)
    }

    pub(crate) fn maybe_text(&self, name: &'static str) -> Result<Option<String>, StoreError> {
        self.get(name)
    }

    pub(crate) fn number(&self, name: &'static str) -> Result<i64, StoreError> {
        self.get(name)
    }

    pub(crate) fn maybe_number(&self, name: &'static str) -> Result<Option<i64>, StoreError> {
        self.get(name)
    }

    pub(crate) fn size(&self, name: &'static str) -> Result<Option<u64>, StoreError> {
        let number: Option<i64> = self.get(name)?;
        number.map(u64::try_from).transpose().map_err(|_| StoreError::Impossible(name))
    }

    pub(crate) fn time(&self, name: &'static str) -> Result<Wall, StoreError> {
        self.number(name).map(Wall)
    }

    pub(crate) fn maybe_time(&self, name: &'static str) -> Result<Option<Wall>, StoreError> {
        let number: Option<i64> = self.get(name)?;
        Ok(number.map(Wall))
    }

    pub(crate) fn parsed<T: FromStr>(&self, name: &'static str) -> Result<T, StoreError> {
        self.text(name)?.parse().map_err(|_| StoreError::Impossible(name))
    }

    pub(crate) fn maybe_parsed<T: FromStr>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, StoreError> {
        let text = self.maybe_text(name)?;
        text.map(|text| text.parse()).transpose().map_err(|_| StoreError::Impossible(name))
    }
}

/// A size as a column holds it.
pub(crate) fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Refuses a text that is longer than it may be.
pub(crate) fn bounded(what: &'static str, text: &str, limit: usize) -> Result<(), StoreError> {
    if text.len() > limit { Err(StoreError::TooLong { what, limit }) } else { Ok(()) }
}
