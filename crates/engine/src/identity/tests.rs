//! Who gets in, who does not, and what goes on record.

mod canary;
mod doors;
mod factors;
mod links;
mod web;

use std::sync::Arc;
use std::time::Duration;

use sojourn_core::audit::Entry;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::audit;
use crate::clock::ManualClock;
use crate::secret::Secret;

const PASSWORD: &str = "plum orbit cartwheel nine";
const KEY: &str = include_str!("testdata/ed25519.pub");
const OTHER_KEY: &str = include_str!("testdata/ecdsa.pub");

/// A gateway's identity part, with an account in it.
struct House {
    dir: TempDir,
    store: Store,
    clock: Arc<ManualClock>,
    identity: Identity,
    accounts: Accounts,
    audit: AuditHandle,
    writer: JoinHandle<()>,
}

impl House {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let clock = Arc::new(ManualClock::new());
        let options = audit::AuditOptions {
            data_dir: dir.path().to_owned(),
            on_failure: audit::OnFailure::Refuse,
        };
        let (audit, writer) = audit::start(&options, store.clone(), clock.clone()).await.unwrap();
        let writer = tokio::spawn(writer.run(CancellationToken::new()));
        let identity = opened(&dir, &store, &audit, &clock, cheap());
        let accounts = identity.accounts();
        accounts.add("alice", Role::Member, Some(PASSWORD), Actor::local(0)).await.unwrap();
        Self { dir, store, clock, identity, accounts, audit, writer }
    }

    /// The same gateway after it was started anew.
    fn restarted(&self) -> Identity {
        self.with(cheap())
    }

    /// The same with other settings.
    fn with(&self, settings: Settings) -> Identity {
        opened(&self.dir, &self.store, &self.audit, &self.clock, settings)
    }

    /// Somebody signs in at the web door.
    async fn sign_in(&self, name: &str, password: &str, client: &Client) -> SignIn {
        self.identity.sign_in(name, password, client, None).await
    }

    async fn alice(&self) -> User {
        self.store.user_by_name("alice").await.unwrap().unwrap()
    }

    /// The actions of the log so far, those of one kind.
    async fn told(&self, prefix: &str) -> Vec<String> {
        let entries = self.entries().await.into_iter().map(|entry| entry.action);
        entries.filter(|action| action.starts_with(prefix)).collect()
    }

    async fn try_password(&self, name: &str, password: &str) -> Verdict {
        self.identity.password(name, password.as_bytes(), &peer()).await
    }

    async fn entries(&self) -> Vec<Entry> {
        self.audit.settled().await.unwrap();
        let mut reader = audit::LogReader::open(&self.dir.path().join(audit::DIR)).unwrap();
        let lines = std::iter::from_fn(|| reader.next_line().unwrap());
        lines.map(|line| line.entry().unwrap()).collect()
    }

    /// Method, user, outcome and reason of every attempt.
    async fn attempts(&self) -> Vec<String> {
        let attempts = self.entries().await.into_iter().filter(|e| e.action == "auth_attempt");
        let texts = attempts.map(|entry| {
            assert_eq!(entry.actor.ip_address, Some(peer().address));
            assert_eq!(entry.actor.user_agent, Some(peer().client));
            let text = |name: &str| entry.details.get(name).and_then(|v| v.as_str()).unwrap_or("-");
            let all = ["method", "user", "outcome", "reason"].map(text);
            all.join(" ")
        });
        texts.collect()
    }
}

fn opened(
    dir: &TempDir,
    store: &Store,
    audit: &AuditHandle,
    clock: &Arc<ManualClock>,
    settings: Settings,
) -> Identity {
    Identity::open(store.clone(), audit.clone(), clock.clone(), dir.path(), settings).unwrap()
}

fn cheap() -> Settings {
    Settings { cost: Cost::CHEAP, ..Settings::default() }
}

/// A browser at an address.
fn at(address: &str) -> Client {
    Client::new(address.parse().unwrap(), "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0")
}

fn done(came: SignIn) -> (SignedIn, Option<Secret>) {
    match came {
        SignIn::Done(signed_in, cookie) => (signed_in, cookie),
        other => panic!("{other:?}"),
    }
}

fn is_refused(came: &SignIn) -> bool {
    matches!(came, SignIn::Refused)
}

fn peer() -> Peer {
    Peer {
        address: "192.0.2.7".parse().unwrap(),
        client: "SSH-2.0-OpenSSH_9.2".to_owned(),
        hassh: Some("ec7378c1a92f5a8dde7e8b7a1ddf33d1".to_owned()),
    }
}

