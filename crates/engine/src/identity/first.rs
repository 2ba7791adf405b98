//! The first account: made when there is none, with a password nobody chose.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::Event;
use sojourn_core::authz::Role;
use sojourn_core::ids::UserId;
use sojourn_core::time::Wall;
use sojourn_store::NewUser;
use sojourn_store::Store;
use sojourn_store::User;

use super::accounts::AccountError;
use super::hash::Cost;
use super::hash::HashError;
use super::hash::Hasher;

/// The first account's name.
pub(super) const NAME: &str = "admin";
/// Its password's file in the data directory, where there is no terminal to print it on.
pub const FILE: &str = "first-admin";

/// Crockford's base 32 without the letters that look like digits, so that it can be read aloud.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Five groups of five: 125 bits.
const GROUPS: usize = 5;
const GROUP: usize = 5;

/// The first account, to be told once.
#[derive(Clone)]
pub struct FirstAdmin {
    /// Its name.
    pub name: &'static str,
    /// Its password, until it is changed.
    pub password: String,
}

impl fmt::Debug for FirstAdmin {
    /// Shows no password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstAdmin").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Display for FirstAdmin {
    /// The line that people and the file get.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "first admin: {} {}", self.name, self.password)
    }
}

impl FirstAdmin {
    /// Puts the line where only the gateway's user and root can read it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, data_dir: &Path) -> io::Result<()> {
        let path = data_dir.join(FILE);
        // A file of an earlier try, which may have had other readers, is not written into.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        writeln!(file, "{self}")?;
        file.sync_all()
    }
}

/// Removes the file: the password in it is not good any more.
pub(super) fn forget(data_dir: &Path) {
    let path = data_dir.join(FILE);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "the first password's file is still there");
        }
        _ => {}
    }
}

/// Removes the file, if it was this account's, and its first change.
pub(crate) fn forget_after(changed: &User, data_dir: &Path) {
    if changed.must_change && changed.name == NAME {
        forget(data_dir);
    }
}

/// Makes the first account when there is none.
///
/// # Errors
/// When the store does not answer.
pub async fn ensure_first_admin(
    store: &Store,
    now: Wall,
) -> Result<Option<FirstAdmin>, AccountError> {
    if store.has_users().await? {
        return Ok(None);
    }
    let password = random_password()?;
    let new = NewUser {
        id: UserId::new(),
        name: NAME.to_owned(),
        role: Role::Admin,
        password: Some(Hasher::new(Cost::default()).hash(&password).await?),
        must_change: true,
        at: now,
    };
    let event = Event::new(now, Action::UserAdded, Actor::SYSTEM)
        .detail("user", NAME)
        .detail("role", new.role.name())
        .detail("first", true);
    let made = store.add_first_user(&new, &event).await?;
    Ok(made.then_some(FirstAdmin { name: NAME, password }))
}

fn random_password() -> Result<String, HashError> {
    let mut bytes = [0; GROUPS * GROUP];
    getrandom::fill(&mut bytes).map_err(|_| HashError::Broken)?;
    let groups = bytes.chunks(GROUP).map(|group| {
        let letters = group.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
        letters.collect::<String>()
    });
    Ok(groups.collect::<Vec<_>>().join("-"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_random_password_passes_its_own_policy() {
        let password = random_password().unwrap();
        assert_eq!(password.len(), 29);
        assert_eq!(super::super::policy::check(&password, NAME), Ok(()));
        assert_ne!(password, random_password().unwrap());
    }

    #[test]
    fn the_file_is_for_its_owner_and_goes_again() {
        let dir = tempfile::TempDir::new().unwrap();
        let first = FirstAdmin { name: NAME, password: "x-y".to_owned() };
        std::fs::write(dir.path().join(FILE), "old").unwrap();
        first.write(dir.path()).unwrap();
        let path = dir.path().join(FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first admin: admin x-y\n");
        assert!(!format!("{first:?}").contains("x-y"));
        forget(dir.path());
        assert!(!path.exists());
        forget(dir.path());
    }
}
