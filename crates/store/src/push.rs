//! Browsers that want to be told when something waits for their person.

use sojourn_core::audit::Event;
use sojourn_core::ids::LoginId;
use sojourn_core::ids::PushId;
use sojourn_core::ids::UserId;
use sojourn_core::time::Wall;

use crate::Store;
use crate::StoreError;
use crate::db::Row;
use crate::db::args;
use crate::row::bounded;
use crate::sql;

/// The most browsers of one user; the oldest goes.
pub const MAX_PUSH_DEVICES: i64 = 10;
/// The longest address of a browser at its push service.
pub const LONGEST_ENDPOINT: usize = 2048;
/// The longest of what else is kept.
const LONGEST: usize = 256;

/// A browser, and how it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushDevice {
    /// Its id.
    pub id: PushId,
    /// Whose it is.
    pub user: UserId,
    /// The login it was added in.
    pub login: LoginId,
    /// Where messages for it go.
    pub endpoint: String,
    /// Its public key, as it said it.
    pub p256dh: String,
    /// The secret it shares with whoever tells it something, as it said it.
    pub auth: String,
    /// What it is, for people.
    pub device: String,
    /// When it was added.
    pub added_at: Wall,
    /// Whether the login is in force, so that it may be told more than that something waits.
    pub signed_in: bool,
}

impl Store {
    /// Adds a browser, or takes it over from whoever had it before. With too many the oldest goes.
    ///
    /// # Errors
    /// When something is too long, or the database does not answer.
    pub async fn add_push_device(
        &self,
        device: &PushDevice,
        event: &Event,
    ) -> Result<(), StoreError> {
        bounded("the endpoint", &device.endpoint, LONGEST_ENDPOINT)?;
        for text in [&device.p256dh, &device.auth, &device.device] {
            bounded("what a browser says of itself", text, LONGEST)?;
        }
        let (id, user) = (device.id.to_string(), device.user.to_string());
        let mut change = self.change().await?;
        change.tx.run(sql::REMOVE_PUSH_ENDPOINT, args![&device.endpoint]).await?;
        let args = args![
            id,
            &user,
            device.login.to_string(),
            &device.endpoint,
            &device.p256dh,
            &device.auth,
            &device.device,
            device.added_at.0
        ];
        if change.tx.run(sql::ADD_PUSH, args).await? == 0 {
            return Err(StoreError::Missing(format!("user {user}")));
        }
        change.tx.run(sql::KEEP_NEWEST_PUSH, args![&user, MAX_PUSH_DEVICES]).await?;
        change.tell(event).await?;
        change.commit().await
    }

    /// Somebody's browsers, the oldest first. Those of logins that a person ended are forgotten first,
    /// and those that were added before `old`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn push_devices(
        &self,
        user: UserId,
        now: Wall,
        old: Wall,
    ) -> Result<Vec<PushDevice>, StoreError> {
        let mut change = self.change().await?;
        change.tx.run(sql::FORGET_PUSH, args![user.to_string(), old.0]).await?;
        change.commit().await?;
        let args = args![user.to_string(), now.0, MAX_PUSH_DEVICES];
        self.read().all(sql::PUSH_OF, args).await?.iter().map(device).collect()
    }

    /// Forgets a browser. False when there was none.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn remove_push_device(
        &self,
        user: UserId,
        id: PushId,
        event: &Event,
    ) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let args = args![user.to_string(), id.to_string()];
        if change.tx.run(sql::REMOVE_PUSH, args).await? == 0 {
            return Ok(false);
        }
        change.tell(event).await?;
        change.commit().await?;
        Ok(true)
    }
}

fn device(row: &Row) -> Result<PushDevice, StoreError> {
    Ok(PushDevice {
        id: row.parsed("id")?,
        user: row.parsed("user_id")?,
        login: row.parsed("login_id")?,
        endpoint: row.text("endpoint")?,
        p256dh: row.text("p256dh")?,
        auth: row.text("auth")?,
        device: row.text("device")?,
        added_at: row.time("added_at")?,
        signed_in: row.number("signed_in")? != 0,
    })
}
