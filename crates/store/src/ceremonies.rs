//! Ceremonies: between the first step of signing in and the last.

use sojourn_core::ids::UserId;
use sojourn_core::time::Wall;

use crate::Store;
use crate::StoreError;
use crate::db::args;
use crate::sql;

/// The most ceremonies of one account; the oldest goes.
pub const MAX_CEREMONIES: usize = 32;

/// A ceremony that begins.
#[derive(Clone, Copy, Debug)]
pub struct NewCeremony<'a> {
    /// The hash of its secret.
    pub id_hash: &'a str,
    /// Whose account it is about.
    pub user: UserId,
    /// The account's epoch.
    pub epoch: i64,
    /// What it is for.
    pub purpose: &'a str,
    /// Whose failures its failures are.
    pub bucket: &'a str,
    /// Now.
    pub at: Wall,
    /// When it is too late.
    pub expires_at: Wall,
}

/// A try in a ceremony.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ceremony {
    /// Whose account it is about.
    pub user: UserId,
    /// The account's epoch when it began.
    pub epoch: i64,
    /// Whose failures its failures are.
    pub bucket: String,
    /// Which try this is, from 1.
    pub tries: i64,
}

impl Store {
    /// Begins a ceremony.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn begin_ceremony(&self, new: &NewCeremony<'_>) -> Result<(), StoreError> {
        let user = new.user.to_string();
        let most = i64::try_from(MAX_CEREMONIES).unwrap_or(i64::MAX);
        let mut change = self.change().await?;
        change.tx.run(sql::FORGET_CEREMONIES, args![new.at.0]).await?;
        let args = args![new.id_hash, &user, new.epoch, new.purpose, new.bucket, new.expires_at.0];
        change.tx.run(sql::ADD_CEREMONY, args).await?;
        change.tx.run(sql::CROWD_OUT_CEREMONIES, args![&user, most]).await?;
        change.commit().await
    }

    /// Takes one of a ceremony's tries; none when there is no such ceremony, or no try left.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn try_ceremony(
        &self,
        id_hash: &str,
        purpose: &str,
        most: i64,
        now: Wall,
    ) -> Result<Option<Ceremony>, StoreError> {
        let mut change = self.change().await?;
        let row = change.tx.one(sql::TRY_CEREMONY, args![id_hash, purpose, most, now.0]).await?;
        let Some(row) = row else { return Ok(None) };
        let ceremony = Ceremony {
            user: row.parsed("user_id")?,
            epoch: row.number("epoch")?,
            bucket: row.text("bucket")?,
            tries: row.number("tries")?,
        };
        change.commit().await?;
        Ok(Some(ceremony))
    }

    /// Ends a ceremony; false when another did.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn end_ceremony(&self, id_hash: &str) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let ended = change.tx.run(sql::END_CEREMONY, args![id_hash]).await?;
        change.commit().await?;
        Ok(ended > 0)
    }
}
