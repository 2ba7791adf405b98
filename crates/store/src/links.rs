//! One-time links, by their hashes: an admin makes one, and whoever gets it sets a new password.

use sojourn_core::audit::Event;
use sojourn_core::ids::UserId;
use sojourn_core::login::LoginEnd;
use sojourn_core::time::Wall;

use crate::Store;
use crate::StoreError;
use crate::db::args;
use crate::logins;
use crate::sql;
use crate::users;

/// A link for a new password.
const RESET: &str = "reset";

impl Store {
    /// Makes a link for a new password good, and every earlier one of the account bad.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn issue_reset(
        &self,
        user: UserId,
        link_hash: &str,
        expires_at: Wall,
        event: &Event,
    ) -> Result<(), StoreError> {
        let id = user.to_string();
        let mut change = self.change().await?;
        change.tx.run(sql::FORGET_LINKS, args![&id, event.timestamp.0]).await?;
        change.tx.run(sql::ADD_LINK, args![link_hash, RESET, &id, expires_at.0]).await?;
        change.tell(event).await?;
        change.commit().await
    }

    /// For whom a link for a new password is good.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn reset_for(
        &self,
        link_hash: &str,
        now: Wall,
    ) -> Result<Option<UserId>, StoreError> {
        let row = self.read().one(sql::LINK, args![link_hash, RESET, now.0]).await?;
        row.map(|row| row.parsed("user_id")).transpose()
    }

    /// Uses a link: the account has this password from now on, and what the old one opened ends.
    /// False when the link was used before, or is too old.
    ///
    /// # Errors
    /// When the account is gone, or the database does not answer.
    pub async fn use_reset(
        &self,
        user: UserId,
        link_hash: &str,
        password: &str,
        event: &Event,
    ) -> Result<bool, StoreError> {
        let mut change = self.account_change().await?;
        let args = args![link_hash, RESET, event.timestamp.0];
        if change.tx.run(sql::USE_LINK, args).await? == 0 {
            return Ok(false);
        }
        users::set_password(&mut change, user, Some(password), false, event.timestamp).await?;
        logins::end_with(&mut change, user, LoginEnd::PasswordChange, event).await?;
        change.tell(event).await?;
        change.commit().await?;
        Ok(true)
    }
}