#[tokio::test]
async fn only_the_right_password_of_an_open_account_gets_in() {
    let house = House::new().await;
    let Verdict::Accepted(alice) = house.try_password("alice", PASSWORD).await else { panic!() };
    assert_eq!(
        (alice.name.as_str(), alice.role, alice.how),
        ("alice", Role::Member, How::Password)
    );
    assert_eq!(house.try_password("alice", "plum orbit cartwheel ten").await, Verdict::Refused);
    assert_eq!(house.try_password("bob", PASSWORD).await, Verdict::Refused);
    assert_eq!(house.try_password("Alice", PASSWORD).await, Verdict::Refused);
    assert_eq!(house.try_password("alice", "").await, Verdict::Refused);
    let long = "x".repeat(MAX_PASSWORD_BYTES + 1);
    assert_eq!(house.try_password("alice", &long).await, Verdict::Refused);
    house.accounts.disable("alice", Actor::local(0)).await.unwrap();
    assert_eq!(house.try_password("alice", PASSWORD).await, Verdict::Refused);
    assert_eq!(
        house.attempts().await,
        [
            "password alice accepted -",
            "password alice refused password",
            "password bob refused unknown user",
            "password Alice refused unknown user",
            "password alice refused length",
            "password alice refused length",
            "password alice refused disabled",
        ]
    );
    for file in walk(house.dir.path()) {
        let bytes = std::fs::read(&file).unwrap();
        let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        assert!(!has(PASSWORD.as_bytes()), "{} holds a password", file.display());
    }
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn guessing_is_slowed_down_and_keys_are_not() {
    let house = House::new().await;
    let key = house.accounts.add_key("alice", KEY, Actor::local(0)).await.unwrap();
    for name in ["alice", "nobody"] {
        for _ in 0..6 {
            assert_eq!(house.try_password(name, "wrong wrong wrong").await, Verdict::Refused);
        }
        let Verdict::Throttled { retry_after } = house.try_password(name, PASSWORD).await else {
            panic!("{name} is throttled, whether or not it exists")
        };
        assert_eq!(retry_after, Duration::from_secs(30));
    }
    let verdict = house.identity.public_key("alice", &key.fingerprint, &peer()).await;
    assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
    house.clock.advance(Duration::from_secs(30));
    let verdict = house.try_password("alice", PASSWORD).await;
    assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
    assert!(house.attempts().await.contains(&"password nobody throttled -".to_owned()));
}

#[tokio::test]
async fn many_tries_at_once_are_not_many_free_tries() {
    let house = House::new().await;
    let tries = (0..30).map(|_| {
        let identity = house.identity.clone();
        tokio::spawn(async move { identity.password("alice", b"wrong wrong wrong", &peer()).await })
    });
    let mut refused = 0;
    for verdict in tries.collect::<Vec<_>>() {
        refused += usize::from(verdict.await.unwrap() == Verdict::Refused);
    }
    assert!((6..=8).contains(&refused), "{refused} of 30 were tried");
}

#[tokio::test]
async fn a_key_gets_in_only_its_own_user() {
    let house = House::new().await;
    house.accounts.add("bob", Role::Admin, None, Actor::local(0)).await.unwrap();
    let key = house.accounts.add_key("alice", KEY, Actor::local(0)).await.unwrap();
    let fingerprint = key.fingerprint.as_str();
    assert_eq!(house.identity.knows_key("alice", fingerprint).await, Ok(()));
    assert!(house.identity.knows_key("bob", fingerprint).await.is_err());
    let verdict = house.identity.public_key("alice", fingerprint, &peer()).await;
    let Verdict::Accepted(alice) = verdict else { panic!("{verdict:?}") };
    assert_eq!((alice.how, alice.fingerprint.as_deref()), (How::Key, Some(fingerprint)));
    for (name, fingerprint) in [("bob", fingerprint), ("alice", "SHA256:x"), ("carol", fingerprint)]
    {
        let verdict = house.identity.public_key(name, fingerprint, &peer()).await;
        assert_eq!(verdict, Verdict::Refused, "{name} {fingerprint}");
    }
    house.accounts.disable("alice", Actor::local(0)).await.unwrap();
    assert!(house.identity.knows_key("alice", fingerprint).await.is_err());
    let verdict = house.identity.public_key("alice", fingerprint, &peer()).await;
    assert_eq!(verdict, Verdict::Refused);
    let entries = house.entries().await;
    let accepted = entries.iter().find(|e| e.details.get("outcome") == Some(&"accepted".into()));
    assert_eq!(accepted.unwrap().details["fingerprint"], fingerprint);
}

#[tokio::test]
async fn a_certificate_is_for_the_names_in_it() {
    let house = House::new().await;
    let (alice, nobody) = (["root".to_owned(), "alice".to_owned()], []);
    let check = async |name: &str, principals: &[String]| {
        let (key_id, fingerprint) = ("alice@ca", "SHA256:x");
        let certificate = Certificate { principals, key_id, serial: 7, fingerprint };
        house.identity.certificate(name, &certificate, &peer()).await
    };
    assert!(matches!(check("alice", &alice).await, Verdict::Accepted(_)));
    assert_eq!(check("alice", &nobody).await, Verdict::Refused);
    assert_eq!(check("root", &alice).await, Verdict::Refused, "no such account");
    house.accounts.add("bob", Role::Admin, None, Actor::local(0)).await.unwrap();
    assert_eq!(check("bob", &alice).await, Verdict::Refused);
    let entries = house.entries().await;
    let accepted = entries.iter().find(|e| e.details.get("outcome") == Some(&"accepted".into()));
    assert_eq!(accepted.unwrap().details["key_id"], "alice@ca");
}

#[tokio::test]
async fn nobody_gets_in_off_the_record_or_without_a_store() {
    let house = House::new().await;
    house.writer.abort();
    let verdict = house.try_password("alice", PASSWORD).await;
    assert_eq!(verdict, Verdict::Unavailable(Unavailable::Audit));

    let house = House::new().await;
    house.store.close().await;
    let verdict = house.try_password("alice", PASSWORD).await;
    assert_eq!(verdict, Verdict::Unavailable(Unavailable::Store));
    let verdict = house.identity.public_key("alice", "SHA256:x", &peer()).await;
    assert_eq!(verdict, Verdict::Unavailable(Unavailable::Store));
}

#[tokio::test]
async fn what_a_password_opened_ends_when_it_changes() {
    let house = House::new().await;
    let key = house.accounts.add_key("alice", KEY, Actor::local(0)).await.unwrap();
    let by_password = house.try_password("alice", PASSWORD).await;
    let by_key = house.identity.public_key("alice", &key.fingerprint, &peer()).await;
    let (Verdict::Accepted(by_password), Verdict::Accepted(by_key)) = (by_password, by_key) else {
        panic!()
    };
    assert!(house.identity.still_stands(&by_password).await.unwrap());
    let version = house.identity.accounts_version().await.unwrap();
    let new = Some("another four words here");
    house.accounts.set_password("alice", new, Actor::local(0)).await.unwrap();
    assert_ne!(house.identity.accounts_version().await.unwrap(), version);
    assert!(!house.identity.still_stands(&by_password).await.unwrap());
    assert!(house.identity.still_stands(&by_key).await.unwrap());
    assert_eq!(house.try_password("alice", PASSWORD).await, Verdict::Refused);
}

#[tokio::test]
async fn accounts_are_made_and_changed_on_the_record() {
    let house = House::new().await;
    let root = || Actor::local(0);
    let refusal = async |name, password| {
        house.accounts.add(name, Role::Member, password, root()).await.unwrap_err().to_string()
    };
    assert!(refusal("Bob", None).await.contains("cannot be a user's name"));
    assert!(refusal("bob", Some("short")).await.contains("too short"));
    assert!(refusal("bob", Some("passwordpassword")).await.contains("well known"));
    assert_eq!(refusal("alice", None).await, "there is already a user \"alice\"");
    let error = house.accounts.get("bob").await.unwrap_err();
    assert_eq!(error.to_string(), "there is no user \"bob\"");

    let first = house.accounts.add_key("alice", KEY, root()).await.unwrap();
    let second = house.accounts.add_key("alice", OTHER_KEY, root()).await.unwrap();
    assert!(house.accounts.add_key("alice", KEY, root()).await.is_err());
    let short = first.id.short();
    assert_eq!(house.accounts.remove_key("alice", &short, root()).await.unwrap(), first);
    assert!(house.accounts.remove_key("alice", &short, root()).await.is_err());
    let fingerprint = &second.fingerprint;
    assert_eq!(house.accounts.remove_key("alice", fingerprint, root()).await.unwrap(), second);
    house.accounts.set_role("alice", Role::Auditor, root()).await.unwrap();
    house.accounts.disable("alice", root()).await.unwrap();
    house.accounts.enable("alice", root()).await.unwrap();
    house.accounts.set_password("alice", None, root()).await.unwrap();
    assert_eq!(house.try_password("alice", PASSWORD).await, Verdict::Refused);

    let actions: Vec<_> = house.entries().await.into_iter().map(|entry| entry.action).collect();
    assert_eq!(
        actions,
        [
            "user_added",
            "key_added",
            "key_added",
            "key_removed",
            "key_removed",
            "user_role_changed",
            "user_disabled",
            "user_enabled",
            "user_password_changed",
            "auth_attempt",
        ]
    );
}

#[tokio::test]
async fn the_first_admin_is_made_once() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let clock = Arc::new(ManualClock::new());
    let now = clock.wall();
    let first = ensure_first_admin(&store, now).await.unwrap().unwrap();
    assert!(ensure_first_admin(&store, now).await.unwrap().is_none());
    first.write(dir.path()).unwrap();
    let user = store.user_by_name("admin").await.unwrap().unwrap();
    assert_eq!((user.role, user.must_change), (Role::Admin, true));
    let accounts = Accounts::new(store.clone(), clock, dir.path().to_owned());
    accounts.set_password("admin", Some(PASSWORD), Actor::local(0)).await.unwrap();
    assert!(!dir.path().join(FIRST_ADMIN_FILE).exists(), "gone with the first change");
    assert!(!store.user_by_name("admin").await.unwrap().unwrap().must_change);
}
