//! From columns to our types. What a column cannot hold by our own doing is an error, not a panic.

use std::str::FromStr;

use sojourn_core::time::Wall;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::StoreError;

/// A row whose columns are asked for by name.
pub(crate) struct Columns<'r>(pub(crate) &'r SqliteRow);

impl Columns<'_> {
    pub(crate) fn text(&self, name: &'static str) -> Result<String, StoreError> {
        Ok(self.0.try_get(name)?)
    }

    pub(crate) fn maybe_text(&self, name: &'static str) -> Result<Option<String>, StoreError> {
        Ok(self.0.try_get(name)?)
    }

    pub(crate) fn number(&self, name: &'static str) -> Result<i64, StoreError> {
        Ok(self.0.try_get(name)?)
    }

    pub(crate) fn size(&self, name: &'static str) -> Result<Option<u64>, StoreError> {
        let number: Option<i64> = self.0.try_get(name)?;
        number.map(u64::try_from).transpose().map_err(|_| StoreError::Impossible(name))
    }

    pub(crate) fn time(&self, name: &'static str) -> Result<Wall, StoreError> {
        self.number(name).map(Wall)
    }

    pub(crate) fn maybe_time(&self, name: &'static str) -> Result<Option<Wall>, StoreError> {
        let number: Option<i64> = self.0.try_get(name)?;
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
