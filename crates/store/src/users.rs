//! Accounts and their SSH keys.

use std::fmt;

use crate::db::Row;
use sojourn_core::audit::Event;
use sojourn_core::authz::Role;
use sojourn_core::ids::KeyId;
use sojourn_core::ids::UserId;
use sojourn_core::login::LoginEnd;
use sojourn_core::time::Wall;

use crate::Change;
use crate::Store;
use crate::StoreError;
use crate::db::Arg;
use crate::db::args;
use crate::logins;
use crate::row::bounded;
use crate::sql;

/// The most accounts.
pub const MAX_USERS: usize = 10_000;
/// The most SSH keys of one account.
pub const MAX_KEYS: usize = 100;

/// The longest password hash: a PHC string is about 100 bytes.
const LONGEST_HASH: usize = 512;
/// The longest public key: RSA of 16 384 bits is 2 800 bytes.
const LONGEST_KEY: usize = 8 * 1024;
/// The longest comment of a key.
const LONGEST_COMMENT: usize = 256;

/// An account.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The password's hash as a PHC string; none: no sign-in by password.
    pub password: Option<String>,
    /// The password was made by the program and should be changed.
    pub must_change: bool,
    /// Counts the events that end everything the old password opened.
    pub epoch: i64,
    /// When it was made.
    pub created_at: Wall,
    /// When its password was last set.
    pub password_changed_at: Option<Wall>,
    /// Since when it is closed.
    pub disabled_at: Option<Wall>,
    /// Since when its password opens nothing, after too many failures in a row.
    pub password_disabled_at: Option<Wall>,
}

impl fmt::Debug for User {
    /// Shows whether there is a password, never its hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("role", &self.role)
            .field("has_password", &self.password.is_some())
            .field("epoch", &self.epoch)
            .field("disabled_at", &self.disabled_at)
            .finish_non_exhaustive()
    }
}

/// An account to make.
#[derive(Clone)]
pub struct NewUser {
    /// Its id.
    pub id: UserId,
    /// Its name, already checked.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The password's hash as a PHC string.
    pub password: Option<String>,
    /// The password was made by the program and should be changed.
    pub must_change: bool,
    /// Now.
    pub at: Wall,
}

/// An SSH key of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserKey {
    /// Its id.
    pub id: KeyId,
    /// Whose.
    pub user: UserId,
    /// `algorithm base64`, as in an `authorized_keys` file.
    pub openssh: String,
    /// `SHA256:…`, as `ssh-keygen -l` shows it.
    pub fingerprint: String,
    /// What its owner calls it.
    pub comment: String,
    /// When it was added.
    pub added_at: Wall,
}

