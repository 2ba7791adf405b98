//! Whether the store is there at all.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use crate::Store;
use crate::StoreError;
use crate::db::Db;
use crate::db::args;
use crate::sql;

/// A file, and which one of that name it is.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    device: u64,
    number: u64,
}

impl Place {
    /// The file that has this name now.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self { path: path.to_owned(), device: metadata.dev(), number: metadata.ino() })
    }

    fn check(&self) -> Result<(), StoreError> {
        let open = |source| StoreError::Open { path: self.path.clone(), source };
        let now = Self::of(&self.path).map_err(open)?;
        if (now.device, now.number) != (self.device, self.number) {
            // What is written goes to a file that has no name any more.
            return Err(open(io::Error::other("it is another file than when it was opened")));
        }
        Ok(())
    }
}

impl Store {
    /// Whether it is there and answers.
    ///
    /// # Errors
    /// When its file is not the one that was opened, or the database does not answer, or takes no change.
    pub async fn check(&self) -> Result<(), StoreError> {
        if let Some(place) = &self.place {
            place.check()?;
        }
        // A table is read, and not only the schema that is in memory.
        self.read().one(sql::META, args!["accounts"]).await?;
        // SQLite writes by one connection, which may be of no use while the others are.
        if matches!(self.write, Db::Sqlite(_)) {
            drop(self.write.begin().await?);
        }
        Ok(())
    }

    /// Its file; none where it is on a server.
    #[must_use]
    pub fn on_disk(&self) -> Option<&Path> {
        self.place.as_deref().map(|place| place.path.as_path())
    }
}
