//! Second factors: an authenticator's secret, sealed before it comes here, and recovery codes by their
//! hashes.

use std::fmt;

use sojourn_core::audit::Event;
use sojourn_core::ids::UserId;
use sojourn_core::time::Wall;

use crate::Change;
use crate::Store;
use crate::StoreError;
use crate::db::args;
use crate::row::bounded;
use crate::sql;
use crate::users::counted;

/// The most recovery codes of one account.
pub const MAX_RECOVERY_CODES: usize = 32;

/// The longest sealed secret.
const LONGEST_SECRET: usize = 512;

/// An account's authenticator.
#[derive(Clone, PartialEq, Eq)]
pub struct Totp {
    /// Its secret, sealed.
    pub secret: String,
    /// The newest step that was used.
    pub last_step: i64,
    /// When it was added.
    pub added_at: Wall,
    /// Since when it counts; none: its owner has not shown yet that it works.
    pub confirmed_at: Option<Wall>,
}

impl fmt::Debug for Totp {
    /// Shows no secret, not even sealed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Totp")
            .field("added_at", &self.added_at)
            .field("confirmed_at", &self.confirmed_at)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// An account's authenticator, confirmed or not.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn totp(&self, user: UserId) -> Result<Option<Totp>, StoreError> {
        let row = self.read().one(sql::TOTP, args![user.to_string()]).await?;
        let totp = row.map(|row| {
            Ok(Totp {
                secret: row.text("secret")?,
                last_step: row.number("last_step")?,
                added_at: row.time("added_at")?,
                confirmed_at: row.maybe_time("confirmed_at")?,
            })
        });
        totp.transpose()
    }

    /// Adds an authenticator that does not count yet, in place of one that did not either.
    ///
    /// # Errors
    /// When there is one that counts.
    pub async fn begin_totp(&self, user: UserId, secret: &str, at: Wall) -> Result<(), StoreError> {
        bounded("the sealed secret", secret, LONGEST_SECRET)?;
        let mut change = self.change().await?;
        let begun = change.tx.run(sql::BEGIN_TOTP, args![user.to_string(), secret, at.0]).await?;
        if begun == 0 {
            return Err(StoreError::Exists("an authenticator".to_owned()));
        }
        change.commit().await
    }

    /// From now on the authenticator with this secret counts: a code of this step was shown. With
    /// new recovery codes.
    ///
    /// # Errors
    /// When it is not there any more, or counts already.
    pub async fn confirm_totp(
        &self,
        user: UserId,
        secret: &str,
        step: i64,
        codes: &[String],
        event: &Event,
    ) -> Result<(), StoreError> {
        let mut change = self.account_change().await?;
        let args = args![user.to_string(), secret, event.timestamp.0, step];
        if change.tx.run(sql::CONFIRM_TOTP, args).await? == 0 {
            return Err(StoreError::Missing("authenticator to confirm".to_owned()));
        }
        replace_codes(&mut change, user, codes).await?;
        change.tx.run(sql::END_CEREMONIES_OF, args![user.to_string()]).await?;
        change.tell(event).await?;
        change.commit().await
    }

    /// Uses a step of an account's authenticator; false when it, or a later one, was used before.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn use_totp_step(&self, user: UserId, step: i64) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let used = change.tx.run(sql::USE_TOTP_STEP, args![user.to_string(), step]).await?;
        change.commit().await?;
        Ok(used > 0)
    }

    /// Takes an account's authenticator and recovery codes away.
    ///
    /// # Errors
    /// When it has none.
    pub async fn remove_totp(&self, user: UserId, event: &Event) -> Result<(), StoreError> {
        let mut change = self.account_change().await?;
        if change.tx.run(sql::REMOVE_TOTP, args![user.to_string()]).await? == 0 {
            return Err(StoreError::Missing("authenticator".to_owned()));
        }
        replace_codes(&mut change, user, &[]).await?;
        change.tx.run(sql::END_CEREMONIES_OF, args![user.to_string()]).await?;
        change.tell(event).await?;
        change.commit().await
    }

    /// Puts new recovery codes in place of all there were.
    ///
    /// # Errors
    /// When there are too many.
    pub async fn set_recovery_codes(
        &self,
        user: UserId,
        codes: &[String],
        event: &Event,
    ) -> Result<(), StoreError> {
        let mut change = self.change().await?;
        replace_codes(&mut change, user, codes).await?;
        change.tell(event).await?;
        change.commit().await
    }

    /// Uses a recovery code; false when it is none, or was used before.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn use_recovery_code(
        &self,
        user: UserId,
        code_hash: &str,
        event: &Event,
    ) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let args = args![code_hash, user.to_string(), event.timestamp.0];
        if change.tx.run(sql::USE_RECOVERY_CODE, args).await? == 0 {
            return Ok(false);
        }
        change.tell(event).await?;
        change.commit().await?;
        Ok(true)
    }

    /// How many recovery codes an account has left.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn recovery_codes_left(&self, user: UserId) -> Result<usize, StoreError> {
        counted(self.read().one(sql::COUNT_RECOVERY_CODES, args![user.to_string()]).await?)
    }
}

async fn replace_codes(
    change: &mut Change,
    user: UserId,
    codes: &[String],
) -> Result<(), StoreError> {
    if codes.len() > MAX_RECOVERY_CODES {
        return Err(StoreError::TooMany { what: "recovery codes", limit: MAX_RECOVERY_CODES });
    }
    let user = user.to_string();
    change.tx.run(sql::FORGET_RECOVERY_CODES, args![&user]).await?;
    for code in codes {
        change.tx.run(sql::ADD_RECOVERY_CODE, args![code, &user]).await?;
    }
    Ok(())
}