impl Store {
    /// All accounts, by name.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn users(&self) -> Result<Vec<User>, StoreError> {
        let limit = i64::try_from(MAX_USERS).unwrap_or(i64::MAX);
        let rows = self.read().all(sql::USERS, args![limit]).await?;
        rows.iter().map(user).collect()
    }

    /// The account of this name.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn user_by_name(&self, name: &str) -> Result<Option<User>, StoreError> {
        let row = self.read().one(sql::USER_BY_NAME, args![name]).await?;
        row.as_ref().map(user).transpose()
    }

    /// The account of this id.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn user_by_id(&self, id: UserId) -> Result<Option<User>, StoreError> {
        self.read()
            .one(sql::USER_BY_ID, args![id.to_string()])
            .await?
            .as_ref()
            .map(user)
            .transpose()
    }

    /// Makes an account.
    ///
    /// # Errors
    /// When the name is taken or there are too many.
    pub async fn add_user(&self, new: &NewUser, event: &Event) -> Result<(), StoreError> {
        let mut change = self.account_change().await?;
        let count = count(&mut change, sql::COUNT_USERS, None).await?;
        if count >= MAX_USERS {
            return Err(StoreError::TooMany { what: "users", limit: MAX_USERS });
        }
        insert(&mut change, new).await?;
        change.tell(event).await?;
        change.commit().await
    }

    /// Makes the very first account; false when there is one already.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn add_first_user(&self, new: &NewUser, event: &Event) -> Result<bool, StoreError> {
        let mut change = self.account_change().await?;
        if count(&mut change, sql::COUNT_USERS, None).await? > 0 {
            return Ok(false);
        }
        insert(&mut change, new).await?;
        change.tell(event).await?;
        change.commit().await?;
        Ok(true)
    }

    /// Whether there is any account.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn has_users(&self) -> Result<bool, StoreError> {
        let row = self.read().one(sql::COUNT_USERS, args![]).await?;
        Ok(counted(row)? > 0)
    }

    /// Sets or takes away a password, and ends what the old one opened.
    ///
    /// # Errors
    /// When there is no such account.
    pub async fn set_password(
        &self,
        user: UserId,
        password: Option<&str>,
        must_change: bool,
        event: &Event,
    ) -> Result<(), StoreError> {
        let mut change = self.account_change().await?;
        set_password(&mut change, user, password, must_change, event.timestamp).await?;
        logins::end_with(&mut change, user, LoginEnd::PasswordChange, event).await?;
        change.tell(event).await?;
        change.commit().await
    }

    /// Gives an account another role. Logins that were not signed in for it end.
    ///
    /// # Errors
    /// When there is no such account, or there would be no admin.
    pub async fn set_role(
        &self,
        user: UserId,
        role: Role,
        event: &Event,
    ) -> Result<(), StoreError> {
        let id = user.to_string();
        let mut change = self.account_change().await?;
        let before = change.tx.one(sql::USER_BY_ID, args![&id]).await?;
        if change.tx.run(sql::SET_ROLE, args![&id, role.name()]).await? == 0 {
            return Err(StoreError::Missing("such user".to_owned()));
        }
        let before: Option<Role> = before.map(|row| row.parsed("role")).transpose()?;
        if before == Some(Role::Admin) && role != Role::Admin {
            stays_without(&mut change, user).await?;
        }
        if before.is_some_and(|before| role.exceeds(before)) {
            logins::end_with(&mut change, user, LoginEnd::RoleChange, event).await?;
        }
        change.tell(event).await?;
        change.commit().await
    }

    /// Closes an account, and ends what it opened.
    ///
    /// # Errors
    /// When there is no such account, or there would be no admin.
    pub async fn disable_user(&self, user: UserId, event: &Event) -> Result<(), StoreError> {
        let mut change = self.account_change().await?;
        if change.tx.run(sql::DISABLE, args![user.to_string(), event.timestamp.0]).await? == 0 {
            return Err(StoreError::Missing("such user".to_owned()));
        }
        let closed = change.tx.one(sql::USER_BY_ID, args![user.to_string()]).await?;
        let role: Option<Role> = closed.map(|row| row.parsed("role")).transpose()?;
        if role == Some(Role::Admin) {
            stays_without(&mut change, user).await?;
        }
        logins::end_with(&mut change, user, LoginEnd::Disabled, event).await?;
        change.tell(event).await?;
        change.commit().await
    }

    /// Opens a closed account.
    ///
    /// # Errors
    /// When there is no such account.
    pub async fn enable_user(&self, user: UserId, event: &Event) -> Result<(), StoreError> {
        self.change_user(sql::ENABLE, args![user.to_string()], event).await
    }

    /// The keys of an account, the oldest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn keys_of(&self, user: UserId) -> Result<Vec<UserKey>, StoreError> {
        let limit = i64::try_from(MAX_KEYS).unwrap_or(i64::MAX);
        self.read()
            .all(sql::KEYS_OF, args![user.to_string(), limit])
            .await?
            .iter()
            .map(key)
            .collect()
    }

    /// The key of an account with this fingerprint.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn key_of(
        &self,
        user: UserId,
        fingerprint: &str,
    ) -> Result<Option<UserKey>, StoreError> {
        self.read()
            .one(sql::KEY_OF, args![user.to_string(), fingerprint])
            .await?
            .as_ref()
            .map(key)
            .transpose()
    }

    /// Adds a key to an account.
    ///
    /// # Errors
    /// When the account has that key, or too many.
    pub async fn add_key(&self, new: &UserKey, event: &Event) -> Result<(), StoreError> {
        bounded("the key", &new.openssh, LONGEST_KEY)?;
        bounded("the key's comment", &new.comment, LONGEST_COMMENT)?;
        let mut change = self.account_change().await?;
        if count(&mut change, sql::COUNT_KEYS, Some(new.user)).await? >= MAX_KEYS {
            return Err(StoreError::TooMany { what: "keys of one user", limit: MAX_KEYS });
        }
        let added = change
            .tx
            .run(
                sql::ADD_KEY,
                args![
                    new.id.to_string(),
                    new.user.to_string(),
                    &new.openssh,
                    &new.fingerprint,
                    &new.comment,
                    new.added_at.0
                ],
            )
            .await;
        unique(added, || format!("a key {}", new.fingerprint))?;
        change.tell(event).await?;
        change.commit().await
    }

    /// Takes a key from an account.
    ///
    /// # Errors
    /// When the account has no such key.
    pub async fn remove_key(
        &self,
        user: UserId,
        key: KeyId,
        event: &Event,
    ) -> Result<(), StoreError> {
        let mut change = self.account_change().await?;
        let removed =
            change.tx.run(sql::REMOVE_KEY, args![user.to_string(), key.to_string()]).await?;
        if removed == 0 {
            return Err(StoreError::Missing(format!("key {key}")));
        }
        change.tell(event).await?;
        change.commit().await
    }

    async fn change_user(
        &self,
        sql: &'static str,
        args: &[Arg<'_>],
        event: &Event,
    ) -> Result<(), StoreError> {
        let mut change = self.account_change().await?;
        if change.tx.run(sql, args).await? == 0 {
            return Err(StoreError::Missing("such user".to_owned()));
        }
        change.tell(event).await?;
        change.commit().await
    }
}

