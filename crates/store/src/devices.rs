//! What somebody signed in with before: browsers by their cookie, and addresses. It opens nothing, and
//! only selects whose failures are counted.

use sojourn_core::ids::UserId;
use sojourn_core::time::Wall;

use crate::Store;
use crate::StoreError;
use crate::db::args;
use crate::sql;

/// The most browsers and addresses of one account that are known; the one not seen for longest goes.
pub const MAX_DEVICES: usize = 64;

/// A sign-in that succeeded in everything that was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Success<'a> {
    /// Whose.
    pub user: UserId,
    /// The failures in a row that it ends.
    pub bucket: &'a str,
    /// The browser and the address it came from, hashed.
    pub known: &'a [&'a str],
    /// How long those are known.
    pub until: Wall,
}

impl Store {
    /// Whether somebody signed in to this account with this before.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn knows_device(
        &self,
        user: Option<UserId>,
        device: &str,
        now: Wall,
    ) -> Result<bool, StoreError> {
        let user = user.map(|user| user.to_string()).unwrap_or_default();
        Ok(self.read().one(sql::DEVICE, args![device, user, now.0]).await?.is_some())
    }

    /// Somebody signed in: their failures in a row are over, and what they came with is known.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn count_success(&self, success: &Success<'_>) -> Result<(), StoreError> {
        let user = success.user.to_string();
        let most = i64::try_from(MAX_DEVICES).unwrap_or(i64::MAX);
        let mut change = self.change().await?;
        change.tx.run(sql::CLEAR_FAILURES, args![success.bucket]).await?;
        change.tx.run(sql::CLEAR_USER_FAILURES, args![&user]).await?;
        for known in success.known {
            change.tx.run(sql::KNOW_DEVICE, args![*known, &user, success.until.0]).await?;
        }
        if !success.known.is_empty() {
            change.tx.run(sql::CROWD_OUT_DEVICES, args![&user, most]).await?;
        }
        change.commit().await
    }

    /// Puts a hash in place of another of the same password. Nothing the password opened ends.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn rehash(&self, user: UserId, old: &str, new: &str) -> Result<(), StoreError> {
        let mut change = self.change().await?;
        change.tx.run(sql::REHASH, args![user.to_string(), old, new]).await?;
        change.commit().await
    }
}
