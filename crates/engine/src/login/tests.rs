//! Logins over time, with a clock that the test moves.

use std::net::IpAddr;
use std::sync::Arc;

use sojourn_core::audit::Actor;
use sojourn_core::audit::Entry;
use sojourn_core::authz::Role;
use sojourn_core::ids::UserId;
use sojourn_store::Store;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::audit;
use crate::clock::ManualClock;
use crate::identity::Accounts;

const PASSWORD: &str = "plum orbit cartwheel nine";

/// The gateway's part that looks after logins, with an account in it. Nothing happens by itself: a test
/// has it look.
#[expect(dead_code, reason = "more tests are to come")]
struct House {
    dir: TempDir,
    store: Store,
    clock: Arc<ManualClock>,
    identity: Identity,
    accounts: Accounts,
    audit: AuditHandle,
    logins: Logins,
    alice: UserId,
}

fn client() -> Client {
    let address: IpAddr = [192, 0, 2, 7].into();
    Client::new(address, "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0")
}

impl House {
    async fn new() -> Self {
        Self::with(Rules::default()).await
    }

    async fn with(rules: Rules) -> Self {
        let dir = TempDir::new().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let clock = Arc::new(ManualClock::new());
        let options = audit::AuditOptions {
            data_dir: dir.path().to_owned(),
            on_failure: audit::OnFailure::Refuse,
        };
        let (audit, writer) = audit::start(&options, store.clone(), clock.clone()).await.unwrap();
        tokio::spawn(writer.run(CancellationToken::new()));
        let identity = Identity::new(store.clone(), audit.clone(), clock.clone());
        let accounts = Accounts::new(store.clone(), clock.clone(), dir.path().to_owned());
        let member = Role::Member;
        let alice = accounts.add("alice", member, Some(PASSWORD), Actor::local(0)).await.unwrap();
        let logins = Logins::open(
            dir.path(),
            rules,
            store.clone(),
            identity.clone(),
            audit.clone(),
            clock.clone(),
        );
        let logins = logins.await.unwrap();
        Self { dir, store, clock, identity, accounts, audit, logins, alice }
    }

    /// What the identity part says of somebody who gave their password.
    async fn proof(&self) -> SignedIn {
        let user = self.store.user_by_id(self.alice).await.unwrap().unwrap();
        SignedIn::new(&user, Methods::default().with(Method::Password))
    }

    async fn begin(&self) -> (String, Arc<Login>) {
        let begun = self.logins.begin(&self.proof().await, &client(), None).await;
        let (secret, login) = begun.unwrap();
        (secret.expose().to_owned(), login)
    }

    async fn found(&self, token: &str) -> Result<(), Option<LoginEnd>> {
        match self.logins.resolve(token).await.unwrap() {
            Found::Login(_) => Ok(()),
            Found::Nobody => Err(None),
            Found::Ended(end) => Err(Some(end)),
        }
    }

    async fn entries(&self) -> Vec<Entry> {
        self.audit.settled().await.unwrap();
        let mut reader = audit::LogReader::open(&self.dir.path().join(audit::DIR)).unwrap();
        let lines = std::iter::from_fn(|| reader.next_line().unwrap());
        lines.map(|line| line.entry().unwrap()).collect()
    }

    /// What is on record of logins.
    async fn told(&self) -> Vec<String> {
        let actions = self.entries().await.into_iter().map(|entry| entry.action);
        actions.filter(|action| !action.starts_with("user_")).collect()
    }
}

#[tokio::test]
async fn a_login_is_good_until_it_is_ended() {
    let house = House::new().await;
    let (token, login) = house.begin().await;
    assert_eq!(house.found(&token).await, Ok(()));
    assert_eq!((login.name(), login.role(), login.user()), ("alice", Role::Member, house.alice));
    let by = login.actor(&client());
    assert_eq!(house.logins.end(login.id(), LoginEnd::Logout, &by).await, Ok(true));
    assert_eq!(house.found(&token).await, Err(Some(LoginEnd::Logout)));
    assert_eq!(login.ended().await, LoginEnd::Logout);
    assert_eq!(house.logins.end(login.id(), LoginEnd::Revoked, &by).await, Ok(false));
    let told = house.told().await;
    assert_eq!(told, ["login_succeeded", "login_ended", "login_used_after_end"]);
}