/// Sets or takes away a password as part of a change.
pub(crate) async fn set_password(
    change: &mut Change,
    user: UserId,
    password: Option<&str>,
    must_change: bool,
    at: Wall,
) -> Result<(), StoreError> {
    bounded("the password's hash", password.unwrap_or_default(), LONGEST_HASH)?;
    let args = args![user.to_string(), password, must_change, at.0];
    if change.tx.run(sql::SET_PASSWORD, args).await? == 0 {
        return Err(StoreError::Missing("such user".to_owned()));
    }
    Ok(())
}

async fn insert(change: &mut Change, new: &NewUser) -> Result<(), StoreError> {
    bounded("the password's hash", new.password.as_deref().unwrap_or_default(), LONGEST_HASH)?;
    let added = change
        .tx
        .run(
            sql::ADD_USER,
            args![
                new.id.to_string(),
                &new.name,
                new.role.name(),
                &new.password,
                i64::from(new.must_change),
                new.at.0,
                new.password.is_some().then_some(new.at.0)
            ],
        )
        .await;
    unique(added, || format!("a user {:?}", new.name))?;
    Ok(())
}

async fn count(
    change: &mut Change,
    sql: &'static str,
    of: Option<UserId>,
) -> Result<usize, StoreError> {
    let row = match of {
        Some(id) => change.tx.one(sql, args![id.to_string()]).await?,
        None => change.tx.one(sql, args![]).await?,
    };
    counted(row)
}

/// What a `COUNT(*)` says.
pub(crate) fn counted(row: Option<Row>) -> Result<usize, StoreError> {
    let count = row.ok_or(StoreError::Impossible("count"))?.number("n")?;
    usize::try_from(count).map_err(|_| StoreError::Impossible("count"))
}

/// Tells a taken name from other errors.
pub(crate) fn unique<T>(
    result: Result<T, StoreError>,
    what: impl FnOnce() -> String,
) -> Result<T, StoreError> {
    result.map_err(|error| match error {
        StoreError::Taken => StoreError::Exists(what()),
        other => other,
    })
}

pub(crate) fn user(row: &Row) -> Result<User, StoreError> {
    Ok(User {
        id: row.parsed("id")?,
        name: row.text("name")?,
        role: row.parsed("role")?,
        password: row.maybe_text("password")?,
        must_change: row.number("must_change")? != 0,
        epoch: row.number("epoch")?,
        created_at: row.time("created_at")?,
        password_changed_at: row.maybe_time("password_changed_at")?,
        disabled_at: row.maybe_time("disabled_at")?,
        password_disabled_at: row.maybe_time("password_disabled_at")?,
    })
}

fn key(row: &Row) -> Result<UserKey, StoreError> {
    Ok(UserKey {
        id: row.parsed("id")?,
        user: row.parsed("user_id")?,
        openssh: row.text("openssh")?,
        fingerprint: row.text("fingerprint")?,
        comment: row.text("comment")?,
        added_at: row.time("added_at")?,
    })
}

/// Without an admin nobody could make another one but root here, and nobody at the page.
async fn stays_without(change: &mut Change, user: UserId) -> Result<(), StoreError> {
    match count(change, sql::OTHER_ADMINS, Some(user)).await? {
        0 => Err(StoreError::LastAdmin),
        _ => Ok(()),
    }
}
