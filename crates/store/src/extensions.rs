//! By whom, and for how long, sessions were extended.

use sojourn_core::ids::SessionId;
use sojourn_core::time::Wall;

use crate::Store;
use crate::StoreError;
use crate::db::args;
use crate::row::size;
use crate::sql;

/// The most that are kept of one session, and given back: the first ones.
pub const MAX_EXTENSIONS: u32 = 100;

/// The longest name and reason.
const LONGEST: usize = 1024;

/// One extension of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// When it was asked for.
    pub at: Wall,
    /// Who did.
    pub by: String,
    /// How much later, in microseconds.
    pub micros: u64,
    /// When the session ended from then on.
    pub deadline: Wall,
    /// Why, as they said.
    pub why: Option<String>,
}

impl Store {
    /// A session was extended. Of one that was extended very often the first ones are kept.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn add_extension(
        &self,
        id: SessionId,
        extension: &Extension,
    ) -> Result<(), StoreError> {
        let cut = |text: &str| -> String {
            text.get(..text.floor_char_boundary(LONGEST)).unwrap_or_default().to_owned()
        };
        let mut change = self.change().await?;
        change
            .tx
            .run(
                sql::ADD_EXTENSION,
                args![
                    id.to_string(),
                    extension.at.0,
                    cut(&extension.by),
                    size(extension.micros),
                    extension.deadline.0,
                    extension.why.as_deref().map(cut),
                    i64::from(MAX_EXTENSIONS)
                ],
            )
            .await?;
        change.commit().await
    }

    /// How a session was extended, in order.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn extensions(&self, id: SessionId) -> Result<Vec<Extension>, StoreError> {
        let rows = self
            .read()
            .all(sql::EXTENSIONS, args![id.to_string(), i64::from(MAX_EXTENSIONS)])
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Extension {
                    at: row.time("made_at")?,
                    by: row.text("by_name")?,
                    micros: row.size("by_micros")?.unwrap_or(0),
                    deadline: row.time("deadline")?,
                    why: row.maybe_text("why")?,
                })
            })
            .collect()
    }
}
