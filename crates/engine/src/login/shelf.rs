//! Every live login in memory, by token, by id and by account.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::RwLockReadGuard;
use std::sync::RwLockWriteGuard;

use sojourn_core::ids::LoginId;
use sojourn_core::ids::UserId;
use sojourn_store::User;

use super::login::Login;
use super::login::Person;
use super::login::Proof;
use super::token::TokenHash;

/// The shelf. It holds at most what the rules allow each account that there is.
#[derive(Default)]
pub(super) struct Shelf(RwLock<Books>);

#[derive(Default)]
struct Books {
    by_token: HashMap<TokenHash, Arc<Login>>,
    by_id: HashMap<LoginId, Arc<Login>>,
    people: HashMap<UserId, (Arc<Person>, Vec<Arc<Login>>)>,
}

impl Shelf {
    /// The account, in memory from now on.
    pub(super) fn person(&self, user: &User) -> Arc<Person> {
        let mut books = self.write();
        let new = || (Arc::new(Person::new(user)), Vec::new());
        books.people.entry(user.id).or_insert_with(new).0.clone()
    }

    pub(super) fn person_by_id(&self, user: UserId) -> Option<Arc<Person>> {
        self.read().people.get(&user).map(|(person, _)| person.clone())
    }

    pub(super) fn by_token(&self, hash: &TokenHash) -> Option<Arc<Login>> {
        self.read().by_token.get(hash).cloned()
    }

    pub(super) fn by_id(&self, id: LoginId) -> Option<Arc<Login>> {
        self.read().by_id.get(&id).cloned()
    }

    /// An account's logins.
    pub(super) fn of(&self, user: UserId) -> Vec<Arc<Login>> {
        self.read().people.get(&user).map(|(_, logins)| logins.clone()).unwrap_or_default()
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.read().by_id.len()
    }

    pub(super) fn insert(&self, login: &Arc<Login>) {
        let mut books = self.write();
        books.by_token.insert(login.proof().token, login.clone());
        books.by_id.insert(login.id(), login.clone());
        let new = || (login.person.clone(), Vec::new());
        books.people.entry(login.user()).or_insert_with(new).1.push(login.clone());
    }

    pub(super) fn remove(&self, login: &Login) {
        let mut books = self.write();
        books.by_token.remove(&login.proof().token);
        books.by_id.remove(&login.id());
        if let Some((_, logins)) = books.people.get_mut(&login.user()) {
            logins.retain(|other| other.id() != login.id());
        }
    }

    /// Gives a login another token; the one before is good for nothing. False when it has ended.
    pub(super) fn rotate(&self, login: &Arc<Login>, proof: Proof) -> bool {
        let mut books = self.write();
        if login.is_over().is_some() || !books.by_id.contains_key(&login.id()) {
            return false;
        }
        books.by_token.remove(&login.proof().token);
        books.by_token.insert(proof.token, login.clone());
        login.prove(proof);
        true
    }

    fn read(&self) -> RwLockReadGuard<'_, Books> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Books> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
