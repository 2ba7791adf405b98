//! Logins over time, with a clock that the test moves.

mod changes;
mod signing_in;
mod time;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

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

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const MILLISECOND: Duration = Duration::from_millis(1);

/// The gateway's part that looks after logins, with an account in it. Nothing happens by itself: a test
/// has it look.
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
        let logins = open(dir.path(), rules, &store, &identity, &audit, &clock).await;
        Self { dir, store, clock, identity, accounts, audit, logins, alice }
    }

    /// The logins as a gateway that starts now finds them: what was not written is lost.
    async fn after_a_crash(&self) -> Logins {
        open(
            self.dir.path(),
            self.logins.rules(),
            &self.store,
            &self.identity,
            &self.audit,
            &self.clock,
        )
        .await
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
        found(&self.logins, token).await
    }

    /// Moves the clock and has it looked what is due.
    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        self.logins.look().await;
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

async fn open(
    dir: &Path,
    rules: Rules,
    store: &Store,
    identity: &Identity,
    audit: &AuditHandle,
    clock: &Arc<ManualClock>,
) -> Logins {
    let (store, identity, audit) = (store.clone(), identity.clone(), audit.clone());
    Logins::open(dir, rules, store, identity, audit, clock.clone()).await.unwrap()
}

async fn found(logins: &Logins, token: &str) -> Result<(), Option<LoginEnd>> {
    match logins.resolve(token).await.unwrap() {
        Found::Login(_) => Ok(()),
        Found::Nobody => Err(None),
        Found::Ended(end) => Err(Some(end)),
    }
}

/// What is there already; a future that waits is wrong.
async fn now<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(5), future).await.unwrap()
}
