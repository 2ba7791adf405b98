//! The store, asked the same on both engines; and what each of them has of its own.

mod accounts;
mod engines;
mod file;
mod idempotency;
mod logins;
mod logins_and_accounts;
mod outbox;
mod proofs;
mod runners;
mod server;
mod sessions;
mod tokens;
mod words;

use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::authz::Role;
use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::ids::KeyId;
use sojourn_core::ids::SessionId;
use sojourn_core::ids::UserId;
use sojourn_core::limits::Limits;
use sojourn_core::status::Status;
use sojourn_core::time::Wall;
use sojourn_testkit::Database;
use sojourn_testkit::Postgres;
use tempfile::TempDir;

use super::*;

/// Makes of each claim a test for SQLite and one for PostgreSQL.
macro_rules! on_both {
    ($($name:ident,)*) => {
        mod sqlite {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name($crate::tests::House::sqlite().await).await;
                }
            )*
        }

        mod postgres {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name($crate::tests::House::postgres().await).await;
                }
            )*
        }
    };
}
pub(super) use on_both;

/// Where a test's store is.
enum Place {
    File(TempDir),
    Server(Database),
}

impl Place {
    fn sqlite() -> Self {
        Self::File(TempDir::new().unwrap())
    }

    fn postgres() -> Self {
        Self::Server(Postgres::shared().database())
    }

    /// Another new one of the same engine.
    fn another(&self) -> Self {
        match self {
            Self::File(_) => Self::sqlite(),
            Self::Server(_) => Self::postgres(),
        }
    }

    fn location(&self) -> Location<'_> {
        match self {
            Self::File(dir) => Location::File(dir.path()),
            Self::Server(database) => Location::Postgres(&database.url),
        }
    }
}

/// A new store of a test's own.
struct House {
    store: Store,
    place: Place,
}

impl House {
    async fn sqlite() -> Self {
        Self::at(Place::sqlite()).await
    }

    async fn postgres() -> Self {
        Self::at(Place::postgres()).await
    }

    async fn at(place: Place) -> Self {
        Self { store: Store::open_at(place.location()).await.unwrap(), place }
    }

    /// The same store as another program opens it.
    async fn again(&self) -> Store {
        Store::open_at(self.place.location()).await.unwrap()
    }

    /// Has a statement done that the store itself never does.
    async fn run(&self, sql: &'static str) {
        let mut change = self.store.change().await.unwrap();
        change.tx.run(sql, args![]).await.unwrap();
        change.commit().await.unwrap();
    }
}

fn event(action: Action) -> Event {
    Event::new(Wall(1000), action, Actor::SYSTEM)
}

fn user(name: &str) -> NewUser {
    NewUser {
        id: UserId::new(),
        name: name.to_owned(),
        role: Role::Member,
        password: Some("$argon2id$...".to_owned()),
        must_change: false,
        at: Wall(1000),
    }
}

fn alice() -> NewUser {
    user("alice")
}

async fn with_alice(house: &House) -> UserId {
    let new = alice();
    house.store.add_user(&new, &event(Action::UserAdded)).await.unwrap();
    new.id
}

/// What is on record so far.
async fn told(store: &Store) -> Vec<Action> {
    store.untold(1000).await.unwrap().iter().map(|event| event.action).collect()
}
